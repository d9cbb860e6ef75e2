/** What does a command that runs a control plane answer to `mesh stat` and the like? */

import path from 'node:path';
import { SOCKET } from '../mesh/admin/client.js';
import { MeshAdmin, type MeshSource } from '../mesh/admin/server.js';
import type { Witness } from '../mesh/admin/witness.js';
import type { CompiledMesh } from '../mesh/compile.js';
import type { Edge, Sidecar } from '../mesh/control-plane.js';
import { deniedFor } from '../mesh/services.js';
import { packageVersion } from './version.js';

/** Where it is read: from a control plane of the core, or one that stands alone. */
interface Source {
  sidecars(): readonly Sidecar[];
  revoked(): readonly string[];
  edges(): readonly Edge[];
  revoke(whom: string): void | Promise<void>;
  allow(whom: string): boolean | Promise<boolean>;
}

/** What each command knows in its own way. */
type Own = 'issuer' | 'isBypassable' | 'strangers' | 'services' | 'declared' | 'sources' | 'token';

/** `mesh` gives what is live. */
export function meshSource(
  source: Source,
  mesh: () => CompiledMesh,
  witness: Witness,
  own: Pick<MeshSource, Own> & Partial<Pick<MeshSource, 'missing'>>,
): MeshSource {
  return {
    trustDomain: mesh().settings.trustDomain,
    version: packageVersion(),
    sidecars: () => source.sidecars(),
    lifeMs: (sidecar) => witness.lifeMs(sidecar),
    missing: (here, atMs) => witness.missing(here, atMs),
    revoked: () => source.revoked(),
    edges: () => source.edges(),
    revoke: async ({ whom, undo }) => {
      const revoked = deniedFor(whom, mesh());
      if (undo) return { revoked, changed: await source.allow(revoked) };
      await source.revoke(revoked);
      return { revoked, changed: true };
    },
    ...own,
  };
}

/** Answers beside the mesh file. A folder that can't be written is no reason not to run. */
export async function answer(
  source: MeshSource,
  file: string,
  trouble: (error: unknown) => void,
): Promise<MeshAdmin | undefined> {
  try {
    return await MeshAdmin.start(source, path.resolve(path.dirname(file), SOCKET));
  } catch (error) {
    trouble(error);
    return undefined;
  }
}
