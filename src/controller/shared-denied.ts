/**
 * How do several control planes revoke the same?
 *
 *     PREFIX denied/SHA-256   an identity or the serial number of a certificate, and whether it is revoked
 *
 * Each follows all of them; who revokes puts it there. That a revocation is taken back is an entry, too: one that has gone
 * says nothing, so that an etcd which lost what it had ends none. What etcd does not know, or knows no longer, holds where
 * it was said, and is put there when that can be. A revocation always is; who takes one back takes back what is known of
 * when it is said, and no revocation that came after.
 */

import { createHash } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { type EtcdOptions, pause, withMembers } from '../discovery/etcd-access.js';
import {
  type EtcdAccess,
  EtcdError,
  type RangeAnswer,
  type TxnAnswer,
  ask,
  base64,
  fromBase64,
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
  /** Whether etcd has said all there is, and is heard. */
  knows(knows: boolean): void;
  failed(error: unknown): void;
}

/** What is known of somebody. */
interface Entry {
  readonly whom: string;
  readonly denied: boolean;
  /** From when on it means nothing; never for an identity that is revoked. */
  readonly endMs?: number;
}

/** What is known of somebody, and the revision of etcd it is of: 0 when it is of none. */
interface Told {
  readonly entry: Entry;
  revision: bigint;
}

/** What etcd has not confirmed. */
interface Unsaid {
  /** What etcd had then; not known until it was asked. */
  since?: bigint;
  /** Who said it no longer asks etcd to take it: that is done here. */
  isLate: boolean;
}

/** What is to be said to etcd. */
export interface Word {
  readonly whom: string;
  readonly denied: boolean;
  /** The newest revision known of when it was said. */
  readonly since: string;
}

