/** Which sources has each service? Those of the mesh file, those of the host, and else its own sidecars. */

import { etcdSource } from '../discovery/etcd.js';
import { fileSource } from '../discovery/file.js';
import { staticSource } from '../discovery/static.js';
import type { NamedSource, Source } from '../discovery/types.js';
import { StateError } from '../errors.js';
import type { CompiledMesh } from '../mesh/compile.js';
import { identityOf } from '../mesh/names.js';
import type { Service } from '../mesh/services.js';
import type { Registry } from './registered.js';

/** What the source is called that sidecars are themselves. */
export const REGISTERED = 'registered';

/** The most sources of a mesh that are not its own sidecars: each may hold a connection, or a watch of a file. */
const MAX_SOURCES = 1000;

/**
 * The sources of all services whose addresses are not written.
 *
 * @throws {StateError} when there are too many
 */
export function sourcesOf(
  { services, settings }: Pick<CompiledMesh, 'services' | 'settings'>,
  registry: Registry,
  own: Readonly<Record<string, Source>>,
): Map<string, NamedSource[]> {
  const all = new Map<string, NamedSource[]>();
  for (const service of services) {
    const { name, discover } = service;
    if (discover === undefined) continue;
    const written = writtenSources(service);
    const mine = Object.hasOwn(own, name) ? own[name] : undefined;
    if (mine) written.push({ name: 'own', key: mine, source: mine });
    if (discover.registered ?? written.length === 0) {
      const identity = identityOf(name, settings);
      written.push({ name: REGISTERED, key: identity, source: registry.source(identity) });
    }
    all.set(name, written);
  }
  const others = [...all.values()].flat().filter(({ name }) => name !== REGISTERED).length;
  if (others > MAX_SOURCES)
    throw new StateError(`${others} sources of endpoints: expected at most ${MAX_SOURCES}`);
  return all;
}

function writtenSources({ discover: { endpoints, file, etcd } = {} }: Service): NamedSource[] {
  const sources: NamedSource[] = [];
  if (endpoints)
    sources.push({ name: 'endpoints', key: JSON.stringify(endpoints), source: staticSource(endpoints) });
  if (file !== undefined) sources.push({ name: `file ${file}`, key: file, source: fileSource(file) });
  if (etcd) {
    const name = `etcd ${etcd.endpoints[0]} ${etcd.prefix}`;
    sources.push({ name, key: JSON.stringify(etcd), source: etcdSource(etcd) });
  }
  return sources;
}
