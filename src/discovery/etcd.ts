/**
 * Endpoints in etcd: the values of all keys with a prefix.
 *
 *     /mesh/basket/1  10.0.0.7:4143
 *     /mesh/basket/2  { "address": "10.0.0.8:4143", "weight": 2 }
 *
 * First all of them at one revision, then every change from the next one on, so that none falls between. A key with a
 * lease goes with whoever kept it alive. When etcd is gone, or has compacted what comes next, all of them are read again.
 *
 * A value that can't be an endpoint is told; the last good one of its key serves.
 */

import { readFile } from 'node:fs/promises';
import { EndpointError, MAX_ENDPOINTS, endpointOf } from './endpoints.js';
import {
  type EtcdAccess,
  EtcdError,
  type RangeAnswer,
  type RawPair,
  ask,
  authenticate,
  base64,
  endOf,
  fromBase64,
  watch,
} from './etcd-client.js';
import type { DiscoveredEndpoint, EndpointChange, EndpointLike, Source } from './types.js';

/** How many keys are asked for at a time: an answer of some hundred kilobytes. */
const PAGE = 1000;
/** How often it is looked whether a watch has told all there is: one may be silent because it is dead. */
const LOOK_MS = 10_000;

/** Where in etcd, and as whom. */
export interface EtcdOptions {
  /** `http://10.0.0.1:2379`, one for each member or for some: whoever answers. */
  readonly endpoints: readonly string[];
  /** `/mesh/basket/`. */
  readonly prefix: string;
  /** A user of etcd, with the file that holds its password. */
  readonly user?: string;
  readonly passwordFile?: string;
  /** PEM files: whom to believe instead of the system's roots, and a client certificate. */
  readonly roots?: string;
  readonly certificate?: string;
  readonly key?: string;
}

/** Follows a prefix; `skip` passes over keys, by what stands behind the prefix. */
export function etcdSource(options: EtcdOptions, skip?: (name: string) => boolean): Source {
  const prefix = new Prefix(options.prefix, skip);
  let turn = 0;
  return async function* (signal) {
    // The next one each time: this one may be why it is begun anew.
    const url = options.endpoints[turn % options.endpoints.length] ?? '';
    turn += 1;
    const access = await accessTo(url, options, signal);
    yield* prefix.all(access, signal);
    yield* prefix.changes(access, signal);
  };
}

/** A way to one member of etcd. */
export async function accessTo(url: string, options: EtcdOptions, signal: AbortSignal): Promise<EtcdAccess> {
  const { roots, certificate, key, user, passwordFile } = options;
  const read = async (file: string | undefined) =>
    file && (await readFile(file, { encoding: 'utf8', signal }));
  // Each time anew: files are replaced.
  const tls = { roots: await read(roots), certificate: await read(certificate), key: await read(key) };
  const access: EtcdAccess = { url, tls };
  if (user === undefined) return access;
  const password = (await read(passwordFile)) ?? '';
  return { ...access, token: await authenticate(access, user, password.trimEnd(), signal) };
}

/** What is known of a prefix. */
class Prefix {
  readonly #range: { readonly key: string; readonly range_end: string };
  readonly #skip: (key: string) => boolean;
  /** By key, also those without a good value. */
  #keys = new Map<string, Known>();
  /** What etcd has told last. */
  #revision = 0n;

  constructor(prefix: string, skip: (name: string) => boolean = () => false) {
    this.#skip = (key) => skip(fromBase64(key).slice(prefix.length));
    this.#range = { key: base64(prefix), range_end: endOf(prefix) };
  }

  async *all(access: EtcdAccess, signal: AbortSignal): AsyncGenerator<EndpointChange> {
    const keys = new Map<string, Known>();
    let revision: string | undefined;
    let { key } = this.#range;
    for (;;) {
      const page = { ...this.#range, key, limit: PAGE, ...(revision !== undefined && { revision }) };
      const { header, kvs = [], more } = await ask<RangeAnswer>(access, '/v3/kv/range', page, signal);
      // All pages are of the first one's moment.
      revision ??= header.revision;
      for (const pair of kvs) put(keys, pair, this.#keys.get(pair.key));
      const last = kvs.at(-1);
      if (more !== true || last === undefined) break;
      // The key behind the last one.
      key = Buffer.concat([Buffer.from(last.key, 'base64'), Buffer.of(0)]).toString('base64');
    }
    this.#keys = keys;
    this.#revision = BigInt(revision);
    yield this.#change();
  }

  async *changes(access: EtcdAccess, signal: AbortSignal): AsyncGenerator<EndpointChange> {
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
        if (header?.revision !== undefined && events.length > 0) this.#revision = BigInt(header.revision);
        if (events.length === 0) continue;
        for (const { type, kv } of events) {
          if (type === 'DELETE') this.#keys.delete(kv.key);
          else put(this.#keys, kv, this.#keys.get(kv.key));
        }
        yield this.#change();
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
      const differs = isAhead || Number(count) !== this.#keys.size;
      if (differs && isLate) throw new EtcdError('the watch does not tell what has changed');
      isLate = differs;
    }
  }

  #change(): EndpointChange {
    const all = [...this.#keys.values()];
    const problem = all.find((known) => known.problem !== undefined)?.problem;
    const set = [...this.#keys].flatMap(([key, { endpoint }]) => (this.#skip(key) ? [] : (endpoint ?? [])));
    return { set, ...(problem !== undefined && { problem }) };
  }
}

/** A key: its last good value, and what is wrong with the one that it has. */
interface Known {
  readonly endpoint?: DiscoveredEndpoint | undefined;
  readonly problem?: EndpointError;
}

function put(keys: Map<string, Known>, { key, value }: RawPair, before: Known | undefined): void {
  try {
    keys.set(key, { endpoint: endpointOf(readValue(fromBase64(value))) });
  } catch (error) {
    if (!(error instanceof EndpointError)) throw error;
    keys.set(key, {
      endpoint: before?.endpoint,
      problem: new EndpointError(`${fromBase64(key)}: ${error.message}`),
    });
  }
  if (keys.size > MAX_ENDPOINTS) throw new EtcdError(`more than ${MAX_ENDPOINTS} keys`);
}

/** A value is an address, or an endpoint in JSON. */
function readValue(text: string): EndpointLike {
  const trimmed = text.trim();
  if (!trimmed.startsWith('{')) return trimmed;
  try {
    return JSON.parse(trimmed) as EndpointLike;
  } catch {
    throw new EndpointError('expected an address, or an endpoint in JSON');
  }
}

/** Waits, and ends early without an error when the signal says so. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms).unref();
    signal.addEventListener('abort', done, { once: true });
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    }
  });
}
