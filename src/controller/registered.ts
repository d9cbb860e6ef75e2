/**
 * Endpoints that announce themselves: a sidecar is one from the moment it is ready until it drains.
 *
 * Whose endpoint it is follows from its certificate, and from nothing that it says: only who is `basket` answers for
 * `basket`. What it says is where it answers, and for which ports; a lie there harms nobody but its own service.
 *
 *     ready ──> here ──> draining ──> gone
 *                 └───── lost: it left without a word. Kept a while, since a network may be at fault; and as long as
 *                        it takes when it is the last one, since a list of nothing helps no caller.
 *
 * A sidecar that another one of its name came after, here or at another control plane, is none any more.
 */

import { EventEmitter, once } from 'node:events';
import { serverAddress } from '../discovery/endpoints.js';
import type { DiscoveredEndpoint, Source } from '../discovery/types.js';
import type { Claim, ControlEvent, Sidecar } from '../mesh/control-plane.js';
import { type Announced, claimKey, claimOf, isOvertaken, latestOf, namedIn } from './claims.js';

/** How long a sidecar is kept that left without a word. Callers step around one that does not answer. */
const LOST_MS = 10_000;
/** How long those are kept that a control plane knows from its last life: they come again within seconds. */
const RETURN_MS = 60_000;
/** The most lost ones of one service. */
const MAX_LOST = 1000;

/** The most goodbyes that are told to others at a time. */
const MAX_LEFT = 10_000;
/** The event of every change. */
const ANY = Symbol('any');

interface Entry {
  readonly endpoint: DiscoveredEndpoint;
  /** Who says that it is there: it itself, another control plane, or the last life of this one. */
  readonly by: 'itself' | 'another' | 'lastLife';
  /** Whether its time ends it also when it is the last one. */
  isDoubted?: boolean;
  /** The sidecar, where it came here itself. */
  readonly sidecar?: Claim;
  /** Ends its time when it is lost; absent while it is here. */
  timer?: NodeJS.Timeout | undefined;
  lost: boolean;
}

/** The sidecars that answer for services, by the services' identities. */
export class Registry {
  /** By identity, then by what the sidecar calls itself. */
  readonly #entries = new Map<string, Map<string, Entry>>();
  /** Who said goodbye, by identity and address: others hear it from us, and must not take it for a loss. */
  readonly #left = new Map<
    string,
    { readonly endpoint: DiscoveredEndpoint; readonly timer: NodeJS.Timeout }
  >();
  readonly #changes = new EventEmitter().setMaxListeners(0);
  readonly #lostMs: number;
  readonly #returnMs: number;
  /** Whether other control planes have told of theirs. */
  #isTold = false;
  /** All that they told last. */
  #theirs: readonly Announced[] = [];
  /** Who of theirs goes by which name. */
  #elsewhere: ReadonlyMap<string, Claim> = new Map();

  constructor({ lostMs = LOST_MS, returnMs = RETURN_MS }: { lostMs?: number; returnMs?: number } = {}) {
    this.#lostMs = lostMs;
    this.#returnMs = returnMs;
  }

  /** Those that were here when the process ended. They have a while to come again; others hear of them when they do. */
  restore(identity: string, endpoints: readonly DiscoveredEndpoint[]): void {
    for (const endpoint of endpoints) {
      const entry: Entry = { endpoint, by: 'lastLife', lost: true };
      this.#of(identity).set(`at ${endpoint.address}`, entry);
      this.#keep(identity, entry, this.#returnMs);
    }
  }

  /** What the control plane tells. */
  heard({ kind, ...details }: ControlEvent): void {
    const sidecar = details['sidecar'] as Sidecar | undefined;
    if (sidecar === undefined) return;
    if (kind === 'ready' || kind === 'draining') this.#here(sidecar, kind === 'draining');
    else if (kind === 'gone') this.#gone(sidecar.identity, sidecar.name, sidecar.phase === 'draining');
  }

  /** What is true when events were lost. */
  look(sidecars: readonly Sidecar[]): void {
    const there = new Set(sidecars.map(({ identity, name }) => `${identity} ${name}`));
    for (const [identity, entries] of this.#entries) {
      for (const [name, { lost, by }] of entries) {
        if (!lost && by === 'itself' && !there.has(`${identity} ${name}`)) this.#gone(identity, name, false);
      }
    }
    for (const sidecar of sidecars) {
      if (sidecar.phase !== 'connected') this.#here(sidecar, sidecar.phase === 'draining');
    }
  }