/** Revocations of all control planes. */
export class SharedDenied {
  readonly #options: EtcdOptions;
  readonly #events: DeniedEvents;
  readonly #end = new AbortController();
  readonly #known = new Map<string, Told>();
  /** Of whom something was said here. */
  readonly #unsaid = new Map<string, Unsaid>();
  /** What etcd told last; nothing as long as it is not heard. */
  #told: ReadonlyMap<string, Told> = new Map();
  readonly #running: Promise<void>;
  #isTold = false;
  /** The newest revision of etcd that was seen. */
  #newest = 0n;
  #tellSpoken = (): void => {};
  readonly #spoken = new Promise<void>((resolve) => {
    this.#tellSpoken = resolve;
  });

  constructor(options: EtcdOptions, events: DeniedEvents) {
    this.#options = options;
    this.#events = events;
    const { signal } = this.#end;
    // As many as are revoked at a time, each until etcd has answered.
    setMaxListeners(0, signal);
    const prefix = new EtcdPrefix(options.prefix, toldIn);
    this.#running = withMembers(
      options,
      signal,
      (error) => events.failed(error),
      async (access, well) => {
        try {
          for await (const all of prefix.follow(access, signal)) {
            well();
            if (!this.#isTold) this.#begins(prefix.revision);
            this.#sees(prefix.revision);
            this.#told = all;
            this.#heard(all.values());
            this.#forget();
            this.#knows(true);
            await this.#putAgain(access, new Set([...all.values()].map(({ entry }) => entry.whom)));
          }
        } finally {
          this.#told = new Map();
          if (!signal.aborted) this.#knows(false);
        }
      },
    );
  }

  /** Who is known to be revoked. */
  get all(): string[] {
    return this.#are(true);
  }

  /** Whose revocation is known to be taken back. */
  get allowed(): string[] {
    return this.#are(false);
  }

  /** Whether etcd has said all there is, and is heard. */
  get isTold(): boolean {
    return this.#isTold;
  }

  /** Resolves when etcd has said all there is, and after this time at the latest. */
  async spoken(longestMs: number): Promise<void> {
    await Promise.race([this.#spoken, pause(longestMs, this.#end.signal)]);
  }

  /** Who of these, and who else, is revoked: what is known here has the last word. */
  and(others: readonly string[]): string[] {
    const still = others.filter((whom) => this.#known.get(whom)?.entry.denied !== false);
    return [...new Set([...still, ...this.all])];
  }

  /**
   * Takes up who was revoked here earlier: etcd has the last word, also on whose revocation was taken back meanwhile. Returns
   * whom it does not have, as far as it is heard; of the others those are put there when it does.
   */
  hold(whoms: readonly string[]): readonly string[] {
    const others = whoms.filter((whom) => !this.#known.has(whom));
    for (const whom of others) this.#known.set(whom, { entry: denialOf(whom), revision: 0n });
    return this.#isTold ? others : [];
  }

  /** Puts there what is known of these. */
  async put(access: EtcdAccess, whoms: Iterable<string>): Promise<void> {
    for (const whom of whoms) {
      const told = this.#known.get(whom);
      if (told) await this.#put(access, told);
    }
  }

  /** What etcd has not confirmed of what was said here. */
  get unsaid(): readonly Word[] {
    return [...this.#known.values()].flatMap(({ entry: { whom, denied }, revision }) => {
      const unsaid = this.#unsaid.get(whom);
      return unsaid ? [{ whom, denied, since: String(unsaid.since ?? revision) }] : [];
    });
  }

  /** Notes that somebody is revoked: from now on that is to be put there, and nothing of before takes it back. */
  revoke(whom: string): void {
    this.#note(denialOf(whom));
  }

  /** Notes that it is taken back, in the same way; whether it was known to be revoked. */
  allow(whom: string): boolean {
    const was = this.#known.get(whom)?.entry.denied ?? false;
    this.#note({ whom, denied: false, endMs: endOfLife() });
    return was;
  }

  /** Who said something of it no longer asks etcd to take it: it is put there when that can be. */
  late(whom: string): void {
    const unsaid = this.#unsaid.get(whom);
    if (!unsaid) return;
    unsaid.since ??= this.#revisionOf(whom);
    unsaid.isLate = true;
  }

  /** Takes up what was said in an earlier life. */
  resume({ whom, denied, since }: Word): void {
    if (denied) this.revoke(whom);
    else this.allow(whom);
    this.#unsaid.set(whom, { since: BigInt(since), isLate: true });
  }

  close(): Promise<void> {
    this.#end.abort();
    return this.#running;
  }

  #are(denied: boolean): string[] {
    return [...this.#known.values()].flatMap(({ entry }) => (entry.denied === denied ? [entry.whom] : []));
  }

  #revisionOf(whom: string): bigint {
    return this.#known.get(whom)?.revision ?? 0n;
  }

  #note(entry: Entry): void {
    this.#known.set(entry.whom, { entry, revision: this.#revisionOf(entry.whom) });
    this.#unsaid.set(entry.whom, { isLate: false });
  }

  /**
   * Puts it there unless something else was said meanwhile: here, or, of what was not said here but got lost, by anybody. An
   * older word that was on its way never undoes a newer one.
   */
  async #put(access: EtcdAccess, told: Told): Promise<void> {
    const { signal } = this.#end;
    const { whom, denied, endMs } = told.entry;
    const name = createHash('sha256').update(whom).digest('hex');
    const place = `${this.#options.prefix}${name}`;
    const key = base64(place);
    let lease: string | undefined;
    for (let tries = 0; tries < MAX_TRIES; tries += 1) {
      const { kvs = [] } = await ask<RangeAnswer>(access, '/v3/kv/range', { key }, signal);
      const [there] = kvs;
      const revision = BigInt(there?.mod_revision ?? '0');
      if (this.#known.get(whom) !== told) return;
      const unsaid = this.#unsaid.get(whom);
      if (unsaid) unsaid.since ??= revision;
      else if (there) return;
      if (there && !denied && revision !== unsaid?.since) {
        const other = toldIn(fromBase64(there.value), place, revision);
        if (other.entry.denied) {
          this.#unsaid.delete(whom);
          this.#heard([other]);
          return;
        }
      }
      if (endMs !== undefined && lease === undefined) {
        const TTL = String(Math.max(1, Math.ceil((endMs - Date.now()) / 1000)));
        lease = (await ask<{ ID: string }>(access, '/v3/lease/grant', { TTL }, signal)).ID;
      }
      const value = base64(JSON.stringify(told.entry));
      const body = {
        compare: [{ key, target: 'MOD', result: 'EQUAL', mod_revision: String(revision) }],
        success: [{ request_put: { key, value, ...(lease !== undefined && { lease }) } }],
      };
      const { succeeded, header } = await ask<TxnAnswer>(access, '/v3/kv/txn', body, signal);
      if (succeeded !== true) continue;
      told.revision = BigInt(header.revision);
      this.#sees(told.revision);
      if (this.#known.get(whom) !== told) return;
      this.#unsaid.delete(whom);
      // What others said after it may have been heard before.
      const heard = this.#told.get(name);
      if (heard) this.#heard([heard]);
      return;
    }
    throw new EtcdError(`${place}: others change it again and again`);
  }

  /** Puts there what was not said in time, and what is revoked and was lost. */
  async #putAgain(access: EtcdAccess, there: ReadonlySet<string>): Promise<void> {
    for (const told of this.#known.values()) {
      const { whom, denied } = told.entry;
      const isLost = denied && !there.has(whom) && !this.#unsaid.has(whom);
      if (isLost || this.#unsaid.get(whom)?.isLate === true) await this.#put(access, told);
    }
  }

  #knows(knows: boolean): void {
    if (this.#isTold === knows) return;
    this.#isTold = knows;
    if (knows) this.#tellSpoken();
    this.#events.knows(knows);
  }

  #sees(revision: bigint): void {
    if (revision > this.#newest) this.#newest = revision;
  }

  /**
   * Etcd tells all anew. It has what it took, unless it was emptied, or is as it was some time ago: then who is revoked stays
   * so, and that is put there again.
   */
  #begins(revision: bigint): void {
    const hasLost = revision < this.#newest;
    this.#newest = revision;
    for (const [whom, told] of this.#known) {
      if (hasLost && told.entry.denied && !this.#unsaid.has(whom))
        this.#unsaid.set(whom, { since: 0n, isLate: true });
      if (!this.#unsaid.has(whom)) told.revision = 0n;
    }
  }

  #heard(all: Iterable<Told>): void {
    for (const { entry, revision } of all) {
      const { whom, denied } = entry;
      // Etcd may tell late of what was there before it took what was said here.
      if (this.#unsaid.has(whom) || revision < this.#revisionOf(whom)) continue;
      const before = this.#known.get(whom)?.entry;
      this.#known.set(whom, { entry, revision });
      if (before?.denied === denied) continue;
      if (denied) this.#events.revoked(whom);
      else this.#events.allowed(whom);
    }
  }

  /** Lets go of what means nothing any more. */
  #forget(): void {
    for (const [whom, { entry }] of this.#known) {
      if ((entry.endMs ?? Infinity) > Date.now()) continue;
      this.#known.delete(whom);
      this.#unsaid.delete(whom);
    }
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
