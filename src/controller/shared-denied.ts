/**
 * How do several control planes revoke the same?
 *
 *     PREFIX denied/SHA-256   an identity, or the serial number of a certificate
 *
 * Each follows all of them; who revokes puts it there. What etcd does not know yet holds where it was said.
 */

import { createHash } from 'node:crypto';
import { type EtcdOptions, withMembers } from '../discovery/etcd-access.js';
import { type EtcdAccess, ask, base64 } from '../discovery/etcd-client.js';
import { EtcdPrefix } from '../discovery/etcd-prefix.js';

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
  readonly #running: Promise<void>;

  constructor(options: EtcdOptions, events: DeniedEvents) {
    this.#options = options;
    this.#events = events;
    const { signal } = this.#end;
    const prefix = new EtcdPrefix(options.prefix, (text) => text);
    this.#running = withMembers(
      options,
      signal,
      (error) => events.failed(error),
      async (access, well) => {
        for await (const all of prefix.follow(access, signal)) {
          well();
          this.#heard(new Set(all.values()));
        }
      },
    );
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

  #heard(now: ReadonlySet<string>): void {
    const before = this.#there;
    this.#there = now;
    for (const whom of now) if (!before.has(whom)) this.#events.revoked(whom);
    for (const whom of before) if (!now.has(whom)) this.#events.allowed(whom);
  }
}
