/** How do sidecars on other machines come by roots that a mesh file names? They are told the roots themselves. */

import { existsSync, readFileSync } from 'node:fs';
import { PEM_BEGINS, isPemText } from '../config/compile.js';
import type { Find } from '../config/meaning.js';
import type { Cluster, Resources } from '../config/resources.js';
import { MeshError } from '../mesh-error.js';
import type { CompiledMesh } from './compile.js';

/** What the files of roots say that a mesh names; nothing of those that can't be read. */
export function rootsNamed({ clusters }: CompiledMesh): string[] {
  return Array.from(new Set(clusters.flatMap(fileOf)), (file) => {
    try {
      return readFileSync(file, 'utf8');
    } catch {
      return '';
    }
  });
}

function fileOf({ tls }: Cluster): string[] {
  return tls?.roots === undefined || isPemText(tls.roots) ? [] : [tls.roots];
}

/** What the files of roots have said. */
export class RootsRead {
  /** By path. */
  #texts: ReadonlyMap<string, string> = new Map();

  /**
   * A mesh with roots in place of their files. One that is gone since says what it said last.
   *
   * @throws {MeshError} one of them can't be read
   */
  carried(mesh: CompiledMesh): CompiledMesh {
    const texts = new Map<string, string>();
    const clusters = mesh.clusters.map((cluster) => {
      const [file] = fileOf(cluster);
      if (file === undefined) return cluster;
      const roots = texts.get(file) ?? this.#read(cluster.name, file);
      texts.set(file, roots);
      return { ...cluster, tls: { ...cluster.tls, roots } };
    });
    this.#texts = texts;
    return { ...mesh, clusters };
  }

  #read(name: string, file: string): string {
    try {
      const roots = readFileSync(file, 'utf8');
      // What is no text of certificates would be taken for the path of a file there.
      return roots.slice(Math.max(roots.indexOf(PEM_BEGINS), 0));
    } catch (cause) {
      const last = this.#texts.get(file);
      if (last !== undefined) return last;
      throw new MeshError('MESH_ROOTS_UNREADABLE', `the roots of ${name} can't be read: ${String(cause)}`, {
        cause,
      });
    }
  }
}

/** What the core can be asked of resources in JSON: what is wrong with them, and with the files that they name. */
export interface Finds {
  readonly validateResources: Find;
  readonly checkResources: Find;
}

/**
 * Finds everything that is wrong with the resources of a mesh, and with the roots that it names. The system's are not looked
 * at: those of sidecars are of their own machines. Nor is a file that is not there: it may come, and `RootsRead` tells of it.
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
