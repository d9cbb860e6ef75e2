/** What if a mesh file gives out ports that others have? Then free ones do instead. */

import type { CompiledMesh } from '../mesh/compile.js';

/** The same mesh, with free ports instead of these. */
export function without(ports: ReadonlySet<number>, mesh: CompiledMesh): CompiledMesh {
  const services = mesh.services.map((service) => {
    const { process } = service;
    if (!process) return service;
    const kept = Object.entries(process.bind).filter(([, port]) => !ports.has(port));
    return { ...service, process: { ...process, bind: Object.fromEntries(kept) } };
  });
  return { ...mesh, services };
}
