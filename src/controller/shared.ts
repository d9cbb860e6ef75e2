/**
 * How do several control planes over one etcd answer the same?
 *
 *     PREFIX authority                 root and issuer, encrypted: all sign with it
 *     PREFIX sidecars/INSTANCE/...     who is connected to which of them, as long as that one lives
 *
 * The mesh file and sources are the same for all. What one alone knows are the tokens that it gave, and revocations.
 */

import { createHash, randomUUID } from 'node:crypto';
import { Announcer } from '../discovery/etcd-announce.js';
import { accessTo, etcdSource, pause } from '../discovery/etcd.js';
import { Feed } from '../discovery/feed.js';
import type { Registry } from '../discovery/registered.js';
import type { SourceEvent, SourceStatus } from '../discovery/types.js';
import { StateError } from '../errors.js';
import type { StartControlPlane } from '../mesh/control-plane.js';
import type { MeshSettings, SharedPlan } from '../mesh/services.js';
import { type IssuerPem, Vault, makeIssuer, readKey } from './vault.js';

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
  failed(error: unknown): void;
}

/** What one control plane shares with others. */
export class Shared {
  readonly #options: SharedPlan;
  readonly #start: StartControlPlane;
  readonly #settings: MeshSettings;
  readonly #events: SharedEvents;
  readonly #instance = randomUUID();
  readonly #end = new AbortController();
  #issuer: IssuerPem | undefined;
  #timer: NodeJS.Timeout | undefined;
  #feed: Feed | undefined;
  #announcer: Announcer | undefined;

  constructor(options: SharedPlan, start: StartControlPlane, settings: MeshSettings, events: SharedEvents) {
    this.#options = options;
    this.#start = start;
    this.#settings = settings;
    this.#events = events;
  }

  /** The issuer of all. Waits for etcd for a while. */
  async issuer(): Promise<IssuerPem> {
    const end = performance.now() + START_MS;
    for (let turn = 0; ; turn += 1) {
      try {
        const vault = await this.#vault(turn);
        this.#issuer = await vault.issuer(() => makeIssuer(this.#start, this.#settings));
        return this.#issuer;
      } catch (cause) {
        // Another member may answer; a wrong key is wrong everywhere.
        if (cause instanceof StateError || this.#end.signal.aborted) throw cause;
        const why = cause instanceof Error ? cause.message : String(cause);
        const what = `mesh.shared.etcd: ${this.#url(turn)} fails, and the first start needs it: ${why}`;
        const error = new Error(what, { cause });
        if (turn + 1 >= this.#options.etcd.endpoints.length && performance.now() > end) throw error;
        if (turn === 0) this.#events.failed(error);
        await pause(RETRY_MS, this.#end.signal);
      }
    }
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
    this.#timer = setInterval(
      () => void this.#look().catch((error: unknown) => this.#events.failed(error)),
      LOOK_MS,
    );
    this.#timer.unref();
  }

  status(): SourceStatus[] {
    return this.#feed ? [this.#feed.status()] : [];
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#end.abort();
    await Promise.all([this.#announcer?.close(), this.#feed?.stop()]);
  }

  async #look(): Promise<void> {
    const vault = await this.#vault(0);
    await vault.renew((before) => makeIssuer(this.#start, this.#settings, before));
    const issuer = await vault.issuer(() => makeIssuer(this.#start, this.#settings));
    if (issuer.chain === this.#issuer?.chain) return;
    this.#issuer = issuer;
    this.#events.renewed(issuer);
  }

  #url(turn: number): string {
    const { endpoints } = this.#options.etcd;
    return endpoints[turn % endpoints.length] ?? '';
  }

  async #vault(turn: number): Promise<Vault> {
    const { etcd, keyFile } = this.#options;
    const access = await accessTo(this.#url(turn), etcd, this.#end.signal);
    return new Vault(access, `${etcd.prefix}authority`, await readKey(keyFile), this.#end.signal);
  }
}
