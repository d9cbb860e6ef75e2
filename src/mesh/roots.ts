/** How do sidecars on other machines come by roots that a mesh file names? They are told the roots themselves. */

import { readFileSync } from 'node:fs';
import { PEM_BEGINS, isPemText } from '../config/compile.js';
import type { Cluster } from '../config/resources.js';
import { MeshError } from '../mesh-error.js';
import type { MeshBatch } from './control-plane.js';

/**
 * A change with roots in place of their files.
 *
 * @throws {MeshError} one of them can't be read
 */
export function withRoots({ upsert, ...batch }: MeshBatch): MeshBatch {
  return { ...batch, upsert: { ...upsert, clusters: (upsert?.clusters ?? []).map(carried) } };
}

function carried(cluster: Cluster): Cluster {
  const { name, tls } = cluster;
  if (tls?.roots === undefined || isPemText(tls.roots)) return cluster;
  try {
    const roots = readFileSync(tls.roots, 'utf8');
    // What is no text of certificates would be taken for the path of a file there.
    return { ...cluster, tls: { ...tls, roots: roots.slice(Math.max(roots.indexOf(PEM_BEGINS), 0)) } };
  } catch (cause) {
    throw new MeshError('MESH_ROOTS_UNREADABLE', `the roots of ${name} can't be read: ${String(cause)}`, {
      cause,
    });
  }
}
