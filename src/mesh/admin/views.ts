/** What do people want to know of a mesh? Pure: from its status to rows. */

import type { EdgeStatus, MeshStatus } from './types.js';

/** How a service or an edge is doing. */
export interface Doing {
  /** The caller's identity; absent for a service as a whole. */
  readonly from?: string;
  /** `basket.shop:3000`. */
  readonly to: string;
  readonly requests: number;
  readonly rate: number;
  /** 0 to 1; null before anything was asked. */
  readonly successRate: number | null;
  /** The share between proven identities. */
  readonly mtls: number | null;
  readonly denied: number;
  readonly p50Ms: number | null;
  readonly p95Ms: number | null;
  readonly p99Ms: number | null;
}

/** Callers and services by short or whole name: `web` means `spiffe://.../ns/.../sa/web`. */
export function matches(wanted: string | undefined, name: string): boolean {
  if (wanted === undefined) return true;
  const [host = '', port] = name.split(/:(?=\d+$)/);
  return (
    wanted === name ||
    wanted === host ||
    wanted === `${host.split('.')[0]}${port === undefined ? '' : `:${port}`}` ||
    wanted === host.split('.')[0] ||
    name.endsWith(`/sa/${wanted}`)
  );
}

/** Who talks to whom, as callers saw it. */
export function edgesOf({ edges }: MeshStatus, from?: string, to?: string): Doing[] {
  const outbound = edges.filter(({ direction }) => direction === 'outbound');
  return grouped(outbound, (edge) => `${edge.identity} ${targetOf(edge)}`)
    .map((group) => ({ from: group[0]?.identity ?? '', ...doing(group) }))
    .filter((edge) => matches(from, edge.from) && matches(to, edge.to));
}

/** How services are doing, as their callers saw it; what was denied, as they themselves saw it. */
export function servicesOf({ edges }: MeshStatus, to?: string): Doing[] {
  const outbound = edges.filter(({ direction }) => direction === 'outbound');
  const inbound = edges.filter(({ direction }) => direction === 'inbound');
  const deniedOf = (name: string): number =>
    inbound.reduce((all, { service, denied }) => all + (service === name ? denied : 0), 0);
  return grouped(outbound, targetOf)
    .map((group) => ({ ...doing(group), denied: deniedOf(group[0]?.service ?? '') }))
    .filter((service) => matches(to, service.to));
}

const targetOf = ({ service, port }: EdgeStatus): string => (port === 0 ? service : `${service}:${port}`);

function grouped(edges: readonly EdgeStatus[], keyOf: (edge: EdgeStatus) => string): EdgeStatus[][] {
  const groups = new Map<string, EdgeStatus[]>();
  for (const edge of edges) {
    const group = groups.get(keyOf(edge));
    if (group) group.push(edge);
    else groups.set(keyOf(edge), [edge]);
  }
  return [...groups.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, group]) => group);
}

function doing(group: readonly EdgeStatus[]): Doing {
  const sum = (of: (edge: EdgeStatus) => number): number => group.reduce((all, edge) => all + of(edge), 0);
  const requests = sum((edge) => edge.requests);
  const failed = sum((edge) => Object.values(edge.failures).reduce((all, count) => all + count, 0));
  const share = (count: number): number | null => (requests === 0 ? null : count / requests);
  // Edges of several protocols are one row: the slowest speaks for it, since percentiles can't be added.
  const slowest = (of: 'p50' | 'p95' | 'p99'): number | null => {
    const all = group.flatMap(({ latencyNs }) => (latencyNs ? [latencyNs[of]] : []));
    return all.length === 0 ? null : Math.max(...all) / 1e6;
  };
  const [first] = group;
  return {
    to: first ? targetOf(first) : '',
    requests,
    rate: sum((edge) => edge.rate),
    successRate: share(Math.max(requests - failed, 0)),
    mtls: share(sum((edge) => (edge.mtls ? edge.requests : 0))),
    denied: sum((edge) => edge.denied),
    p50Ms: slowest('p50'),
    p95Ms: slowest('p95'),
    p99Ms: slowest('p99'),
  };
}
