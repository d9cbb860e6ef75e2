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

const labels = ({ listener, route, cluster, protocol }: RouteStats): Record<string, string> => ({
  listener,
  route,
  cluster,
  protocol,
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

/** Adds the families to a registry; gives a function that takes them out. */
export function addTo(registry: MetricsRegistry, look: () => Promise<ProxyStats> | undefined): () => void {
  for (const { name, help, type, values } of families) {
    registry.registerMetric({
      name,
      async get() {
        const stats = await look();
        // In OpenMetrics a counter's family has no suffix, and its samples get it back.
        const base = registry.contentType.includes('openmetrics') ? name.replace(/_total$/, '') : name;
        return { name: base, help, type, aggregator: 'sum', values: stats ? values(stats) : [] };
      },
    });
  }
  return () => {
    for (const { name } of families) registry.removeSingleMetric(name);
  };
}
