/** How long did the calls of several edges take together? Percentiles can't be added, counts can. */

/** Nanoseconds, as closely as they are counted (a tenth more or less), and how many took so long; the shortest first. */
export type Times = readonly (readonly [ns: number, count: number])[];

/** What is in all of these and, where `less` is given, was not in that before. */
export function together(all: readonly Times[], less: Times = []): Times {
  const counts = new Map<number, number>();
  for (const times of all) for (const [ns, count] of times) counts.set(ns, (counts.get(ns) ?? 0) + count);
  for (const [ns, count] of less) counts.set(ns, (counts.get(ns) ?? 0) - count);
  return [...counts].filter(([, count]) => count > 0).sort(([a], [b]) => a - b);
}

/** What so large a share of them did not exceed, in milliseconds; null where there are none. */
export function percentileMs(times: Times, share: number): number | null {
  const all = times.reduce((sum, [, count]) => sum + count, 0);
  let left = Math.max(Math.ceil(share * all), 1);
  for (const [ns, count] of times) {
    left -= count;
    if (left <= 0) return ns / 1e6;
  }
  return null;
}
