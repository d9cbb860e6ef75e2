/** What is different between two configurations? */

import type { Resources } from '../config/resources.js';

/** One difference. */
interface Change {
  readonly what: 'added' | 'changed' | 'removed';
  readonly kind: 'listener' | 'route table' | 'cluster' | 'setting';
  readonly name: string;
}

/** The differences, by kind and name. Endpoints count as part of their cluster. */
export function changesBetween(before: Resources, after: Resources): Change[] {
  return [
    ...compare('listener', named(before.listeners), named(after.listeners)),
    ...compare('route table', named(before.routeTables), named(after.routeTables)),
    ...compare('cluster', clusters(before), clusters(after)),
  ];
}

function named(list: readonly { name: string }[]): Map<string, string> {
  return new Map(list.map((item) => [item.name, JSON.stringify(item)]));
}

function clusters({ clusters: list, endpoints }: Resources): Map<string, string> {
  const byCluster = new Map(endpoints.map((group) => [group.cluster, group]));
  return new Map(list.map((item) => [item.name, JSON.stringify([item, byCluster.get(item.name)])]));
}

function compare(kind: Change['kind'], before: Map<string, string>, after: Map<string, string>): Change[] {
  const changes: Change[] = [];
  for (const [name, text] of after) {
    const old = before.get(name);
    if (old === undefined) changes.push({ what: 'added', kind, name });
    else if (old !== text) changes.push({ what: 'changed', kind, name });
  }
  for (const name of before.keys()) {
    if (!after.has(name)) changes.push({ what: 'removed', kind, name });
  }
  return changes;
}

/** One line: `changed cluster api, added listener admin`. */
export function renderChanges(changes: readonly Change[]): string {
  const MOST = 10;
  const told = changes.slice(0, MOST).map(({ what, kind, name }) => `${what} ${kind} ${name}`);
  if (changes.length > MOST) told.push(`and ${changes.length - MOST} more`);
  return told.join(', ') || 'nothing that matters';
}
