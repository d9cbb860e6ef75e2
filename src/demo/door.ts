/** What of the ports that a mesh file gives out can it have? Those that nobody else listens on; free ones instead of the others. */

import { once } from 'node:events';
import { createServer } from 'node:net';
import type { CompiledMesh } from '../mesh/compile.js';

const HOST = '127.0.0.1';

/** The ports of a mesh file that other programs have. */
export async function portsInUse({ services }: CompiledMesh): Promise<Set<number>> {
  const wanted = services.flatMap(({ process }) => Object.values(process?.bind ?? {}));
  const inUse = await Promise.all(wanted.map(async (port) => ((await isInUse(port)) ? [port] : [])));
  return new Set(inUse.flat());
}

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

async function isInUse(port: number): Promise<boolean> {
  const server = createServer();
  server.listen(port, HOST);
  try {
    await once(server, 'listening');
  } catch {
    return true;
  }
  server.close();
  await once(server, 'close');
  return false;
}
