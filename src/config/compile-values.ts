/** The small pieces that every part of the compiler uses. */

import { hostAndPort, address, sizeBytes } from './formats.js';
import type { Path } from './path.js';
import type { Cluster, Resources, WeightedCluster } from './resources.js';
import type { SourceMap } from './source-map.js';
import type { TargetsConfig } from './types.js';

/** An object without its undefined members: what is absent in the configuration is absent in the resources. */
export function present<T extends object>(object: T): T {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as T;
}

/** One or several, as several. */
export function listed<T>(value: T | readonly T[] | undefined): readonly T[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? (value as readonly T[]) : [value as T];
}

/** A list, or undefined when it is empty. */
export function filled<T>(list: T[]): T[] | undefined {
  return list.length > 0 ? list : undefined;
}

/** The place of the nth of `listed`. */
export function itemPath(value: unknown, path: Path, index: number): Path {
  return Array.isArray(value) ? [...path, index] : path;
}

/** Bytes, from a number or a size such as `64KiB`. */
export function bytesOf(value: number | string | undefined): number | undefined {
  return typeof value === 'string' ? sizeBytes(value) : value;
}

/** What the parts of one compilation share: what was made so far, and where it came from. */
export class Compilation {
  readonly resources: Resources = { listeners: [], routeTables: [], clusters: [], endpoints: [] };
  /** The names of the route tables so far. */
  readonly tables = new Set<string>();
  /** Of a table's name that was wanted: the first number that may be free. */
  readonly #numbers = new Map<string, number>();
  readonly #declared: ReadonlySet<string>;
  readonly #made = new Set<string>();
  readonly #anonymous: { cluster: Cluster; address: string | undefined; from: Path }[] = [];
  readonly sources: SourceMap;
  readonly #placed: (address: string) => string;

  /** `placed` makes the path of a Unix socket absolute. */
  constructor(
    declaredClusters: Iterable<string>,
    sources: SourceMap,
    placed: (written: string) => string = (written) => written,
  ) {
    this.#declared = new Set(declaredClusters);
    this.sources = sources;
    this.#placed = placed;
  }

  /** `web`, or else `web.routes`, `web.routes2` and so on. Of ten thousand that are called alike each is looked for once. */
  freeTable(wanted: string): string {
    for (let number = this.#numbers.get(wanted) ?? 0; ; number += 1) {
      const free = number === 0 ? wanted : `${wanted}.routes${number === 1 ? '' : number}`;
      if (this.tables.has(free)) continue;
      this.#numbers.set(wanted, number + 1);
      return free;
    }
  }

  /** The weighted clusters that targets stand for. An address that is no cluster's name becomes a cluster. */
  targets(targets: TargetsConfig, resource: Path, config: Path): WeightedCluster[] {
    return listed(targets).map((target, index) => {
      const from = itemPath(targets, config, index);
      const made = [...resource, index];
      this.sources.set(made, from);
      if (typeof target !== 'string') {
        this.#need(target.cluster, [...from, 'cluster']);
        return present({ cluster: target.cluster, weight: target.weight });
      }
      this.sources.set([...made, 'cluster'], from);
      this.#need(target, from);
      return { cluster: target };
    });
  }

  #need(name: string, from: Path): void {
    if (this.#declared.has(name) || this.#made.has(name)) return;
    const dns = hostAndPort(name);
    if (address.accepts(name)) {
      this.#anonymous.push({ cluster: { name }, address: this.#placed(name), from });
    } else if (dns) {
      this.#anonymous.push({
        cluster: { name, discovery: { kind: 'dns', ...dns } },
        address: undefined,
        from,
      });
    } else {
      return; // A name that nothing has: the core says so.
    }
    this.#made.add(name);
  }

  /** Adds the clusters that addresses stand for. They come after the declared ones, in order of first use. */
  addAnonymousClusters(): void {
    const { clusters, endpoints } = this.resources;
    for (const { cluster, address: only, from } of this.#anonymous) {
      this.sources.set(['clusters', clusters.length], from);
      clusters.push(cluster);
      if (only === undefined) continue;
      this.sources.set(['endpoints', endpoints.length], from);
      endpoints.push({ cluster: cluster.name, localities: [{ endpoints: [{ address: only }] }] });
    }
  }
}
