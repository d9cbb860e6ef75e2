/**
 * Which ports of this machine may a copy have? Those that the mesh file gives it, else free ones that no other copy has.
 *
 * Free ones come from below those that the kernel gives to outgoing connections: of them one could have it the moment that
 * it is needed again, when a copy is restarted.
 */

import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import type { CompiledMesh } from '../compile.js';

const HOST = '127.0.0.1';
/** A machine whose free ports are all taken has none for us either. */
const MOST_TRIES = 1000;
/** The first port that is given out: services that are known by their port have lower ones. */
const FIRST = 12_000;
/** Where Linux begins with outgoing connections unless told otherwise. */
const USUAL_FIRST_OUTGOING = 32_768;
/** Fewer would be found by others too soon. */
const FEWEST = 1000;

/** A port that a mesh file wants, and that can't be had. */
export interface TakenPort {
  readonly service: string;
  /** The key below `bind`. */
  readonly of: string;
  readonly port: number;
  /** For people. */
  readonly why: string;
}

/** What of the ports that a mesh file gives out can't be had, as far as one can know before it is needed. */
export async function takenPorts({ services }: Pick<CompiledMesh, 'services'>): Promise<TakenPort[]> {
  const wanted = services.flatMap(({ name, process }) =>
    Object.entries(process?.bind ?? {}).flatMap(([of, first]: [string, number]) =>
      // Each copy has the next one.
      Array.from({ length: process?.copies ?? 0 }, (_, copy) => ({ service: name, of, port: first + copy })),
    ),
  );
  const found: TakenPort[] = [];
  const given = new Map<number, string>();
  for (const each of wanted) {
    const key = `services.${each.service}.bind.${each.of}`;
    const other = given.get(each.port);
    const why = other === undefined ? await whyTaken(each.port) : `${other} gives it out too`;
    given.set(each.port, key);
    if (why !== undefined) found.push({ ...each, why });
  }
  return found;
}

async function whyTaken(port: number): Promise<string | undefined> {
  const server = createServer();
  const code = await listenError(server, port);
  await close(server);
  if (code === 'EADDRINUSE') return 'another program has it';
  return code === 'EACCES' ? 'ports below 1024 need a privilege' : code;
}

/** The ports that were given out and not given back. */
export class Ports {
  readonly #taken = new Set<number>();

  /** Takes free ports, all at once. */
  async take(count: number): Promise<number[]> {
    const servers: Server[] = [];
    const found: number[] = [];
    try {
      for (let tries = 0; found.length < count; tries += 1) {
        if (tries > count + MOST_TRIES) throw new Error('this machine has no free ports');
        const port = candidate();
        if (this.#taken.has(port)) continue;
        const server = createServer();
        if ((await listenError(server, port)) !== undefined) continue;
        // It stays open until all are found, so that none is found twice.
        servers.push(server);
        this.#taken.add(port);
        found.push(port);
      }
      return found;
    } finally {
      await Promise.all(servers.map((server) => close(server)));
    }
  }

  give(ports: readonly number[]): void {
    for (const port of ports) this.#taken.delete(port);
  }
}

/** A port to try: any, so that two meshes seldom want the same. */
function candidate(): number {
  const end = firstOutgoing();
  const [from, to] = end - FIRST >= FEWEST ? [FIRST, end] : [FIRST, USUAL_FIRST_OUTGOING];
  return from + Math.floor(Math.random() * (to - from));
}

function firstOutgoing(): number {
  try {
    const [first = ''] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').split(/\s/);
    return Number.parseInt(first, 10) || USUAL_FIRST_OUTGOING;
  } catch {
    return USUAL_FIRST_OUTGOING;
  }
}

/** Listens; gives the code of what stands against it. */
function listenError(server: Server, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    server.once('error', ({ code }: NodeJS.ErrnoException) => resolve(code ?? 'unknown'));
    server.listen(port, HOST, () => resolve(undefined));
  });
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
  });
}
