/** What has to be told to a control plane when a mesh file becomes another one? */

import { MeshError } from '../mesh-error.js';
import type { CompiledMesh } from './compile.js';
import type { MeshBatch } from './control-plane.js';

/** From one meaning to the next, or to the first one: only what differs. */
export function batchBetween(before: CompiledMesh | undefined, after: CompiledMesh): MeshBatch {
  const routeTables = difference(before?.routeTables, after.routeTables, ({ name }) => name);
  const clusters = difference(before?.clusters, after.clusters, ({ name }) => name);
  const endpoints = difference(before?.endpoints, after.endpoints, ({ cluster }) => cluster);
  const services = difference(before?.names, after.names, ({ name }) => name);
  const workloads = difference(before?.workloads, after.workloads, ({ name }) => name);
  return {
    upsert: {
      routeTables: routeTables.upsert,
      clusters: clusters.upsert,
      endpoints: endpoints.upsert,
      services: services.upsert,
      workloads: workloads.upsert,
    },
    delete: {
      routeTables: routeTables.gone,
      clusters: clusters.gone,
      endpoints: endpoints.gone,
      services: services.gone,
      workloads: workloads.gone,
    },
  };
}

/** How many resources a batch touches. */
export function sizeOf({ upsert = {}, delete: gone = {} }: MeshBatch): number {
  return [...Object.values(upsert), ...Object.values(gone)].reduce((sum, { length }) => sum + length, 0);
}

function difference<T>(
  before: readonly T[] = [],
  after: readonly T[],
  nameOf: (item: T) => string,
): { upsert: T[]; gone: string[] } {
  const old = new Map(before.map((item) => [nameOf(item), JSON.stringify(item)]));
  const upsert = after.filter((item) => old.get(nameOf(item)) !== JSON.stringify(item));
  const stays = new Set(after.map(nameOf));
  return { upsert, gone: [...old.keys()].filter((name) => !stays.has(name)) };
}

/** A change that can't be made live. Code `MESH_RESTART_NEEDED`. */
export class RestartError extends MeshError {
  static {
    this.prototype.name = 'RestartError';
  }

  constructor(what: readonly string[]) {
    super(
      'MESH_RESTART_NEEDED',
      `${what.join(', ')}: this takes another start: end this one, and start it again`,
    );
  }
}

/**
 * What of a change needs a new start, in words: processes have been told their ports, the names of others and their
 * identity when they were started.
 */
export function needsRestart(before: CompiledMesh, after: CompiledMesh): string[] {
  const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);
  const running = ({ services }: CompiledMesh) =>
    new Map(services.flatMap((service) => (service.process ? [[service.name, service] as const] : [])));
  const [old, now] = [running(before), running(after)];
  return [
    ...(same(before.settings, after.settings) ? [] : ['what holds for all services (mesh)']),
    ...[...new Set([...old.keys(), ...now.keys()])].filter((name) => !same(old.get(name), now.get(name))),
  ];
}
