/**
 * Who answers for each service?
 *
 *     source ──> feed ──┐
 *     source ──> feed ──┴─ union ──> endpoints of a service, told when they are others than before
 *
 * Changes that come close together are told together, so that a source that speaks of each endpoint by itself is no
 * storm for those who listen.
 */

import { Feed } from './feed.js';
import { union } from './endpoints.js';
import type { DiscoveredEndpoint, NamedSource, SourceEvent, SourceStatus } from './types.js';

/** How long changes wait for others: short beside the 50 ms in which a sidecar is to know, long beside a burst. */
const TOGETHER_MS = 10;
/** What those are called in a snapshot that a service has no more. */
const LEAVING = 'leaving';
/** What all sources had, by service and by the name of the source. */
export type Snapshot = Record<string, Record<string, readonly DiscoveredEndpoint[]>>;

/** Who hears of endpoints. */
interface DirectoryOptions {
  /** What was known when the process ended. */
  readonly known?: Snapshot;
  /** These services have other endpoints now. */
  readonly changed: (services: ReadonlySet<string>) => void;
  readonly tell: (event: SourceEvent) => void;
  /** How long changes wait for others. Default: 10 ms. */
  readonly togetherMs?: number;
}

/** The sources of all services. */
export class Directory {
  readonly #options: DirectoryOptions;
  readonly #feeds = new Map<string, Map<string, Feed>>();
  /** Sources that a service has no more: what they had stays until those that it has now have said all there is. */
  readonly #leaving = new Map<string, (readonly DiscoveredEndpoint[])[]>();
  /** What the first sources of each service begin with. */
  #known: Snapshot;
  /** What was told last, to tell nothing twice. */
  readonly #told = new Map<string, string>();
  readonly #changed = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #closed: () => void = () => {};
  /** Is told of each source that has something to say. */
  #spoke: (feed: Feed) => void = () => {};

  constructor(options: DirectoryOptions) {
    this.#options = options;
    this.#known = options.known ?? {};
  }

  /** From now on services have these sources. One that stays the same goes on; the endpoints of one that goes, go. */
  apply(wanted: ReadonlyMap<string, readonly NamedSource[]>): void {
    for (const [service, feeds] of this.#feeds) {
      const stay = wanted.get(service) ?? [];
      for (const [name, feed] of feeds) {
        if (stay.some((source) => source.name === name && source.key === feed.key)) continue;
        void feed.stop();
        feeds.delete(name);
        this.#leave(service, [...feed.endpoints]);
      }
      if (feeds.size === 0) this.#feeds.delete(service);
    }
    for (const [service, sources] of wanted) {
      for (const source of sources) this.#begin(service, source);
      for (const [name, endpoints] of Object.entries(this.#known[service] ?? {})) {
        // The mesh file may be another one since, or those were leaving already.
        if (!sources.some((source) => source.name === name)) this.#leave(service, endpoints);
      }
    }
    this.#known = {};
    for (const service of this.#leaving.keys()) this.#letGo(service);
  }

  #leave(service: string, endpoints: readonly DiscoveredEndpoint[]): void {
    if (endpoints.length > 0) this.#leaving.set(service, [...(this.#leaving.get(service) ?? []), endpoints]);
  }

  #letGo(service: string): void {
    const feeds = [...(this.#feeds.get(service)?.values() ?? [])];
    if (!feeds.every(({ hasSaidAll }) => hasSaidAll)) return;
    if (this.#leaving.delete(service)) this.#note(service);
  }

  #begin(service: string, source: NamedSource): void {
    const feeds = this.#feeds.get(service) ?? new Map<string, Feed>();
    if (feeds.has(source.name)) return;
    const known = this.#known[service]?.[source.name];
    const feed: Feed = new Feed({
      service,
      source,
      ...(known && { known }),
      changed: () => {
        this.#letGo(service);
        this.#note(service);
        this.#spoke(feed);
      },
      tell: (event) => {
        this.#options.tell(event);
        this.#spoke(feed);
      },
    });
    feeds.set(source.name, feed);
    this.#feeds.set(service, feeds);
  }

  /** Who answers for a service, by address. */
  endpoints(service: string): DiscoveredEndpoint[] {
    const feeds = [...(this.#feeds.get(service)?.values() ?? [])];
    return union([...feeds.map(({ endpoints }) => endpoints), ...(this.#leaving.get(service) ?? [])]);
  }

  status(): SourceStatus[] {
    return this.#all().map((feed) => feed.status());
  }

  /** What to know when the next process begins. */
  snapshot(): Snapshot {
    return Object.fromEntries(
      [...this.#feeds].map(([service, feeds]) => [
        service,
        Object.fromEntries([
          ...[...feeds].map(([name, { endpoints }]) => [name, [...endpoints]] as const),
          // Each by itself: together they may be more than one source may have.
          ...(this.#leaving.get(service) ?? []).map((list, at) => [`${LEAVING} ${at}`, list] as const),
        ]),
      ]),
    );
  }

  /** Resolves when every source has said all there is or has failed, and after this time at the latest. */
  async spoken(longestMs: number): Promise<void> {
    const silent = new Set(this.#all().filter(({ hasSpoken }) => !hasSpoken));
    if (silent.size === 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, longestMs);
      this.#spoke = (feed) => {
        if (feed.hasSpoken) silent.delete(feed);
        if (silent.size > 0) return;
        clearTimeout(timer);
        resolve();
      };
      this.#closed = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#spoke = () => {};
  }

  /** Ends all sources. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#closed();
    const all = this.#all();
    this.#feeds.clear();
    await Promise.all(all.map((feed) => feed.stop()));
  }

  #all(): Feed[] {
    return [...this.#feeds.values()].flatMap((feeds) => [...feeds.values()]);
  }

  #note(service: string): void {
    this.#changed.add(service);
    // Counted from the first change: one that never rests is told all the same.
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#flush();
    }, this.#options.togetherMs ?? TOGETHER_MS);
  }

  #flush(): void {
    const others = new Set<string>();
    for (const service of this.#changed) {
      const text = JSON.stringify(this.endpoints(service));
      if (this.#told.get(service) === text) continue;
      if (this.#feeds.has(service)) this.#told.set(service, text);
      else this.#told.delete(service);
      others.add(service);
    }
    this.#changed.clear();
    if (others.size > 0) this.#options.changed(others);
  }
}
