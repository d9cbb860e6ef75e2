/** What do people want to know of a mesh? Pure: from its status to rows. */

import { percentileMs, together } from './times.js';
import type { EdgeStatus, MeshStatus } from './types.js';

/** How a service or an edge is doing. */
export interface Doing {
  /** The caller's identity, empty for one that proved none; absent for a service as a whole. */
  readonly from?: string;
  /** `basket.shop:3000`. */
  readonly to: string;
  /** Who that is, as its sidecars proved it; absent for a service as a whole, empty where none of them has told of it. */
  readonly toIdentity?: string;
  readonly requests: number;
  readonly rate: number;
  /** 0 to 1; null before anything was asked. */
  readonly successRate: number | null;
  /** The share between proven identities. */
  readonly mtls: number | null;
  readonly denied: number;
  /** What passed and would be denied, were the policies in audit mode enforced. */
  readonly audited: number;
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

/**
 * Who talks to whom, as callers saw it; where no sidecar of theirs tells of it, as the called did. What was denied or would
 * be, the called says in any case.
 */
export function edgesOf({ edges }: MeshStatus, from?: string, to?: string): Doing[] {
  const { outbound, inbound } = sidesOf(edges);
  const pairOf = (edge: EdgeStatus): string => `${callerOf(edge)} ${targetOf(edge)}`;
  const told = new Set(outbound.flatMap((edge) => [pairOf(edge), `${callerOf(edge)} ${edge.service}`]));
  const untold = inbound.filter((edge) => !told.has(pairOf(edge)));
  return grouped([...outbound, ...untold], pairOf)
    .map(([first, ...rest]) => {
      const toIdentity = inbound.find(({ service }) => service === first.service)?.identity ?? '';
      const row = { from: callerOf(first), toIdentity, ...doing([first, ...rest]) };
      if (first.direction === 'inbound') return row;
      const own = inbound.filter((edge) => callerOf(edge) === callerOf(first) && isMeant(edge, first));
      return { ...row, ...judged(own) };
    })
    .filter((edge) => matches(from, edge.from) && matches(to, edge.to));
}

/**
 * How services are doing, as their callers saw it; where none does, as they themselves saw it. What was denied or would be,
 * and what came with an identity, they say in any case: others than their callers' sidecars may call.
 */
export function servicesOf({ edges }: MeshStatus, to?: string): Doing[] {
  const { outbound, inbound } = sidesOf(edges);
  const called = new Set(outbound.flatMap((edge) => [targetOf(edge), edge.service]));
  const uncalled = inbound.filter((edge) => !called.has(targetOf(edge)));
  return grouped([...outbound, ...uncalled], targetOf)
    .map((group) => {
      const [first] = group;
      const own = inbound.filter((edge) => isMeant(edge, first));
      const arrived = own.filter((edge) => edge.port === first.port);
      return { ...doing(group), mtls: mtlsOf(arrived) ?? mtlsOf(group), ...judged(own) };
    })
    .filter((service) => matches(to, service.to));
}

type Group = readonly [EdgeStatus, ...EdgeStatus[]];

function sidesOf(edges: readonly EdgeStatus[]): { outbound: EdgeStatus[]; inbound: EdgeStatus[] } {
  const of = (side: EdgeStatus['direction']) => edges.filter(({ direction }) => direction === side);
  return { outbound: of('outbound'), inbound: of('inbound') };
}

/** Empty for one that proved no identity. */
export const callerOf = ({ direction, identity, peer }: EdgeStatus): string =>
  direction === 'outbound' ? identity : peer;

/** `basket.shop:3000`. */
export const targetOf = ({ service, port }: EdgeStatus): string =>
  port === 0 ? service : `${service}:${port}`;

/** Whether what somebody called may have been this: who called none of a service's ports may have meant any. */
const isMeant = (edge: EdgeStatus, { service, port }: EdgeStatus): boolean =>
  edge.service === service && (edge.port === port || edge.port === 0);

function grouped(edges: readonly EdgeStatus[], keyOf: (edge: EdgeStatus) => string): Group[] {
  const groups = new Map<string, [EdgeStatus, ...EdgeStatus[]]>();
  for (const edge of edges) {
    const group = groups.get(keyOf(edge));
    if (group) group.push(edge);
    else groups.set(keyOf(edge), [edge]);
  }
  return [...groups.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, group]) => group);
}

const sumOf = (edges: readonly EdgeStatus[], of: (edge: EdgeStatus) => number): number =>
  edges.reduce((all, edge) => all + of(edge), 0);

/** What policy says of them. */
const judged = (edges: readonly EdgeStatus[]): Pick<Doing, 'denied' | 'audited'> => ({
  denied: sumOf(edges, ({ denied }) => denied),
  audited: sumOf(edges, ({ audited }) => audited),
});

/** The share of requests between proven identities; null where there were none. */
function mtlsOf(edges: readonly EdgeStatus[]): number | null {
  const requests = sumOf(edges, (edge) => edge.requests);
  return requests === 0 ? null : sumOf(edges, (edge) => (edge.mtls ? edge.requests : 0)) / requests;
}

/** A service that nobody has called. */
export const nothingTo = (to: string): Doing => ({
  to,
  requests: 0,
  rate: 0,
  successRate: null,
  mtls: null,
  denied: 0,
  audited: 0,
  p50Ms: null,
  p95Ms: null,
  p99Ms: null,
});

function doing(group: Group): Doing {
  const requests = sumOf(group, (edge) => edge.requests);
  const failed = sumOf(group, (edge) => Object.values(edge.failures).reduce((all, count) => all + count, 0));
  const times = together(group.map(({ timesNs }) => timesNs));
  return {
    to: targetOf(group[0]),
    requests,
    rate: sumOf(group, (edge) => edge.rate),
    successRate: requests === 0 ? null : Math.max(requests - failed, 0) / requests,
    mtls: mtlsOf(group),
    ...judged(group),
    p50Ms: percentileMs(times, 0.5),
    p95Ms: percentileMs(times, 0.95),
    p99Ms: percentileMs(times, 0.99),
  };
}
