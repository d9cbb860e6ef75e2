// What the tests of the manual share: its pages, their examples, a shell to type them in, and ports that are free instead
// of those it names.

import { chmodSync, copyFileSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { temporaryFolder } from '../support/files.js';
import { type Running, must, start } from '../support/processes.js';
import { cleanEnvironment, sidecarFile } from '../support/sidecar.js';
import { closedPort } from '../support/tcp.js';
import { until } from '../support/wait.js';

/** The pages of the manual. */
export const pages = readdirSync('docs')
  .filter((name) => name.endsWith('.md'))
  .map((name) => join('docs', name));

export function page(path: string): string {
  return readFileSync(path, 'utf8');
}

/** A fenced block of a page. Behind its language stands its name: the file that it is, or what it is about. */
export interface Example {
  readonly language: string;
  readonly name: string;
  readonly text: string;
}

/** All examples of a page, in their order. */
export function examples(path: string): Example[] {
  return Array.from(
    page(path).matchAll(/^```(\S*) ?(.*)\n([^]*?)^```$/gm),
    ([, language = '', name = '', text = '']) => ({ language, name, text }),
  );
}

/**
 * The text of one example. Both arguments are written as they are: by that `test/docs/examples.test.ts` knows which test
 * runs which example.
 */
export function example(path: string, name: string): string {
  const found = examples(path).find((each) => each.name === name);
  if (!found) throw new Error(`${path} has no example ${name}`);
  return found.text;
}

/** A page with the table below its mark, which is made and not written. With UPDATE_DOCS=1 it is written. */
export function generated(path: string, table: string): { is: string; shouldBe: string } {
  const is = page(path);
  const mark = /<!-- generated: .* -->\n/.exec(is);
  if (!mark) throw new Error(`${path} has no mark for its table`);
  const shouldBe = `${is.slice(0, mark.index)}${mark[0]}\n${table}`;
  if (process.env['UPDATE_DOCS']) writeFileSync(path, shouldBe);
  return { is: page(path), shouldBe };
}

const ADDRESS = /\b(127\.0\.0\.1|10\.0\.0\.\d+):(\d+)/g;

/** Free ports of this machine in place of the fixed ones that the manual names, here and on machines elsewhere. */
export class Ports {
  readonly #ports: Map<string, number>;

  /** `known` are those that the test serves itself. */
  constructor(known: Record<string, number> = {}) {
    this.#ports = new Map(Object.entries(known));
  }

  /** Instead of a port of this machine, `8080`, or one elsewhere, `10.0.0.5:4144`: the same one each time. */
  async of(where: string): Promise<number> {
    const known = this.#ports.get(where);
    if (known !== undefined) return known;
    const free = await closedPort();
    this.#ports.set(where, free);
    return free;
  }

  async in(text: string): Promise<string> {
    for (const [, address, port] of text.matchAll(ADDRESS)) await this.of(key(address, port));
    return text.replaceAll(
      ADDRESS,
      (_, address: string, port: string) => `127.0.0.1:${this.#ports.get(key(address, port))}`,
    );
  }

  /** The text with the manual's ports again. */
  back(text: string): string {
    let result = text;
    for (const [where, free] of this.#ports) result = result.replaceAll(String(free), where);
    return result;
  }
}

const key = (address = '', port = ''): string => (address === '127.0.0.1' ? port : `${address}:${port}`);

/** The folder `bin` in which `mesh` and `mesh-sidecar` are those of this tree. */
export function programs(folder: string): string {
  const bin = join(folder, 'bin');
  mkdirSync(bin);
  const main = join(process.cwd(), 'dist', 'cli', 'main.js');
  writeFileSync(join(bin, 'mesh'), `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`);
  chmodSync(join(bin, 'mesh'), 0o755);
  // A copy: who runs it may have no right to look into the folder of the build.
  copyFileSync(sidecarFile(), join(bin, 'mesh-sidecar'));
  return bin;
}

/** Where a reader sits: a folder, and a shell in which the manual's commands are typed as they stand there. */
export class Shell {
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;

  private constructor(
    readonly t: ExecutionContext,
    readonly ports: Ports,
    env: NodeJS.ProcessEnv,
  ) {
    this.folder = temporaryFolder(t);
    const PATH = [programs(this.folder), process.env['PATH']].join(delimiter);
    this.env = { ...cleanEnvironment(), PATH, ...env };
  }

  /** Opens one. Settings that no command names come from `env`; those that tests could quarrel about are set. */
  static async open(t: ExecutionContext, ports = new Ports(), env: NodeJS.ProcessEnv = {}): Promise<Shell> {
    const [admin, outbound] = [await closedPort(), await closedPort()];
    return new Shell(t, ports, {
      MESH_ADMIN: `127.0.0.1:${admin}`,
      MESH_OUTBOUND: `127.0.0.1:${outbound}`,
      MESH_LAME_DUCK: '0s',
      ...env,
    });
  }

  async write(name: string, text: string): Promise<void> {
    writeFileSync(join(this.folder, name), await this.ports.in(text));
  }

  /** Types commands that end, and must succeed; gives what they print. */
  async type(commands: string): Promise<string> {
    return must('sh', ['-ec', await this.ports.in(commands)], { cwd: this.folder, env: this.env });
  }

  /** Types the command of a sidecar that listens at 8080. */
  async serve(command: string): Promise<Running> {
    const running = await this.stay(command);
    // Its admin server listens, too.
    await running.said(new RegExp(`listens on 127\\.0\\.0\\.1:${await this.ports.of('8080')}$`, 'm'));
    return running;
  }

  /** Types one command that stays, until the test ends. */
  async stay(command: string): Promise<Running> {
    const line = `exec ${await this.ports.in(command)}`;
    // A test that is killed ends nothing; a sidecar sees it.
    const env = { ...this.env, MESH_WITH_PARENT: String(process.pid) };
    return start(this.t, 'sh', ['-c', line], { cwd: this.folder, env });
  }
}

/** Waits until a program has printed something. */
export function printed(running: Running, pattern: RegExp): Promise<RegExpExecArray> {
  return until(`it prints ${pattern}`, () => {
    const match = pattern.exec(running.stdout().toString());
    if (!match && running.ended) throw new Error(`it ended: ${running.stderr()}`);
    return match ?? undefined;
  });
}
