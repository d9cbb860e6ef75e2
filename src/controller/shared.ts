/**
 * How do several control planes over one etcd answer the same?
 *
 *     PREFIX authority                 root and issuer, encrypted: all sign with it
 *     PREFIX sidecars/INSTANCE/...     who is connected to which of them, as long as that one lives
 *     PREFIX tokens/...                tokens that may be spent, at any of them
 *     PREFIX denied/...                who is revoked, at all of them
 *
 * The mesh file and sources are the same for all.
 */

import { createHash, randomUUID } from 'node:crypto';
import { Announcer } from '../discovery/etcd-announce.js';
import { accessTo, isLast, memberOf, pause } from '../discovery/etcd-access.js';
import type { EtcdAccess } from '../discovery/etcd-client.js';
import { etcdSource } from '../discovery/etcd.js';
import { Feed } from '../discovery/feed.js';
import type { Registry } from '../discovery/registered.js';
import type { SourceEvent, SourceStatus } from '../discovery/types.js';
import { OptionError, StateError } from '../errors.js';
import type { Decision, StartControlPlane, TokenOptions } from '../mesh/control-plane.js';
import type { MeshSettings, SharedPlan } from '../mesh/services.js';
import { SharedDenied } from './shared-denied.js';
import { SharedTokens } from './shared-tokens.js';
import { type IssuerPem, type SharedIssuer, Vault, makeIssuer, readKey } from './vault.js';

/** How often it is looked whether the issuer is another one, or is to be renewed: its life is months. */
const LOOK_MS = 60_000;
/** How long a control plane waits for etcd at its start, where it can do nothing without. */
const START_MS = 30_000;
/** The pause between two tries of a start. */
const RETRY_MS = 250;

/** Who is told. */
export interface SharedEvents {
  tell(event: SourceEvent): void;
  /** All sign with another issuer now. */
  renewed(issuer: IssuerPem): void;
  /** Another control plane has revoked somebody. */
  revoked(whom: string): void;
  /** Another one has taken a revocation back. */
  allowed(whom: string): void;
  /** All that others have revoked was told, for the first time. */
  spoken(): void;
  failed(error: unknown): void;
}

/** What an issuer is made by. */
type IssuerSettings = Pick<MeshSettings, 'trustDomain' | 'certificateTtlMs'>;

/** What one control plane shares with others. */
export class Shared {
  readonly #options: SharedPlan;
  readonly #start: StartControlPlane;
  readonly #settings: IssuerSettings;
  readonly #events: SharedEvents;
  readonly #instance = randomUUID();
  readonly #end = new AbortController();
  #made: SharedIssuer | undefined;
  /** The member that answered last, which is asked first: one that hangs is waited for once. */
  #member = 0;
  readonly #tokens: SharedTokens;
  #timer: NodeJS.Timeout | undefined;
  #denied: SharedDenied | undefined;
  #feed: Feed | undefined;
  #announcer: Announcer | undefined;

  constructor(options: SharedPlan, start: StartControlPlane, settings: IssuerSettings, events: SharedEvents) {
    this.#options = options;
    this.#start = start;
    this.#settings = settings;
    this.#events = events;
    this.#tokens = new SharedTokens(`${options.etcd.prefix}tokens/`, this.#end.signal);
  }

