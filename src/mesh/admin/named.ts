/** Whom does somebody mean who asks about one service? One of the mesh file, or somebody who was seen. */

import { nearest } from '../../config/suggest.js';
import { identityOf } from '../names.js';
import type { MeshStatus } from './types.js';
import { type Doing, callerOf, edgesOf, matches, nothingTo, servicesOf, targetOf } from './views.js';

/** Who is asked about. */
export interface Asked {
  readonly from?: string | undefined;
  readonly to?: string | undefined;
}

/** What is wrong with the names, in words. */
export function unknownNames(status: MeshStatus, { from, to }: Asked): string[] {
  return [
    ...problem(from, callersOf(status)),
    ...problem(to, [...status.declared, ...status.edges.map(targetOf)]),
  ];
}

/** How services are doing, or edges where somebody asks from whom. Who was not called is asked about in vain otherwise. */
export function statOf(status: MeshStatus, { from, to }: Asked): Doing[] {
  if (from === undefined)
    return to === undefined ? servicesOf(status) : withQuiet(servicesOf(status, to), status, to);
  const edges = edgesOf(status, from, to);
  if (edges.length > 0 || to === undefined) return edges;
  const caller = callersOf(status).find((identity) => matches(from, identity)) ?? from;
  return withQuiet([], status, to).map((row) => ({ from: caller, toIdentity: '', ...row }));
}

function withQuiet(rows: readonly Doing[], { declared }: MeshStatus, wanted: string): Doing[] {
  const quiet = declared.filter((port) => matches(wanted, port) && !rows.some(({ to }) => to === port));
  return [...rows, ...quiet.map(nothingTo)].toSorted((a, b) => (a.to < b.to ? -1 : 1));
}

/** Identities; the empty one is who proved none. */
function callersOf({ trustDomain, declared, sidecars, missing, edges }: MeshStatus): string[] {
  const own = declared.map((port) => {
    const [, service = '', namespace = ''] = /^([^.]*)\.(.*):\d+$/.exec(port) ?? [];
    return identityOf(service, { trustDomain, namespace });
  });
  const seen = [...sidecars, ...missing].map(({ identity }) => identity);
  return [...own, ...seen, ...edges.map(callerOf), ''];
}

/** What people call a service, by its identity or as it is told of. A port is named where one was written. */
function shortOf(name: string, withPort: boolean): string {
  const [, own] = /\/sa\/(.*)$/.exec(name) ?? [];
  if (own !== undefined) return own;
  const [, host = name, port = ''] = /^(.*?)(:\d+)?$/.exec(name) ?? [];
  return `${host.replace(/\..*$/, '')}${withPort ? port : ''}`;
}

function problem(name: string | undefined, known: readonly string[]): string[] {
  if (name === undefined || known.some((each) => matches(name, each))) return [];
  const all = [...new Set(known.map((each) => shortOf(each, name.includes(':'))))].filter(Boolean).toSorted();
  const meant = nearest(name, all);
  const hint = meant === undefined ? `there are: ${all.join(', ') || 'none'}` : `did you mean ${meant}?`;
  return [`there is no service ${name}; ${hint}`];
}
