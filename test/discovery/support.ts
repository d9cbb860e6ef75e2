// What the tests of discovery share: a real etcd, and a way to follow sources.

import { cpSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { Shared, type SharedEvents } from '../../src/controller/shared.js';
import type { StateFolder } from '../../src/controller/state.js';
import { Directory, type Snapshot } from '../../src/discovery/directory.js';
import { type RangeAnswer, ask, base64, endOf, fromBase64 } from '../../src/discovery/etcd-client.js';
import type { NamedSource, Source, SourceEvent } from '../../src/discovery/types.js';
import { startControlPlane } from '../../src/mesh/native-control-plane.js';
import type { SharedPlan } from '../../src/mesh/services.js';
import { temporaryFolder } from '../support/files.js';
import { type Running, start } from '../support/processes.js';
import { PATIENCE_MS, until } from '../support/wait.js';
import { freePort } from '../mesh/support.js';

type Test = Pick<ExecutionContext, 'teardown'>;

/** An etcd of one member, that can be killed and started again with what it had. */
export class Etcd {
  readonly #folder: string;
  #process: Running | undefined;
  #tls: { roots?: string } = {};

  private constructor(
    readonly url: string,
    readonly peer: string,
    readonly flags: readonly string[],
    folder: string,
  ) {
    this.#folder = folder;
  }

  static async start(t: Test, { scheme = 'http', flags = [] as readonly string[] } = {}): Promise<Etcd> {
    const url = `${scheme}://127.0.0.1:${await freePort()}`;
    const etcd = new Etcd(url, `http://127.0.0.1:${await freePort()}`, flags, temporaryFolder(t));
    await etcd.begin(t);
    return etcd;
  }

  /** Starts it, or starts it again. `answers` says how to see that it is up. */
  async begin(t: Test): Promise<void> {
    const { url, peer } = this;
    const folder = join(this.#folder, 'data');
    const flags = ['--data-dir', folder, '--listen-client-urls', url, '--advertise-client-urls', url];
    const member = ['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer];
    const cluster = ['--initial-cluster', `default=${peer}`, '--unsafe-no-fsync', ...this.flags];
    this.#process = start(t, 'etcd', [...flags, ...member, ...cluster]);
    await this.#process.said(/ready to serve client requests|serving (insecure )?client requests/);
  }

  kill(): Promise<void> {
    return this.#process?.kill() ?? Promise.resolve();
  }

  /** Keeps a copy of what it has. */
  async copy(t: Test): Promise<void> {
    await this.kill();
    cpSync(join(this.#folder, 'data'), join(this.#folder, 'copy'), { recursive: true });
    await this.begin(t);
  }

  /** Starts it with what it had when it was copied. */
  async restore(t: Test): Promise<void> {
    await this.lose();
    cpSync(join(this.#folder, 'copy'), join(this.#folder, 'data'), { recursive: true });
    await this.begin(t);
  }

  /** Kills it, and takes all that it had. */
  async lose(): Promise<void> {
    await this.kill();
    rmSync(join(this.#folder, 'data'), { recursive: true });
  }

  put(key: string, value: string | object): Promise<unknown> {
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    return this.ask('/v3/kv/put', { key: base64(key), value: base64(text) });
  }

  remove(key: string): Promise<unknown> {
    return this.ask('/v3/kv/deleterange', { key: base64(key) });
  }

  /** Everything below a prefix, as if its data had been lost. */
  empty(prefix: string): Promise<unknown> {
    return this.ask('/v3/kv/deleterange', { key: base64(prefix), range_end: endOf(prefix) });
  }

  /** What it has below a prefix. */
  async texts(prefix: string): Promise<string[]> {
    const asked = { key: base64(prefix), range_end: endOf(prefix) };
    const { kvs = [] } = await this.ask<RangeAnswer>('/v3/kv/range', asked);
    return kvs.map(({ value }) => fromBase64(value));
  }

  /** Answers from now on only who is `root`, with this password: no helper of these any more. */
  async protect(password: string): Promise<void> {
    const name = 'root';
    await this.ask('/v3/auth/user/add', { name, password });
    await this.ask('/v3/auth/role/add', { name });
    await this.ask('/v3/auth/user/grant', { user: name, role: name });
    await this.ask('/v3/auth/enable', {});
  }

  /** Believes a certificate of its own. */
  trust(certificate: string): void {
    this.#tls = { roots: readFileSync(certificate, 'utf8') };
  }

  ask<T>(path: string, body: object): Promise<T> {
    return ask<T>({ url: this.url, tls: this.#tls }, path, body, new AbortController().signal);
  }
}

/** The sources of one service, followed. */
export class Followed {
  readonly events: SourceEvent[] = [];
  /** Every list that was told. */
  readonly told: string[][] = [];
  readonly directory: Directory;

  readonly #t: Pick<ExecutionContext, 'teardown' | 'deepEqual'>;

  constructor(
    t: Pick<ExecutionContext, 'teardown' | 'deepEqual'>,
    sources: readonly (Source | NamedSource)[],
    known?: Snapshot,
    togetherMs?: number,
  ) {
    this.#t = t;
    this.directory = new Directory({
      ...(known && { known }),
      ...(togetherMs !== undefined && { togetherMs }),
      changed: () => this.told.push(this.addresses()),
      tell: (event) => this.events.push(event),
    });
    this.apply(sources);
    t.teardown(() => this.directory.close());
  }

  apply(sources: readonly (Source | NamedSource)[]): void {
    const named = sources.map((source, index) =>
      typeof source === 'function' ? { name: `source ${index}`, key: source, source } : source,
    );
    this.directory.apply(new Map([['basket', named]]));
  }

  addresses(): string[] {
    return this.directory.endpoints('basket').map(({ address }) => address);
  }

  /** Waits until these addresses answer. */
  async has(...addresses: string[]): Promise<void> {
    const wanted = addresses.join(' ');
    // A source that failed a few times pauses for up to half a minute.
    await until(wanted, () => this.addresses().join(' ') === wanted, 3 * PATIENCE_MS).catch(() => {});
    this.#t.deepEqual(this.addresses(), addresses, JSON.stringify(this.events));
  }

  /** Waits for an event. */
  happened(kind: SourceEvent['kind'], reason = /.?/): Promise<SourceEvent> {
    return until(`${kind} ${reason}`, () =>
      this.events.find((event) => event.kind === kind && reason.test(event.reason ?? '')),
    );
  }
}

/** What a control plane shares, without the control plane, and what failed of it. */
export function sharedPart(
  t: Test,
  plan: SharedPlan,
  folder?: Pick<StateFolder, 'shared' | 'unsaid'>,
  renewed: SharedEvents['renewed'] = () => Promise.resolve(),
): { part: Shared; failures: string[] } {
  const failures: string[] = [];
  const part = new Shared(
    plan,
    startControlPlane,
    { trustDomain: 'mesh.local', certificateTtlMs: 60_000 },
    {
      tell: () => {},
      renewed,
      revoked: () => {},
      allowed: () => {},
      knows: () => {},
      elsewhere: () => {},
      failed: (error) => failures.push(String(error)),
    },
    folder,
  );
  t.teardown(() => part.close());
  return { part, failures };
}