  /** The issuer of all, where it is not the operator's. Waits for etcd for a while. */
  async issuer(): Promise<IssuerPem> {
    const end = performance.now() + START_MS;
    for (let turn = 0; ; turn += 1) {
      try {
        const vault = await this.#vault(await accessTo(turn, this.#options.etcd, this.#end.signal));
        this.#made = await vault.issuer(() => makeIssuer(this.#start, this.#settings));
        this.#member = turn;
        return this.#made.issuer;
      } catch (cause) {
        // Another member may answer; a wrong key is wrong everywhere.
        if (cause instanceof StateError || this.#end.signal.aborted) throw cause;
        const why = cause instanceof Error ? cause.message : String(cause);
        const what = `mesh.shared.etcd: ${memberOf(this.#options.etcd, turn)} fails, and the first start needs it: ${why}`;
        const error = new Error(what, { cause });
        if (turn + 1 >= this.#options.etcd.endpoints.length && performance.now() > end) throw error;
        if (turn === 0) this.#events.failed(error);
        await pause(RETRY_MS, this.#end.signal);
      }
    }
  }

  /** Begins to follow who is revoked. Resolves when etcd has said it, and after this time at the latest. */
  async learn(longestMs: number): Promise<void> {
    this.#denied = new SharedDenied(
      { ...this.#options.etcd, prefix: `${this.#options.etcd.prefix}denied/` },
      this.#events,
    );
    await this.#denied.spoken(longestMs);
  }

  /** Tells others of the sidecars in the registry, and the registry of the others'. */
  follow(registry: Registry): void {
    const etcd = { ...this.#options.etcd, prefix: `${this.#options.etcd.prefix}sidecars/` };
    const own = `${this.#instance}/`;
    const source = etcdSource(etcd, (name) => name.startsWith(own));
    this.#announcer = new Announcer(etcd, (error) => this.#events.failed(error));
    const announce = (): void => {
      const entries = registry.own().map((endpoint) => {
        const text = JSON.stringify(endpoint);
        const name = createHash('sha256').update(`${endpoint.identity} ${endpoint.address}`).digest('hex');
        return [`${own}${name}`, text] as const;
      });
      this.#announcer?.set(new Map(entries));
    };
    registry.onChange(announce);
    announce();
    this.#feed = new Feed({
      service: 'sidecars of other control planes',
      source: { name: `etcd ${etcd.endpoints[0]} ${etcd.prefix}`, key: etcd.prefix, source },
      changed: () => registry.told([...(this.#feed?.endpoints ?? [])]),
      tell: (event) => this.#events.tell(event),
    });
    if (!this.#made) return;
    this.#timer = setInterval(
      () => void this.look().catch((error: unknown) => this.#events.failed(error)),
      LOOK_MS,
    );
    this.#timer.unref();
  }

  /**
   * A token that opens at any of the control planes.
   *
   * @throws {OptionError} it would be good for too much
   * @throws {EtcdError} no member of etcd answers
   */
  token(identity: string, options: TokenOptions): Promise<string> {
    return this.#ask((access) => this.#tokens.issue(access, identity, options));
  }

  /** Uses a token once, by its SHA-256. */
  spend(hash: string, identity: string): Promise<Decision> {
    return this.#ask((access) => this.#tokens.spend(access, hash, identity));
  }

  /** Who of these, and who else, is revoked, as far as it is known yet. */
  denied(others: readonly string[]): readonly string[] {
    return this.#denied?.and(others) ?? others;
  }

  /** Whose revocation was taken back, as far as it is known yet. */
  get allowed(): readonly string[] {
    return this.#denied?.allowed ?? [];
  }

  /** Tells the others who was revoked here earlier, unless that was taken back. */
  async hold(whoms: readonly string[]): Promise<void> {
    const missing = this.#denied?.hold(whoms) ?? [];
    if (missing.length > 0) await this.#ask(async (access) => this.#denied?.putHeld(access, missing));
  }

  /** Whether etcd has said who is revoked. */
  get knowsDenied(): boolean {
    return this.#denied?.hasSpoken ?? false;
  }

  /**
   * Tells the others. Resolves when etcd knows it.
   *
   * @throws {EtcdError} no member of etcd answers
   */
  async revoke(whom: string): Promise<void> {
    await this.#ask(async (access) => {
      await this.#denied?.revoke(access, whom);
      await this.#tokens.revoke(access, whom);
    });
  }

  /**
   * Tells the others that a revocation is taken back; whether etcd knew of it.
   *
   * @throws {EtcdError} no member of etcd answers
   */
  async allow(whom: string): Promise<boolean> {
    return (await this.#ask(async (access) => this.#denied?.allow(access, whom))) ?? false;
  }

  /** Asks one member, and those behind it when it does not answer. What is wrong at one is wrong at all. */
  async #ask<T>(work: (access: EtcdAccess) => Promise<T>): Promise<T> {
    const { etcd } = this.#options;
    const first = this.#member;
    for (let turn = 0; ; turn += 1) {
      try {
        const answer = await work(await accessTo(turn, etcd, this.#end.signal, first));
        this.#member = first + turn;
        return answer;
      } catch (error) {
        if (error instanceof OptionError || error instanceof StateError || isLast(etcd, turn)) throw error;
      }
    }
  }

  status(): SourceStatus[] {
    return this.#feed ? [this.#feed.status()] : [];
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#end.abort();
    await Promise.all([this.#announcer?.close(), this.#feed?.stop(), this.#denied?.close()]);
  }

  /**
   * Looks whether all sign with another issuer now, or it is to be renewed, or etcd has lost it; by itself each minute.
   *
   * @throws {StateError} etcd has the issuer of another mesh
   * @throws {EtcdError} no member of etcd answers
   */
  async look(): Promise<void> {
    const known = this.#made;
    if (!known) return;
    const now = await this.#ask(async (access) => {
      const vault = await this.#vault(access);
      await vault.renew((before) => makeIssuer(this.#start, this.#settings, before));
      // An etcd that lost what it had gets it back: with another root no sidecar would believe us.
      return vault.issuer(() => Promise.resolve(known));
    });
    const { issuer } = now;
    if (issuer.roots !== known.issuer.roots) {
      const what = `mesh.shared.etcd: ${this.#options.etcd.prefix}authority has the root of another mesh now`;
      throw new StateError(
        `${what}; a control plane that is started again takes it, and no sidecar believes it then`,
      );
    }
    if (issuer.chain === known.issuer.chain) return;
    this.#made = now;
    this.#events.renewed(issuer);
  }

  async #vault(access: EtcdAccess): Promise<Vault> {
    const { etcd, keyFile = '' } = this.#options;
    return new Vault(access, `${etcd.prefix}authority`, await readKey(keyFile), this.#end.signal);
  }
}
