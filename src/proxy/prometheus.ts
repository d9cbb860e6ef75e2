/**
 * The few families that an application wants in its own registry of prom-client; the core's text has them all.
 *
 * Metrics are read at scrape time from one look at the core, whose counters are its own: nothing is counted twice.
 */

import type { MetricsRegistry, ProxyStats, RouteStats } from './types.js';

interface Value {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge';
  readonly values: (stats: ProxyStats) => Value[];
}

const labels = ({ listener, route, cluster, protocol, peer }: RouteStats): Record<string, string> => ({
  listener,
  route,
  cluster,
  protocol,
  ...(peer !== undefined && { peer }),
});

const perRoute =
  (value: (route: RouteStats) => number) =>
  (stats: ProxyStats): Value[] =>
    stats.routes.map((route) => ({ labels: labels(route), value: value(route) }));

const families: readonly Family[] = [
  {
    name: 'mesh_requests_total',
    help: 'Requests, calls and streams that began.',
    type: 'counter',
    values: perRoute((route) => route.requests),
  },
  {
    name: 'mesh_request_failures_total',
    help: 'Requests, calls and streams that failed through the server or the proxy.',
    type: 'counter',
    values: perRoute((route) => route.failures),
  },
  {
    name: 'mesh_requests_active',
    help: 'Requests, calls and streams in flight.',
    type: 'gauge',
    values: perRoute((route) => route.active),
  },
  {
    name: 'mesh_connections_active',
    help: 'Open connections of clients.',
    type: 'gauge',
    values: ({ listeners }) =>
      listeners.map(({ name, active }) => ({ labels: { listener: name }, value: active })),
  },
];

/** Looks at one proxy; undefined while it does not run. */
type Look = () => Promise<ProxyStats | undefined>;

/** Which proxies a registry tells of: several may share one. */
const looks = new WeakMap<MetricsRegistry, Set<Look>>();

/** Adds a proxy to a registry; gives a function that takes it out. */
export function addTo(registry: MetricsRegistry, look: Look): () => void {
  const known = looks.get(registry);
  if (known) known.add(look);
  else addFamilies(registry, look);
  return () => {
    const left = looks.get(registry);
    if (!left?.delete(look) || left.size > 0) return;
    looks.delete(registry);
    for (const { name } of families) registry.removeSingleMetric(name);
  };
}

function addFamilies(registry: MetricsRegistry, first: Look): void {
  const all = new Set([first]);
  const added: string[] = [];
  try {
    for (const family of families) {
      registry.registerMetric(metricOf(family, registry, all));
      added.push(family.name);
    }
  } catch (error) {
    // A registry that has one of the names already gets none of ours.
    for (const name of added) registry.removeSingleMetric(name);
    throw error;
  }
  looks.set(registry, all);
}

/** A metric as prom-client keeps it: asked for its values at each scrape. */
function metricOf({ name, help, type, values }: Family, registry: MetricsRegistry, all: Set<Look>): object {
  return {
    name,
    async get() {
      const stats = await Promise.all([...all].map((look) => look()));
      // In OpenMetrics a counter's family has no suffix, and its samples get it back.
      const base = registry.contentType.includes('openmetrics') ? name.replace(/_total$/, '') : name;
      const seen = stats.flatMap((each) => (each ? values(each) : []));
      return { name: base, help, type, aggregator: 'sum', values: summed(seen) };
    },
  };
}

/** One value for each set of labels: two proxies may use the same names. */
function summed(values: readonly Value[]): Value[] {
  const sums = new Map<string, Value>();
  for (const { labels: names, value } of values) {
    const key = JSON.stringify(names);
    sums.set(key, { labels: names, value: value + (sums.get(key)?.value ?? 0) });
  }
  return [...sums.values()];
}
