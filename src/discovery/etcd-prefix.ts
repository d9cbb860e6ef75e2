/**
 * What does etcd hold below a prefix, and how does that change?
 *
 * First all of it at one revision, then every change from the next one on, so that none falls between. When etcd has gone,
 * or has compacted what comes next, following it ends with an error, and the next time begins with all of it again.
 */

import {
  type EtcdAccess,
  EtcdError,
  type RangeAnswer,
  type RawPair,
  ask,
  base64,
  endOf,
  fromBase64,
  watch,
} from './etcd-client.js';
import { pause } from './etcd-access.js';

/** How many keys are asked for at a time: an answer of some hundred kilobytes. */
const PAGE = 1000;
/** How often it is looked whether a watch has told all there is: one may be silent because it is dead. */
const LOOK_MS = 10_000;
/** The most keys below one prefix. */
const MAX_KEYS = 10_000;

/** Makes something of a value, and of the revision that it is of; `before` is what was made of the last one of the same key. */
export type ReadValue<T> = (text: string, key: string, revision: bigint, before: T | undefined) => T;

/** What is known of a prefix. */
export class EtcdPrefix<T> {
  readonly #prefix: string;
  readonly #read: ReadValue<T>;
  readonly #range: { readonly key: string; readonly range_end: string };
  #values = new Map<string, T>();
  /** What etcd has told last. */
  #revision = 0n;

  constructor(prefix: string, read: ReadValue<T>) {
    this.#prefix = prefix;
    this.#read = read;
    this.#range = { key: base64(prefix), range_end: endOf(prefix) };
  }

  /** The revision of etcd that was told last. */
  get revision(): bigint {
    return this.#revision;
  }

  /** All there is, by what stands behind the prefix, and then again after each change. Never returns. */
  async *follow(access: EtcdAccess, signal: AbortSignal): AsyncGenerator<ReadonlyMap<string, T>> {
    yield await this.#all(access, signal);
    yield* this.#changes(access, signal);
  }

  async #all(access: EtcdAccess, signal: AbortSignal): Promise<ReadonlyMap<string, T>> {
    const values = new Map<string, T>();
    let revision: string | undefined;
    let { key } = this.#range;
    for (;;) {
      const page = { ...this.#range, key, limit: PAGE, ...(revision !== undefined && { revision }) };
      const { header, kvs = [], more } = await ask<RangeAnswer>(access, '/v3/kv/range', page, signal);
      // All pages are of the first one's moment.
      revision ??= header.revision;
      for (const pair of kvs) this.#put(values, pair);
      const last = kvs.at(-1);
      if (more !== true || last === undefined) break;
      // The key behind the last one.
      key = Buffer.concat([Buffer.from(last.key, 'base64'), Buffer.of(0)]).toString('base64');
    }
    this.#values = values;
    this.#revision = BigInt(revision);
    return values;
  }

  async *#changes(access: EtcdAccess, signal: AbortSignal): AsyncGenerator<ReadonlyMap<string, T>> {
    // Whoever was told all there is may have taken a while.
    signal.throwIfAborted();
    const stop = new AbortController();
    const end = (): void => stop.abort(signal.reason);
    signal.addEventListener('abort', end, { once: true });
    const looking = this.#look(access, stop).catch((error: unknown) => stop.abort(error));
    try {
      const request = { ...this.#range, start_revision: String(this.#revision + 1n) };
      for await (const message of watch(access, request, stop.signal)) {
        const { header, events = [], canceled, compact_revision, cancel_reason } = message;
        if (canceled === true) {
          const compacted =
            compact_revision !== undefined && `what comes next was compacted at ${compact_revision}`;
          throw new EtcdError(compacted || cancel_reason || 'etcd has ended the watch');
        }
        if (events.length === 0) continue;
        if (header?.revision !== undefined) this.#revision = BigInt(header.revision);
        for (const { type, kv } of events) {
          if (type === 'DELETE') this.#values.delete(this.#nameOf(kv));
          else this.#put(this.#values, kv);
        }
        yield this.#values;
      }
      throw new EtcdError('etcd has closed the connection');
    } catch (error) {
      // What made us stop says more than that we did.
      throw stop.signal.aborted ? stop.signal.reason : error;
    } finally {
      signal.removeEventListener('abort', end);
      stop.abort();
      await looking;
    }
  }

  /** Fails when etcd has something, twice in a row, that the watch should have told. */
  async #look(access: EtcdAccess, stop: AbortController): Promise<void> {
    const { signal } = stop;
    let isLate = false;
    while (!signal.aborted) {
      await pause(LOOK_MS, signal);
      if (signal.aborted) return;
      const body = { ...this.#range, limit: 1, keys_only: true, sort_order: 'DESCEND', sort_target: 'MOD' };
      const { kvs = [], count = '0' } = await ask<RangeAnswer>(access, '/v3/kv/range', body, signal);
      const isAhead = BigInt(kvs[0]?.mod_revision ?? '0') > this.#revision;
      const differs = isAhead || Number(count) !== this.#values.size;
      if (differs && isLate) throw new EtcdError('the watch does not tell what has changed');
      isLate = differs;
    }
  }

  #nameOf({ key }: RawPair): string {
    return fromBase64(key).slice(this.#prefix.length);
  }

  #put(values: Map<string, T>, pair: RawPair): void {
    const name = this.#nameOf(pair);
    const { value, mod_revision = '0' } = pair;
    const before = this.#values.get(name);
    values.set(name, this.#read(fromBase64(value), `${this.#prefix}${name}`, BigInt(mod_revision), before));
    if (values.size > MAX_KEYS) throw new EtcdError(`more than ${MAX_KEYS} keys`);
  }
}
