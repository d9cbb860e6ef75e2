// How does a test get a running `mesh-sidecar`? From a configuration as people write it, or from resources.
//
//     const proxy = await startSidecar(t, { listeners: [{ name: 'web', address: '127.0.0.1:0', to: '127.0.0.1:3000' }] });
//     await fetch(proxy.url('web'));

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { Config, ListenerConfig } from '../../src/config/index.js';
import { checkShape } from '../../src/config/load.js';
import type { Resources } from '../../src/config/resources.js';
import { temporaryFolder } from './files.js';
import { type Exit, type Running, start } from './processes.js';
import { within } from './wait.js';

/** What the proxy does: as people write it, or as the core reads it. */
export type Work = Config | { resources: Resources };

/** How it is run. */
export interface SidecarOptions {
  /** Data threads. Default: 1. */
  threads?: number;
  /** How long it still accepts once a drain begins. Default: `0s`. */
  lameDuck?: string;
  /** Where the admin server listens. Default: nowhere. */
  admin?: string;
  /** File descriptors that it may have. Default: as many as this process. */
  descriptors?: number;
  /** More of the environment. */
  env?: Record<string, string>;
}

const LISTENS = /^mesh-sidecar: (.+) listens on (\S+)$/gm;

/** A running sidecar. It is ended with the test, and must not have panicked by then. */
export class Sidecar {
  constructor(
    readonly process: Running,
    readonly file: string,
  ) {}

  get pid(): number {
    return this.process.pid;
  }

  /** Addresses by listener, as it said last. */
  get addresses(): Map<string, string> {
    return new Map([...this.stderr().matchAll(LISTENS)].map(([, name = '', at = '']) => [name, at]));
  }

  /** A listener's address: `127.0.0.1:43210`. Without a name: of the only one. */
  address(name?: string): string {
    const { addresses } = this;
    const address = name === undefined ? [...addresses.values()][0] : addresses.get(name);
    if (address === undefined)
      throw new Error(`no listener is called ${name ?? 'anything'}: ${this.stderr()}`);
    return address;
  }

  /** A listener's port. */
  port(name?: string): number {
    return Number(/:(\d+)$/.exec(this.address(name))?.[1]);
  }

  /** A listener's address as the start of URLs. */
  url(name?: string, scheme = 'http'): string {
    return `${scheme}://${this.address(name)}`;
  }

  stderr(): string {
    return this.process.stderr();
  }

  /** Resolves with the match once it says something. */
  said(pattern: RegExp, from = 0): Promise<RegExpExecArray> {
    return this.process.said(pattern, from);
  }

  /** Gives it other work: the file is written and it is told to read it. Resolves once that is live; throws when refused. */
  async reload(work: Work): Promise<void> {
    const before = this.stderr().length;
    writeFileSync(this.file, resourcesOf(work));
    this.process.signal('SIGHUP');
    const [said] = await this.said(/version \d+ is live|not applied/, before);
    if (said === 'not applied') throw new Error(this.stderr().slice(before));
  }

  /** Begins the way out; resolves when it has gone. */
  async drain(patienceMs?: number): Promise<Exit> {
    this.process.signal('SIGTERM');
    return within('the end of the drain', this.process.exit, patienceMs);
  }

  /** Ends it at once. */
  async kill(): Promise<void> {
    await this.process.kill();
  }

  /** Memory in use, in bytes. */
  residentBytes(): number {
    return this.process.residentBytes();
  }
}

/** Starts a sidecar; resolves once every listener is bound. */
export async function startSidecar(
  t: Pick<ExecutionContext, 'teardown'>,
  work: Work,
  { threads = 1, lameDuck = '0s', admin = 'off', descriptors, env = {} }: SidecarOptions = {},
): Promise<Sidecar> {
  const file = join(temporaryFolder(t), 'resources.json');
  writeFileSync(file, resourcesOf(work));
  const command = [sidecarFile(), '--config', file];
  if (descriptors !== undefined) command.unshift('/bin/sh', '-c', `ulimit -n ${descriptors}; exec "$0" "$@"`);
  const [program = '', ...args] = command;
  const process = start(t, program, args, {
    env: {
      ...cleanEnvironment(),
      MESH_THREADS: String(threads),
      MESH_LAME_DUCK: lameDuck,
      MESH_ADMIN: admin,
      RUST_BACKTRACE: '1',
      ...env,
    },
  });
  const sidecar = new Sidecar(process, file);
  t.teardown(async () => {
    await sidecar.kill();
    if (/panicked at/.test(sidecar.stderr())) throw new Error(`the sidecar panicked: ${sidecar.stderr()}`);
  });
  for (const name of listenerNames(work)) {
    await sidecar.said(new RegExp(`^mesh-sidecar: ${escape(name)} listens on `, 'm'));
  }
  return sidecar;
}

/** The binary that `npm test` built. */
export function sidecarFile(): string {
  const file = process.env['TEST_SIDECAR'];
  if (!file) throw new Error('TEST_SIDECAR is not set: run this through `npm test`');
  return file;
}

/** The environment without the settings of a proxy that runs around the tests. */
export function cleanEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('MESH_')));
}

function resourcesOf(work: Work): string {
  return 'resources' in work ? JSON.stringify(work.resources) : checkShape(work).toJson();
}

function listenerNames(work: Work): string[] {
  if ('resources' in work) return work.resources.listeners.map(({ name }) => name);
  return (work.listeners ?? []).map(({ name, address }) => name ?? address);
}

function escape(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
}

/** A configuration of one listener on a free port, called `web`. */
export function web(
  listener: Omit<ListenerConfig, 'name' | 'address'>,
  rest: Omit<Config, 'listeners'> = {},
): Config {
  return { ...rest, listeners: [{ name: 'web', address: '127.0.0.1:0', ...listener }] };
}
