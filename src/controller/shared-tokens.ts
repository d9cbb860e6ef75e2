/**
 * How does a token open once, whichever control plane is shown it?
 *
 *     PREFIX tokens/SHA-256   for whom, and how often yet; gone with its lease when its time is over
 *     PREFIX spent/USE        a use was taken; gone with its lease when nobody can ask any more
 *
 * Only hashes are there, so that a copy of etcd is no key. A use is taken in a transaction that only one can win, and which
 * leaves a word of that: who heard no answer and asks again, the same member or another, finds it, and takes no second one.
 */

import { createHash, randomBytes } from 'node:crypto';
import {
  type EtcdAccess,
  type RangeAnswer,
  type RawPair,
  type TxnAnswer,
  ask,
  base64,
  endOf,
  fromBase64,
} from '../discovery/etcd-client.js';
import { OptionError } from '../errors.js';
import type { Decision, TokenOptions } from '../mesh/control-plane.js';

/** How every token begins: the core's own begin so. */
const PREFIX = 'mesh-token-';
/** The limits of the core's own tokens. */
export const MAX_USES = 10_000;
export const MAX_TTL_MS = 30 * 86_400_000;
const MAX_TOKENS = 10_000;
/** How often a use is tried to be taken that others take, too. */
const MAX_TRIES = 8;
/** How long it is known that a use was taken: longer than anybody asks for it. */
const SPENT_S = 60;

/** One use of a token, however often it is asked for. */
export interface Use {
  /** The token's SHA-256. */
  readonly hash: string;
  /** Who wants to be admitted. */
  readonly identity: string;
  /** No use is taken after it, by the monotonic clock: nobody waits for the answer any more. */
  readonly end: number;
  /** No other use has it. */
  readonly id: string;
  /** Whether etcd may have taken it, though nobody has heard so. */
  isSent: boolean;
}

interface Grant {
  readonly identity: string;
  readonly uses: number;
  readonly expiresMs: number;
}

const REFUSED = (reason: string): Decision => ({ allow: false, reason });

/** Tokens in etcd. */
export class SharedTokens {
  readonly #prefix: string;
  readonly #spent: string;
  readonly #signal: AbortSignal;

  /** Below a prefix that control planes share. */
  constructor(prefix: string, signal: AbortSignal) {
    this.#prefix = `${prefix}tokens/`;
    this.#spent = `${prefix}spent/`;
    this.#signal = signal;
  }

  /**
   * Makes one.
   *
   * @throws {OptionError} it would be good for too much, or there are too many
   */
  async issue(access: EtcdAccess, identity: string, { uses, ttlMs }: TokenOptions): Promise<string> {
    if (!Number.isInteger(uses) || uses < 1 || uses > MAX_USES)
      throw new OptionError('uses', `1 to ${MAX_USES}`, uses);
    if (!(ttlMs > 0 && ttlMs <= MAX_TTL_MS)) throw new OptionError('ttlMs', '30 days at most', ttlMs);
    const { count = '0' } = await this.#ask<RangeAnswer>(access, '/v3/kv/range', {
      ...this.#range(),
      count_only: true,
    });
    if (Number(count) >= MAX_TOKENS)
      throw new OptionError('token', `at most ${MAX_TOKENS} tokens that wait to be spent`, count);
    const token = `${PREFIX}${randomBytes(32).toString('hex')}`;
    const lease = await this.#lease(access, Math.ceil(ttlMs / 1000));
    const grant: Grant = { identity, uses, expiresMs: Date.now() + ttlMs };
    const key = this.#keyOf(createHash('sha256').update(token).digest('hex'));
    await this.#ask(access, '/v3/kv/put', { key, value: base64(JSON.stringify(grant)), lease });
    return token;
  }

  /** Uses one once, also when it was asked for before and nobody heard what came of it. */
  async spend(access: EtcdAccess, use: Use): Promise<Decision> {
    const { hash, identity, end, id } = use;
    const key = this.#keyOf(hash);
    const spent = base64(`${this.#spent}${id}`);
    let lease: string | undefined;
    for (let tries = 0; tries < MAX_TRIES; tries += 1) {
      const [pair] = await this.#pairs(access, key);
      // After the token: what was taken before that is in both.
      if (use.isSent && (await this.#pairs(access, spent)).length > 0) return { allow: true };
      if (!pair) return REFUSED('the token is not known');
      const grant = JSON.parse(fromBase64(pair.value)) as Grant;
      if (Date.now() >= grant.expiresMs) return REFUSED('the token has expired');
      if (grant.identity !== identity) return REFUSED('the token is for another identity');
      lease ??= await this.#lease(access, SPENT_S);
      if (performance.now() >= end) return REFUSED('it is too late to use the token');
      const value = base64(JSON.stringify({ ...grant, uses: grant.uses - 1 }));
      const unchanged = { key, target: 'MOD', result: 'EQUAL', mod_revision: pair.mod_revision ?? '0' };
      use.isSent = true;
      const { succeeded } = await this.#ask<TxnAnswer>(access, '/v3/kv/txn', {
        compare: [unchanged],
        success: [
          grant.uses > 1
            ? { request_put: { key, value, ignore_lease: true } }
            : { request_delete_range: { key } },
          { request_put: { key: spent, value: '', lease } },
        ],
      });
      if (succeeded === true) return { allow: true };
    }
    return REFUSED('too many use the token at once');
  }

  /** Takes back all of an identity. */
  async revoke(access: EtcdAccess, identity: string): Promise<void> {
    const { kvs = [] } = await this.#ask<RangeAnswer>(access, '/v3/kv/range', this.#range());
    for (const { key, value } of kvs) {
      if ((JSON.parse(fromBase64(value)) as Grant).identity === identity)
        await this.#ask(access, '/v3/kv/deleterange', { key });
    }
  }

  async #lease(access: EtcdAccess, seconds: number): Promise<string> {
    return (await this.#ask<{ ID: string }>(access, '/v3/lease/grant', { TTL: String(seconds) })).ID;
  }

  async #pairs(access: EtcdAccess, key: string): Promise<readonly RawPair[]> {
    const { kvs = [] } = await this.#ask<RangeAnswer>(access, '/v3/kv/range', { key });
    return kvs;
  }

  #range(): { key: string; range_end: string } {
    return { key: base64(this.#prefix), range_end: endOf(this.#prefix) };
  }

  #keyOf(hash: string): string {
    return base64(`${this.#prefix}${hash}`);
  }

  #ask<T>(access: EtcdAccess, path: string, body: object): Promise<T> {
    return ask<T>(access, path, body, this.#signal);
  }
}
