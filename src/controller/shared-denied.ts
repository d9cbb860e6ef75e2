/**
 * How do several control planes revoke the same?
 *
 *     PREFIX denied/SHA-256   an identity or the serial number of a certificate, and whether it is revoked
 *
 * Each follows all of them; who revokes puts it there. That a revocation is taken back is an entry, too: one that has gone
 * says nothing, so that an etcd which lost what it had ends none. What etcd does not know, or knows no longer, holds where
 * it was said, and is put there when that can be.
 */

import { createHash } from 'node:crypto';
import { type EtcdOptions, pause, withMembers } from '../discovery/etcd-access.js';
import {
  type EtcdAccess,
  EtcdError,
  type RangeAnswer,
  type TxnAnswer,
  ask,
  base64,
} from '../discovery/etcd-client.js';
import { EtcdPrefix } from '../discovery/etcd-prefix.js';

/** No certificate lives longer: then its serial number means nothing, and who was away so long asks for all again. */
const LONGEST_LIFE_MS = 30 * 86_400_000;
/** How often something is tried to be put where others put something, too. */
const MAX_TRIES = 8;

/** Who is told. */
interface DeniedEvents {
  /** Somebody else has revoked. */
  revoked(whom: string): void;
  /** Somebody else has taken a revocation back. */
  allowed(whom: string): void;
  /** Etcd has said all there is, for the first time. */
  spoken(): void;
  failed(error: unknown): void;
}

/** What is known of somebody. */
interface Entry {
  readonly whom: string;
  readonly denied: boolean;
  /** From when on it means nothing; never for an identity that is revoked. */
  readonly endMs?: number;
}

/** What etcd holds of somebody, and since which of its revisions. */
interface Told {
  readonly entry: Entry;
  readonly revision: bigint;
}