  /** The sidecars of other control planes, each with its identity: all there are. */
  told(all: readonly Announced[]): void {
    this.#theirs = all;
    this.#elsewhere = latestOf(all.flatMap((each) => claimOf(each) ?? []));
    const endpoints = all.map((each) => this.#unlessOvertaken(each));
    const there = new Set(endpoints.map(({ address, identity }) => `${identity} ${toldName(address)}`));
    for (const [identity, entries] of this.#entries) {
      const known = [...entries.values()];
      // Those are not lost: they have come here.
      const here = new Set(
        known.flatMap(({ by, lost, endpoint }) => (by === 'itself' && !lost ? [endpoint.address] : [])),
      );
      for (const [name, { by, endpoint }] of entries) {
        if (by === 'another' && !there.has(`${identity} ${name}`))
          this.#gone(identity, name, endpoint.draining === true || here.has(endpoint.address));
      }
    }
    for (const { identity, ...endpoint } of endpoints) {
      if (identity === undefined) continue;
      const name = toldName(endpoint.address);
      const known = this.#of(identity).get(name);
      const isSame = known?.lost === false && JSON.stringify(known.endpoint) === JSON.stringify(endpoint);
      if (!isSame) this.#put(identity, name, endpoint, 'another');
    }
    if (!this.#isTold) this.#doubt();
    this.#isTold = true;
    this.#giveWay();
  }

  /** One of another control plane. Nobody is sent to one that has lost its name, though that one may not know it yet. */
  #unlessOvertaken(announced: Announced): DiscoveredEndpoint {
    const { sidecar: _, ...endpoint } = announced;
    const claim = claimOf(announced);
    if (claim === undefined) return endpoint;
    const here = this.#entries.get(claim.identity)?.get(claim.name);
    const isLost =
      isOvertaken(claim, this.#elsewhere.get(claimKey(claim))) || isOvertaken(claim, here?.sidecar);
    return isLost ? { ...endpoint, draining: true } : endpoint;
  }

  /** Forgets those that others have come after, elsewhere. */
  #giveWay(): void {
    for (const claim of this.#elsewhere.values()) {
      const { identity, name } = claim;
      const entry = this.#entries.get(identity)?.get(name);
      if (entry?.sidecar === undefined || !isOvertaken(entry.sidecar, claim)) continue;
      clearTimeout(entry.timer);
      this.#of(identity).delete(name);
      this.#emit(identity);
    }
  }

  /** Others know all who stayed while this control plane was away: whoever is left of its last life has gone, or comes soon. */
  #doubt(): void {
    for (const [identity, entries] of this.#entries) {
      const all = [...entries.values()];
      const isAlone = all.every(({ lost }) => lost);
      for (const entry of all) {
        if (entry.by !== 'lastLife') continue;
        entry.isDoubted = true;
        // With nobody else to call it has all of its time.
        if (!isAlone || entry.timer === undefined) this.#keep(identity, entry, this.#lostMs);
      }
    }
  }

