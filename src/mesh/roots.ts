/** How do sidecars on other machines come by roots that a mesh file names? They are told the roots themselves. */

import { existsSync, readFileSync } from 'node:fs';
import { PEM_BEGINS, isPemText } from '../config/compile.js';
import type { Find } from '../config/meaning.js';
import type { Cluster, Resources } from '../config/resources.js';
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

/** What the core can be asked of resources in JSON: what is wrong with them, and with the files that they name. */
export interface Finds {
  readonly validateResources: Find;
  readonly checkResources: Find;
}

/**
 * Finds everything that is wrong with the resources of a mesh, and with the roots that it names. The system's are not looked
 * at: those of sidecars are of their own machines. Nor is a file that is not there: it may come, and `withRoots` tells of it.
 */
export function findWithRoots({ validateResources, checkResources }: Finds): Find {
  return (json) => {
    const issues = validateResources(json);
    if (issues.length > 0) return issues;
    const { clusters } = JSON.parse(json) as Resources;
    const seen = new Set<string>();
    const places = clusters.flatMap(({ tls }, place) => {
      const roots = tls?.roots;
      if (roots === undefined || seen.has(roots) || !(isPemText(roots) || existsSync(roots))) return [];
      seen.add(roots);
      return [place];
    });
    if (places.length === 0) return [];
    const checked = { clusters: places.flatMap((place) => clusters[place] ?? []) };
    const found = checkResources(
      JSON.stringify({ listeners: [], routeTables: [], endpoints: [], ...checked }),
    );
    return found.map(({ path, ...issue }) => ({
      ...issue,
      path: path.replace(/^clusters\[(\d+)\]/, (_, at) => `clusters[${places[Number(at)]}]`),
    }));
  };
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