/** Revocations of all control planes. */
export class SharedDenied {
  readonly #options: EtcdOptions;
  readonly #events: DeniedEvents;
  readonly #end = new AbortController();
  readonly #known = new Map<string, Entry>();
  /** Who was spoken of here: what etcd tells of before the revision at which it took that means nothing; none yet, if so. */
  readonly #said = new Map<string, bigint | undefined>();
  readonly #running: Promise<void>;
  #hasSpoken = false;
  #tellSpoken = (): void => {};
  readonly #spoken = new Promise<void>((resolve) => {
    this.#tellSpoken = resolve;
  });

  constructor(options: EtcdOptions, events: DeniedEvents) {
    this.#options = options;
    this.#events = events;
    const { signal } = this.#end;
    const prefix = new EtcdPrefix(options.prefix, toldIn);
    this.#running = withMembers(
      options,
      signal,
      (error) => events.failed(error),
      async (access, well) => {
        // What is read from now on has what etcd took, or etcd has lost it.
        for (const [whom, revision] of this.#said) if (revision !== undefined) this.#said.delete(whom);
        for await (const all of prefix.follow(access, signal)) {
          well();
          this.#heard(all.values());
          this.#spoke();
          await this.#putAgain(access, new Set([...all.values()].map(({ entry }) => entry.whom)));
        }
      },
    );
  }

  /** Who is known to be revoked. */
  get all(): string[] {
    return [...this.#known.values()].filter(({ denied }) => denied).map(({ whom }) => whom);
  }

  /** Whose revocation is known to be taken back. */
  get allowed(): string[] {
    return [...this.#known.values()].filter(({ denied }) => !denied).map(({ whom }) => whom);
  }

  /** Whether etcd has said all there is. */
  get hasSpoken(): boolean {
    return this.#hasSpoken;
  }

  /** Resolves when etcd has said all there is, and after this time at the latest. */
  async spoken(longestMs: number): Promise<void> {
    await Promise.race([this.#spoken, pause(longestMs, this.#end.signal)]);
  }

  /** Who of these, and who else, is revoked: what is known here has the last word. */
  and(others: readonly string[]): string[] {
    const still = others.filter((whom) => this.#known.get(whom)?.denied !== false);
    return [...new Set([...still, ...this.all])];
  }

  /**
   * Takes up who was revoked here earlier: etcd has the last word, also on whose revocation was taken back meanwhile. Returns
   * whom it does not have, as far as it has spoken; of the others those are put there when it does.
   */
  hold(whoms: readonly string[]): readonly string[] {
    const others = whoms.filter((whom) => !this.#known.has(whom));
    for (const whom of others) this.#known.set(whom, denialOf(whom));
    return this.#hasSpoken ? others : [];
  }

  /** Puts there what is known of these. */
  async put(access: EtcdAccess, whoms: Iterable<string>): Promise<void> {
    for (const whom of whoms) {
      const entry = this.#known.get(whom);
      if (entry) await this.#put(access, entry);
    }
  }

  /** What etcd has not confirmed of what was said here. */
  get unsaid(): readonly Pick<Entry, 'whom' | 'denied'>[] {
    return [...this.#known.values()].filter(({ whom }) => this.#isUnsaid(whom));
  }

  /** Notes that somebody is revoked: from now on that is to be put there, and nothing of before takes it back. */
  revoke(whom: string): void {
    this.#note(denialOf(whom));
  }

  /** Notes that it is taken back, in the same way; whether it was known to be revoked. */
  allow(whom: string): boolean {
    const was = this.#known.get(whom)?.denied ?? false;
    this.#note({ whom, denied: false, endMs: endOfLife() });
    return was;
  }

  close(): Promise<void> {
    this.#end.abort();
    return this.#running;
  }

  #note(entry: Entry): void {
    this.#known.set(entry.whom, entry);
    this.#said.set(entry.whom, undefined);
  }

  /**
   * Puts it there unless something else was said meanwhile: here, or, of what was not said here but got lost, by anybody. An
   * older word that was on its way never undoes a newer one.
   */
  async #put(access: EtcdAccess, entry: Entry): Promise<void> {
    const { signal } = this.#end;
    const { whom, endMs } = entry;
    const key = base64(`${this.#options.prefix}${createHash('sha256').update(whom).digest('hex')}`);
    let lease: string | undefined;
    for (let tries = 0; tries < MAX_TRIES; tries += 1) {
      const { kvs = [] } = await ask<RangeAnswer>(access, '/v3/kv/range', { key, keys_only: true }, signal);
      const there = kvs[0]?.mod_revision ?? '0';
      if (this.#known.get(whom) !== entry || (there !== '0' && !this.#isUnsaid(whom))) return;
      if (endMs !== undefined && lease === undefined) {
        const TTL = String(Math.max(1, Math.ceil((endMs - Date.now()) / 1000)));
        lease = (await ask<{ ID: string }>(access, '/v3/lease/grant', { TTL }, signal)).ID;
      }
      const value = base64(JSON.stringify(entry));
      const body = {
        compare: [{ key, target: 'MOD', result: 'EQUAL', mod_revision: there }],
        success: [{ request_put: { key, value, ...(lease !== undefined && { lease }) } }],
      };
      const { succeeded, header } = await ask<TxnAnswer>(access, '/v3/kv/txn', body, signal);
      if (succeeded !== true) continue;
      if (this.#known.get(whom) === entry && this.#isUnsaid(whom))
        this.#said.set(whom, BigInt(header.revision));
      return;
    }
    throw new EtcdError(`${this.#options.prefix}: others change it again and again`);
  }

  #isUnsaid(whom: string): boolean {
    return this.#said.has(whom) && this.#said.get(whom) === undefined;
  }

  /** Puts there what was not said yet, and what is revoked and was lost. */
  async #putAgain(access: EtcdAccess, there: ReadonlySet<string>): Promise<void> {
    for (const entry of this.#known.values()) {
      const isLost = entry.denied && !there.has(entry.whom);
      if (isLost || this.#isUnsaid(entry.whom)) await this.#put(access, entry);
    }
  }

  #spoke(): void {
    if (this.#hasSpoken) return;
    this.#hasSpoken = true;
    this.#tellSpoken();
    this.#events.spoken();
  }

  #heard(all: Iterable<Told>): void {
    for (const { entry, revision } of all) {
      const { whom, denied } = entry;
      if (this.#said.has(whom) && revision < (this.#said.get(whom) ?? Infinity)) continue;
      this.#said.delete(whom);
      const before = this.#known.get(whom);
      this.#known.set(whom, entry);
      if (before?.denied === denied) continue;
      if (denied) this.#events.revoked(whom);
      else this.#events.allowed(whom);
    }
    for (const [whom, { endMs = Infinity }] of this.#known) if (endMs <= Date.now()) this.#known.delete(whom);
  }
}

const endOfLife = (): number => Date.now() + LONGEST_LIFE_MS;

const denialOf = (whom: string): Entry => ({
  whom,
  denied: true,
  ...(!whom.startsWith('spiffe://') && { endMs: endOfLife() }),
});

function toldIn(text: string, key: string, revision: bigint): Told {
  const { whom, denied, endMs } = JSON.parse(text) as Partial<Entry>;
  if (typeof whom !== 'string' || typeof denied !== 'boolean') throw new EtcdError(`${key} is no revocation`);
  return { entry: { whom, denied, ...(typeof endMs === 'number' && { endMs }) }, revision };
}
