/**
 * How does a process say in etcd what it knows, so that it is gone when the process is?
 *
 * All keys hang on one lease. Whoever dies is forgotten when it ends; whoever closes is, too, so that those whom it
 * announced have that long to say the same elsewhere.
 */

import { type EtcdOptions, pause, withMembers } from './etcd-access.js';
import { type EtcdAccess, EtcdError, ask, base64 } from './etcd-client.js';

/** How long a lease lives without its process: longer than a sidecar takes to find another control plane. */
const LEASE_S = 30;
/** How often it is kept alive: two may fail. */
const KEEP_MS = (LEASE_S * 1000) / 3;

/** Keys below a prefix, with values, that are kept as they are to be. */
export class Announcer {
  readonly #options: EtcdOptions;
  readonly #end = new AbortController();
  #wanted: ReadonlyMap<string, string> = new Map();
  /** What may be there, by this lease or by one before. */
  readonly #put = new Set<string>();
  #wake: () => void = () => {};
  readonly #running: Promise<void>;

  constructor(options: EtcdOptions, failed: (error: unknown) => void) {
    this.#options = options;
    const { signal } = this.#end;
    this.#running = withMembers(options, signal, failed, (access, well) => this.#live(access, well, signal));
  }

  /** From now on these are to be there, and no others of ours. */
  set(wanted: ReadonlyMap<string, string>): void {
    this.#wanted = wanted;
    this.#wake();
  }

  close(): Promise<void> {
    this.#end.abort();
    this.#wake();
    return this.#running;
  }

  async #live(access: EtcdAccess, well: () => void, signal: AbortSignal): Promise<void> {
    const granted = await ask<{ ID: string }>(access, '/v3/lease/grant', { TTL: String(LEASE_S) }, signal);
    const there = new Map<string, string>();
    while (!signal.aborted) {
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      await this.#bring(access, granted.ID, there, signal);
      well();
      await Promise.race([woken, pause(KEEP_MS, signal)]);
      const kept = await ask<{ result?: { TTL?: string } }>(
        access,
        '/v3/lease/keepalive',
        { ID: granted.ID },
        signal,
      );
      if (Number(kept.result?.TTL ?? 0) <= 0) throw new EtcdError('the lease has ended');
    }
  }

  /** Makes what is there what is wanted. */
  async #bring(
    access: EtcdAccess,
    lease: string,
    there: Map<string, string>,
    signal: AbortSignal,
  ): Promise<void> {
    const wanted = this.#wanted;
    const keyOf = (name: string): string => base64(`${this.#options.prefix}${name}`);
    for (const [name, value] of wanted) {
      if (there.get(name) === value) continue;
      this.#put.add(name);
      await ask(access, '/v3/kv/put', { key: keyOf(name), value: base64(value), lease }, signal);
      there.set(name, value);
    }
    for (const name of this.#put) {
      if (wanted.has(name)) continue;
      await ask(access, '/v3/kv/deleterange', { key: keyOf(name) }, signal);
      there.delete(name);
      this.#put.delete(name);
    }
  }
}
