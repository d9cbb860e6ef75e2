/**
 * How do several control planes over one etcd answer the same?
 *
 *     PREFIX authority                 root and issuer, encrypted: all sign with it, and each keeps it in its state folder
 *     PREFIX sidecars/INSTANCE/...     who is connected to which of them, as long as that one lives
 *     PREFIX tokens/..., spent/...     tokens that may be spent, at any of them
 *     PREFIX denied/...                who is revoked, at all of them
 *
 * The mesh file and sources are the same for all.
 */

import { createHash, randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { Announcer } from '../discovery/etcd-announce.js';
import { accessTo, isLast, memberOf, pause, withMembers } from '../discovery/etcd-access.js';
import {
  type EtcdAccess,
  EtcdError,
  type RangeAnswer,
  ask,
  base64,
  endOf,
} from '../discovery/etcd-client.js';
import { EtcdPrefix } from '../discovery/etcd-prefix.js';
import { announcedSource } from '../discovery/etcd.js';
import { Feed } from '../discovery/feed.js';
import type { SourceEvent, SourceStatus } from '../discovery/types.js';
import { MeshError, OptionError, StateError } from '../errors.js';
import type { Decision, Elsewhere, StartControlPlane, TokenOptions } from '../mesh/control-plane.js';
import type { MeshSettings, SharedPlan } from '../mesh/services.js';
import { messageOf } from '../thrown.js';
import { Turns } from '../turns.js';
import { Claims, claimOf } from './claims.js';
import { KeptIssuer } from './kept.js';
import type { Registry } from './registered.js';
import { SharedDenied } from './shared-denied.js';
import { SharedTokens } from './shared-tokens.js';
import type { StateFolder } from './state.js';
import { Unsaid } from './unsaid.js';
import { type IssuerPem, type SharedIssuer, Vault, isDue, makeIssuer, readKey, whyNotNow } from './vault.js';

/** How often it is looked whether the issuer is to be renewed: its life is months. */
const LOOK_MS = 60_000;
/** How often one control plane makes another issuer: two whose clocks are far apart would each renew the other's. */
const RENEW_MS = 3_600_000;
/** How long a control plane waits for etcd at its first start: it can do nothing without. */
const START_MS = 30_000;
/** The pause between two tries of a start, and of a use of a token of which nothing was heard. */
const RETRY_MS = 250;
/** The pause before what etcd has not heard is said again. */
const SAY_MS = 1000;
/** How long others have to put their issuer back that etcd has lost: several tries of theirs to reach it. */
const PUT_BACK_MS = 5000;

/** Who is told. */
export interface SharedEvents {
  tell(event: SourceEvent): void;
  /** All sign with another issuer now. Rejects where it does not serve here. */
  renewed(issuer: IssuerPem): Promise<void>;
  /** Another control plane has revoked somebody. */
  revoked(whom: string): void;
  /** Another one has taken a revocation back. */
  allowed(whom: string): void;
  /** Whether all is known that others have revoked: not before etcd has told it, nor while it does not answer. */
  knows(knows: boolean): void;
  /** It is another than before who is at other control planes. */
  elsewhere(change: Elsewhere): void;
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
  readonly #place: string;
  readonly #kept: KeptIssuer | undefined;
  readonly #unsaid: Unsaid | undefined;
  #made: SharedIssuer | undefined;
  /** When this one has made another issuer, on the monotonic clock. */
  #renewedAt = -Infinity;
  /** One look after the other. */
  readonly #looks = new Turns();
  #watching: Promise<void> | undefined;
  /** The member that answered last, which is asked first: one that hangs is waited for once. */
  #member = 0;
  readonly #tokens: SharedTokens;
  /** Who was revoked here and may have tokens in etcd. */
  readonly #void = new Set<string>();
  #saying: Promise<void> | undefined;
  /** Why the folder did not take what is to be said. */
  #keepsNot: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #denied: SharedDenied | undefined;
  #feed: Feed | undefined;
  /** Which sidecars are at other control planes. */
  readonly #claims = new Claims();
  #announcer: Announcer | undefined;

  /** `folder` is where the issuer, and what etcd has not heard, are kept between two lives. */
  constructor(
    options: SharedPlan,
    start: StartControlPlane,
    settings: IssuerSettings,
    events: SharedEvents,
    folder?: Pick<StateFolder, 'shared' | 'unsaid'>,
  ) {
    // As many as ask at a time, each until it is answered.
    setMaxListeners(0, this.#end.signal);
    this.#options = options;
    this.#start = start;
    this.#settings = settings;
    this.#events = events;
    this.#place = `${options.etcd.prefix}authority`;
    this.#kept = folder && new KeptIssuer(folder.shared, this.#place, options.keyFile ?? '');
    this.#unsaid = folder && new Unsaid(folder.unsaid, options.etcd.prefix);
    this.#tokens = new SharedTokens(options.etcd.prefix, this.#end.signal);
  }

  /**
   * The issuer of all, where it is not the operator's. A first start waits for etcd for a while; a later one goes on with
   * what it had, as long as etcd does not answer, has lost it, or has that of another mesh.
   */
  async issuer(): Promise<IssuerPem> {
    let unreadable: unknown;
    const kept = await this.#kept?.read().catch((error: unknown) => {
      unreadable = error;
      return undefined;
    });
    const first = async (): Promise<SharedIssuer> => {
      // Another root would be another mesh, and this is not the first start of this one.
      if (unreadable !== undefined) throw unreadable;
      if (kept === undefined || isDue(kept.issuer, Date.now()))
        return makeIssuer(this.#start, this.#settings, kept);
      return kept;
    };
    const found = await this.#found(first, kept).catch((error: unknown) => {
      throw error instanceof StateError ? error : (unreadable ?? error);
    });
    const isOurs = found !== undefined && (!kept || kept.issuer.roots === found.issuer.roots);
    const why = isOurs ? whyNotNow(found.issuer, Date.now()) : undefined;
    // One that another clock made: what served last does still, if anything does.
    if (why !== undefined && kept) this.#events.failed(this.#untimely(why));
    this.#made = isOurs && (why === undefined || !kept) ? found : await first();
    if (whyNotNow(this.#made.issuer, Date.now()) === undefined) await this.#kept?.write(this.#made);
    return this.#made.issuer;
  }

  /**
   * What is in etcd, renewed where it is due, and what was made `first` where there was nothing; absent when it need not
   * answer and does not.
   */
  async #found(
    first: () => Promise<SharedIssuer>,
    kept: SharedIssuer | undefined,
  ): Promise<SharedIssuer | undefined> {
    const { etcd } = this.#options;
    const isKept = kept !== undefined;
    const end = performance.now() + START_MS;
    for (let turn = 0; ; turn += 1) {
      try {
        const access = await accessTo(turn, etcd, this.#end.signal);
        const vault = await this.#vault(access);
        // One that ended while all rested is renewed before it is needed, by the root's key, which is there with it.
        await this.#renew(vault, kept);
        const found = await vault.issuer(async () => {
          if (!isKept && (turn > 0 || (await this.#isUsed(access)))) await this.#othersPutBack();
          return first();
        });
        this.#member = turn;
        return found;
      } catch (cause) {
        // Another member may answer; a wrong key is wrong everywhere.
        if (cause instanceof StateError || this.#end.signal.aborted) throw cause;
        const why = messageOf(cause);
        const what = isKept ? 'the issuer of the last start serves' : 'the first start needs it';
        const error = new EtcdError(`mesh.shared.etcd: ${memberOf(etcd, turn)} fails, and ${what}: ${why}`, {
          cause,
        });
        const isRound = turn + 1 >= etcd.endpoints.length;
        if (isRound && !isKept && performance.now() > end) throw error;
        if (turn === 0) this.#events.failed(error);
        if (isRound && isKept) return undefined;
        await pause(RETRY_MS, this.#end.signal);
      }
    }
  }

  /** Whether etcd has something of control planes, though no issuer. */
  async #isUsed(access: EtcdAccess): Promise<boolean> {
    const { prefix } = this.#options.etcd;
    const body = { key: base64(prefix), range_end: endOf(prefix), limit: 1, keys_only: true };
    const { kvs = [] } = await ask<RangeAnswer>(access, '/v3/kv/range', body, this.#end.signal);
    return kvs.length > 0;
  }

  /**
   * An etcd that was away a moment ago, or has more of this mesh, may have lost its issuer. Those who have it put it back at
   * once; another root would be another mesh. Whoever is first wins: what is made after this is not taken where there is one.
   */
  async #othersPutBack(): Promise<void> {
    this.#events.failed(
      new EtcdError(
        `mesh.shared.etcd: ${this.#place} is empty, and may have been lost: ` +
          `whoever has it puts it back within ${PUT_BACK_MS / 1000} s, before another root is made`,
      ),
    );
    await pause(PUT_BACK_MS, this.#end.signal);
  }

  /** Renews what is due, unless it is of another mesh than `known`, or this one has renewed lately. */
  async #renew(vault: Vault, known: SharedIssuer | undefined): Promise<void> {
    if (performance.now() < this.#renewedAt + RENEW_MS) return;
    if (await vault.renew((before) => this.#another(before, known))) this.#renewedAt = performance.now();
  }

  async #another(before: SharedIssuer, known: SharedIssuer | undefined): Promise<SharedIssuer | undefined> {
    if (known && known.issuer.roots !== before.issuer.roots) return undefined;
    try {
      return await makeIssuer(this.#start, this.#settings, before);
    } catch (error) {
      // Its root is not good by this clock: what is there may be, for as long as it lives.
      this.#events.failed(error);
      return undefined;
    }
  }

  #untimely(why: string): StateError {
    return new StateError(
      `mesh.shared.etcd: the issuer in ${this.#place} ${why}: the clock of a control plane is wrong; ` +
        'this one goes on with the issuer it had',
    );
  }

  /**
   * Begins to follow who is revoked. Resolves when etcd has said it, and after this time at the latest.
   *
   * @throws {StateError} what was not heard in an earlier life can't be read
   */
  async learn(longestMs: number): Promise<void> {
    const { said = [], voids = [] } = (await this.#unsaid?.read()) ?? {};
    // Nobody would end it.
    if (this.#end.signal.aborted) return;
    this.#denied = new SharedDenied(
      { ...this.#options.etcd, prefix: `${this.#options.etcd.prefix}denied/` },
      this.#events,
    );
    for (const word of said) this.#denied.resume(word);
    for (const whom of voids) this.#void.add(whom);
    if (said.length + voids.length > 0) this.#sayLater();
    await this.#denied.spoken(longestMs);
  }

  /** Tells others of the sidecars in the registry, and the registry of the others'. */
  follow(registry: Registry): void {
    const etcd = { ...this.#options.etcd, prefix: `${this.#options.etcd.prefix}sidecars/` };
    const own = `${this.#instance}/`;
    let said: readonly unknown[] = [];
    const source = announcedSource(
      etcd,
      (name) => name.startsWith(own),
      (all) => {
        const outdated = this.#claims.outdated(all);
        said = [...all].flatMap(([name, each]) => (outdated.has(name) ? [] : [each]));
        return outdated;
      },
    );
    this.#announcer = new Announcer(etcd, (error) => this.#events.failed(error));
    const announce = (): void => {
      const here = registry.own();
      this.#claims.own(here.flatMap((each) => claimOf(each) ?? []));
      const entries = here.map((endpoint) => {
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
      changed: () => {
        const change = this.#claims.heard(said);
        registry.told([...(this.#feed?.endpoints ?? [])].map((endpoint) => this.#claims.with(endpoint)));
        if (change.there.length + change.gone.length > 0) this.#events.elsewhere(change);
      },
      tell: (event) => this.#events.tell(event),
    });
    if (!this.#made) return;
    this.#timer = setInterval(() => void this.#looked(), LOOK_MS).unref();
    this.#watching = this.#watch();
  }

  /** Looks when etcd has another issuer or none, and when it answers again: it may have lost what it had. */
  #watch(): Promise<void> {
    const { signal } = this.#end;
    const etcd = { ...this.#options.etcd, prefix: this.#place };
    const prefix = new EtcdPrefix(this.#place, () => true);
    // That etcd fails is told by those who follow more of it.
    const failed = (): void => {};
    return withMembers(etcd, signal, failed, async (access, well) => {
      for await (const _ of prefix.follow(access, signal)) {
        well();
        await this.#looked();
      }
    });
  }

  /** Looks, and tells what is wrong. */
  async #looked(): Promise<void> {
    await this.look().catch((error: unknown) => {
      if (!this.#end.signal.aborted) this.#events.failed(error);
    });
  }

  /**
   * A token that opens at any of the control planes.
   *
   * @throws {OptionError} it would be good for too much
   * @throws {EtcdError} no member of etcd answers
   */
  token(identity: string, options: TokenOptions): Promise<string> {
    return this.#ask(async (access) => {
      // Those of before go first: this one is not among them.
      await this.#voids(access, identity);
      return this.#tokens.issue(access, identity, options);
    });
  }

  /** Uses a token once, by its SHA-256, unless it is too late for that: `end` is by the monotonic clock. */
  async spend(hash: string, identity: string, end: number): Promise<Decision> {
    const use = { hash, identity, end, id: randomUUID(), isSent: false };
    for (;;) {
      try {
        return await this.#ask((access) => this.#tokens.spend(access, use));
      } catch (error) {
        // What was not sent is not taken. What was may be: whoever is admitted would ask again, for a second one.
        if (!use.isSent || this.#end.signal.aborted || performance.now() + RETRY_MS >= end) throw error;
        await pause(RETRY_MS, this.#end.signal);
      }
    }
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
    if (missing.length > 0) await this.#ask(async (access) => this.#denied?.put(access, missing));
  }

  /** Who is at other control planes, as far as it is known yet. */
  get elsewhere(): Elsewhere {
    return this.#claims.all;
  }

  /** Whether etcd says who is revoked. */
  get knowsDenied(): boolean {
    return this.#denied?.isTold ?? false;
  }

  /**
   * Tells the others. Resolves when etcd knows it.
   *
   * @throws {EtcdError} no member of etcd answers: it is told as soon as one does
   */
  async revoke(whom: string): Promise<void> {
    // Before anybody is asked, or even a password read: what was not noted would never be told.
    this.#denied?.revoke(whom);
    this.#void.add(whom);
    await this.#say(whom, async (access) => {
      await this.#denied?.put(access, [whom]);
      await this.#voids(access, whom);
    });
  }

  /**
   * Tells the others that a revocation is taken back; whether etcd knew of it.
   *
   * @throws {EtcdError} no member of etcd answers: it is told as soon as one does
   */
  async allow(whom: string): Promise<boolean> {
    const was = this.#denied?.allow(whom) ?? false;
    await this.#say(whom, async (access) => this.#denied?.put(access, [whom]));
    return was;
  }

  /** Takes the tokens back of somebody who was revoked here, unless that was done. */
  async #voids(access: EtcdAccess, whom: string): Promise<void> {
    if (!this.#void.has(whom)) return;
    await this.#tokens.revoke(access, whom);
    this.#void.delete(whom);
  }

  /** Says what was noted, and begins to say it again when that fails. */
  async #say(whom: string, work: (access: EtcdAccess) => Promise<void>): Promise<void> {
    await this.#keep();
    try {
      await this.#ask(work);
    } catch (error) {
      this.#denied?.late(whom);
      this.#sayLater();
      throw error;
    } finally {
      await this.#keep();
    }
  }

  #sayLater(): void {
    this.#saying ??= this.#sayAgain().finally(() => {
      this.#saying = undefined;
    });
  }

  /** Keeps what is to be said. A folder that does not take it is no reason not to say it. */
  async #keep(): Promise<void> {
    const words = { said: this.#denied?.unsaid ?? [], voids: [...this.#void] };
    try {
      await this.#unsaid?.write(words);
      this.#keepsNot = undefined;
    } catch (error) {
      if (messageOf(error) !== this.#keepsNot) this.#events.failed(error);
      this.#keepsNot = messageOf(error);
    }
  }

  /** Says what etcd has not heard until it has: who follows need not have noticed that it was away. */
  async #sayAgain(): Promise<void> {
    const { signal } = this.#end;
    const unsaid = (): readonly string[] => this.#denied?.unsaid.map(({ whom }) => whom) ?? [];
    do {
      await pause(SAY_MS, signal);
      const again = async (access: EtcdAccess): Promise<void> => {
        await this.#denied?.put(access, unsaid());
        for (const whom of this.#void) await this.#voids(access, whom);
      };
      // Whoever said it was told that it failed.
      await this.#ask(again).catch(() => {});
      await this.#keep();
    } while (unsaid().length + this.#void.size > 0 && !signal.aborted);
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
        if (this.#end.signal.aborted) throw new StateError('the control plane was closed');
        if (error instanceof OptionError || error instanceof StateError) throw error;
        if (!isLast(etcd, turn)) continue;
        throw error instanceof MeshError ? error : new EtcdError(messageOf(error), { cause: error });
      }
    }
  }

  status(): SourceStatus[] {
    return this.#feed ? [this.#feed.status()] : [];
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#end.abort();
    const followers = [this.#announcer?.close(), this.#feed?.stop(), this.#denied?.close(), this.#watching];
    await Promise.all([...followers, this.#looks.settled, this.#saying]);
  }

  /**
   * Looks whether all sign with another issuer now, or it is to be renewed, or etcd has lost it; by itself each minute, and
   * when etcd tells of a change.
   *
   * @throws {StateError} etcd has the issuer of another mesh, or of another time
   * @throws {EtcdError} no member of etcd answers
   */
  look(): Promise<void> {
    return this.#looks.run(() => this.#look());
  }

  async #look(): Promise<void> {
    const known = this.#made;
    if (!known) return;
    const now = await this.#ask(async (access) => {
      const vault = await this.#vault(access);
      await this.#renew(vault, known);
      // An etcd that lost what it had gets it back: with another root no sidecar would believe us.
      return vault.issuer(() => Promise.resolve(known));
    });
    const { issuer } = now;
    if (issuer.roots !== known.issuer.roots) {
      throw new StateError(
        `mesh.shared.etcd: ${this.#place} has the root of another mesh now, and this one goes on with its own, ` +
          'which its sidecars believe; it is put back once that key is removed',
      );
    }
    if (issuer.chain === known.issuer.chain) return;
    const why = whyNotNow(issuer, Date.now());
    if (why !== undefined) throw this.#untimely(why);
    await this.#events.renewed(issuer);
    this.#made = now;
    await this.#kept?.write(now);
  }

  async #vault(access: EtcdAccess): Promise<Vault> {
    const { keyFile = '' } = this.#options;
    return new Vault(access, this.#place, await readKey(keyFile), this.#end.signal);
  }
}