  /** Those that this life of the control plane has seen, each with its identity; for a while also those that left. */
  own(): Announced[] {
    const here = [...this.#entries].flatMap(([identity, entries]) =>
      [...entries.values()].flatMap(({ by, endpoint, sidecar }) =>
        by === 'itself' ? [{ ...endpoint, identity, ...(sidecar && { sidecar: namedIn(sidecar) }) }] : [],
      ),
    );
    const keys = new Set(here.map(({ identity, address }) => `${identity} ${address}`));
    const left = [...this.#left].flatMap(([key, { endpoint }]) => (keys.has(key) ? [] : [endpoint]));
    return [...here, ...left];
  }

  /** Calls after every change. */
  onChange(changed: () => void): void {
    this.#changes.on(ANY, changed);
  }

  /** The sidecars of one identity as a source. */
  source(identity: string): Source {
    // Of those at one address the last one counts.
    const list = (): DiscoveredEndpoint[] =>
      [...(this.#entries.get(identity)?.values() ?? [])]
        .sort((a, b) => trust(a) - trust(b))
        .map(({ endpoint }) => endpoint);
    const changes = this.#changes;
    return async function* (signal) {
      for (;;) {
        // Before the list is read, so that no change falls between.
        const changed = once(changes, identity, { signal });
        changed.catch(() => {});
        yield { set: list() };
        await changed;
      }
    };
  }

  /** Forgets everybody. */
  close(): void {
    for (const entries of this.#entries.values())
      for (const { timer } of entries.values()) clearTimeout(timer);
    for (const { timer } of this.#left.values()) clearTimeout(timer);
    this.#entries.clear();
    this.#left.clear();
  }

  #of(identity: string): Map<string, Entry> {
    const entries = this.#entries.get(identity) ?? new Map<string, Entry>();
    this.#entries.set(identity, entries);
    return entries;
  }

  #here(sidecar: Sidecar, draining: boolean): void {
    const { identity, name } = sidecar;
    const address = serverAddress(sidecar.inboundAddress);
    // One that offers nothing calls others only.
    if (address === undefined || sidecar.services.length === 0) return;
    const claim = { identity, ...namedIn(sidecar) };
    const elsewhere = this.#elsewhere.get(claimKey(claim));
    // What was said before it lost its name is heard late.
    if (isOvertaken(claim, elsewhere)) return;
    const ports = sidecar.services.map(({ port }) => port);
    this.#put(identity, name, { address, ports, ...(draining && { draining }) }, 'itself', claim);
    if (elsewhere && isOvertaken(elsewhere, claim)) this.told(this.#theirs);
  }

  #put(identity: string, name: string, endpoint: DiscoveredEndpoint, by: Entry['by'], sidecar?: Claim): void {
    const { address } = endpoint;
    const entries = this.#of(identity);
    for (const [other, { endpoint: known, lost, timer }] of entries) {
      if (other !== name && !(lost && known.address === address)) continue;
      clearTimeout(timer);
      entries.delete(other);
    }
    entries.set(name, { endpoint, by, lost: false, ...(sidecar && { sidecar }) });
    // From now on there is somebody to call instead of the lost ones.
    for (const entry of entries.values()) {
      if (entry.lost && entry.timer === undefined) this.#keep(identity, entry, this.#lostMs);
    }
    this.#emit(identity);
  }

  #emit(identity: string): void {
    this.#changes.emit(identity);
    this.#changes.emit(ANY);
  }

  #gone(identity: string, name: string, saidSo: boolean): void {
    const entries = this.#of(identity);
    const entry = entries.get(name);
    if (entry === undefined || entry.lost) return;
    if (saidSo) {
      entries.delete(name);
      if (entry.by === 'itself') this.#remember(identity, entry.endpoint);
      this.#emit(identity);
      return;
    }
    entry.lost = true;
    this.#keep(identity, entry, this.#lostMs);
    const { address } = entry.endpoint;
    const isToldOf = [...entries.values()].some(
      (each) => each !== entry && each.endpoint.address === address,
    );
    // Another one knows better from now on.
    if (isToldOf) this.#emit(identity);
    const lost = [...entries].filter(([, each]) => each.lost);
    for (const [oldest, { timer }] of lost.slice(0, Math.max(0, lost.length - MAX_LOST))) {
      clearTimeout(timer);
      entries.delete(oldest);
    }
  }

  /** Tells others for a while that it drains, and not that it is lost. */
  #remember(identity: string, endpoint: DiscoveredEndpoint): void {
    const key = `${identity} ${endpoint.address}`;
    clearTimeout(this.#left.get(key)?.timer);
    const oldest = this.#left.size >= MAX_LEFT ? this.#left.keys().next().value : undefined;
    if (oldest !== undefined) {
      clearTimeout(this.#left.get(oldest)?.timer);
      this.#left.delete(oldest);
    }
    const timer = setTimeout(() => {
      this.#left.delete(key);
      this.#emit(identity);
    }, this.#lostMs).unref();
    this.#left.set(key, { endpoint: { ...endpoint, draining: true, identity }, timer });
  }

  /** For so long, or until somebody else is here. */
  #keep(identity: string, entry: Entry, ms: number): void {
    clearTimeout(entry.timer);
    entry.timer = setTimeout(() => {
      entry.timer = undefined;
      const entries = this.#of(identity);
      if (entry.isDoubted !== true && ![...entries.values()].some(({ lost }) => !lost)) return;
      for (const [name, each] of entries) if (each === entry) entries.delete(name);
      this.#emit(identity);
    }, ms).unref();
  }
}

/** How far a word on an address is believed: that of who is connected here most, and that of who is lost least. */
const trust = ({ by, lost }: Entry): number => (lost ? 0 : by === 'another' ? 1 : 2);
const toldName = (address: string): string => `told ${address}`;
