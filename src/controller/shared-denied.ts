/**
 * How do several control planes revoke the same?
 *
 *     PREFIX denied/SHA-256   an identity, or the serial number of a certificate
 *
 * Each follows all of them; who revokes puts it there. What etcd does not know yet holds where it was said.
 */

import { createHash } from 'node:crypto';
import { type EtcdOptions, accessTo, pause } from '../discovery/etcd-access.js';
import { type EtcdAccess, ask, base64 } from '../discovery/etcd-client.js';
import { EtcdPrefix } from '../discovery/etcd-prefix.js';

/** The pause after a failure. */
const RETRY_MS = 1000;
/** No certificate lives longer: then its serial number means nothing. */
const SERIAL_S = 30 * 86_400;

/** Who is told. */
export interface DeniedEvents {
  /** Somebody else has revoked. */
  revoked(whom: string): void;
  /** Somebody else has taken a revocation back. */
  allowed(whom: string): void;
  failed(error: unknown): void;
}

/** Revocations of all control planes. */
export class SharedDenied {
  readonly #options: EtcdOptions;
  readonly #events: DeniedEvents;
  readonly #end = new AbortController();
  /** What etcd has. */
  #there: ReadonlySet<string> = new Set();
  #problem: string | undefined;
  readonly #running: Promise<void>;

  constructor(options: EtcdOptions, events: DeniedEvents) {
    this.#options = options;
    this.#events = events;
    this.#running = this.#run();
  }

  /** Whom etcd knows to be revoked. */
  get all(): ReadonlySet<string> {
    return this.#there;
  }

  /** Tells all. */
  async revoke(access: EtcdAccess, whom: string): Promise<void> {
    const { signal } = this.#end;
    const isSerial = !whom.startsWith('spiffe://');
    const lease = isSerial
      ? await ask<{ ID: string }>(access, '/v3/lease/grant', { TTL: String(SERIAL_S) }, signal)
      : undefined;
    const pair = { key: this.#keyOf(whom), value: base64(whom), ...(lease && { lease: lease.ID }) };
    await ask(access, '/v3/kv/put', pair, signal);
  }

  /** Tells all that it was taken back; whether etcd had it. */
  async allow(access: EtcdAccess, whom: string): Promise<boolean> {
    const asked = { key: this.#keyOf(whom) };
    const { deleted = '0' } = await ask<{ deleted?: string }>(
      access,
      '/v3/kv/deleterange',
      asked,
      this.#end.signal,
    );
    return deleted !== '0';
  }

  close(): Promise<void> {
    this.#end.abort();
    return this.#running;
  }

  #keyOf(whom: string): string {
    return base64(`${this.#options.prefix}${createHash('sha256').update(whom).digest('hex')}`);
  }

  async #run(): Promise<void> {
    const { signal } = this.#end;
    const prefix = new EtcdPrefix(this.#options.prefix, (text) => text);
    for (let turn = 0; !signal.aborted; turn += 1) {
      try {
        const access = await accessTo(turn, this.#options, signal);
        for await (const all of prefix.follow(access, signal)) {
          this.#problem = undefined;
          this.#heard(new Set(all.values()));
        }
      } catch (error) {
        if (signal.aborted) return;
        const problem = String(error);
        if (problem !== this.#problem) this.#events.failed(error);
        this.#problem = problem;
        await pause(RETRY_MS, signal);
      }
    }
  }

  #heard(now: ReadonlySet<string>): void {
    const before = this.#there;
    this.#there = now;
    for (const whom of now) if (!before.has(whom)) this.#events.revoked(whom);
    for (const whom of before) if (!now.has(whom)) this.#events.allowed(whom);
  }
}
