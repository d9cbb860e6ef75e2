/**
 * What has each route done lately?
 *
 * The proxy counts since its start. Two looks at it, a window apart, tell what happened in between: counts by
 * subtraction, percentiles from the difference of the histograms.
 */

import type { DurationStats, ProxyStats, RouteStats } from '../index.js';

/** What happened on a route within the window. */
export interface Row {
  readonly route: string;
  readonly perSecond: number;
  /** 0 to 1; null when nothing ended. */
  readonly success: number | null;
  readonly p50: number | null;
  readonly p95: number | null;
  readonly p99: number | null;
  /** `2/2`: those that may be used, of all. */
  readonly endpoints: string;
}

interface Look {
  readonly at: number;
  readonly stats: ProxyStats;
}

/** Keeps looks at the proxy for as long as the window is. */
export class Window {
  readonly #spanMs: number;
  readonly #looks: Look[] = [];

  constructor(spanMs: number) {
    this.#spanMs = spanMs;
  }

  /** What happened between the oldest look within the window and this one. */
  rows(stats: ProxyStats, at: number): Row[] {
    while (this.#looks.length > 1 && at - (this.#looks[0]?.at ?? at) > this.#spanMs) this.#looks.shift();
    const before = this.#looks[0];
    this.#looks.push({ at, stats });
    const seconds = before ? (at - before.at) / 1000 : 0;
    return stats.routes.map((route) => row(route, before && routeOf(before.stats, route), seconds, stats));
  }
}

function routeOf({ routes }: ProxyStats, wanted: RouteStats): RouteStats | undefined {
  return routes.find(
    ({ listener, route, cluster, protocol }) =>
      listener === wanted.listener &&
      route === wanted.route &&
      cluster === wanted.cluster &&
      protocol === wanted.protocol,
  );
}

function row(now: RouteStats, before: RouteStats | undefined, seconds: number, stats: ProxyStats): Row {
  const durations = difference(now.duration, before?.duration);
  const ended = now.duration.count - (before?.duration.count ?? 0);
  const failed = now.failures - (before?.failures ?? 0);
  const requests = now.requests - (before?.requests ?? 0);
  const endpoints = stats.clusters.find(({ name }) => name === now.cluster)?.endpoints ?? [];
  const usable = endpoints.filter(({ state }) => state === 'available').length;
  return {
    route: now.route,
    perSecond: seconds > 0 ? requests / seconds : 0,
    success: ended > 0 ? (ended - failed) / ended : null,
    p50: percentile(durations, 0.5),
    p95: percentile(durations, 0.95),
    p99: percentile(durations, 0.99),
    endpoints: `${usable}/${endpoints.length}`,
  };
}

type Buckets = readonly (readonly [upperMs: number | null, count: number])[];

function difference(now: DurationStats, before: DurationStats | undefined): Buckets {
  const old = new Map(before?.buckets);
  return now.buckets
    .map(([upper, count]) => [upper, count - (old.get(upper) ?? 0)] as const)
    .filter(([, count]) => count > 0);
}

/** The upper border of the bucket that holds it: no more than that. */
function percentile(buckets: Buckets, share: number): number | null {
  const all = buckets.reduce((sum, [, count]) => sum + count, 0);
  let rank = Math.ceil(all * share);
  for (const [upper, count] of buckets) {
    rank -= count;
    if (rank <= 0) return upper;
  }
  return null;
}

const COLUMNS = [
  ['route', 12],
  ['requests/s', 12],
  ['success', 10],
  ['p50', 10],
  ['p95', 10],
  ['p99', 10],
  ['endpoints', 11],
] as const;

function line(cells: readonly string[]): string {
  return cells
    .map((cell, index) => {
      const width = COLUMNS[index]?.[1] ?? 0;
      return index === 0 ? cell.padEnd(width) : cell.padStart(width);
    })
    .join('')
    .trimEnd();
}

export const HEADING = line(COLUMNS.map(([name]) => name));

/** A row as a line below the heading. */
export function render({ route, perSecond, success, p50, p95, p99, endpoints }: Row): string {
  return line([
    route,
    perSecond.toFixed(1),
    success === null ? '-' : `${(100 * success).toFixed(1)} %`,
    milliseconds(p50),
    milliseconds(p95),
    milliseconds(p99),
    endpoints,
  ]);
}

function milliseconds(value: number | null): string {
  return value === null ? '-' : `${value.toFixed(value < 10 ? 2 : 0)} ms`;
}
