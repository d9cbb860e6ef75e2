/**
 * How does a mesh that runs on this machine answer questions?
 *
 * Over a Unix socket that its owner alone may open: the file system says who that is, so nothing listens on a port.
 */

import { once } from 'node:events';
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { type Server, createServer } from 'node:http';
import { dirname } from 'node:path';
import type { EdgeStatus, MeshStatus, SidecarStatus } from './types.js';

/** Rates are over the last seconds. */
const WINDOW_MS = 30_000;
const LOOK_MS = 1000;

/** Whom is asked. */
export interface MeshSource {
  readonly trustDomain: string;
  sidecars(): readonly SidecarStatus[];
  edges(): readonly Omit<EdgeStatus, 'rate'>[];
}

interface Look {
  readonly atMs: number;
  readonly requests: ReadonlyMap<string, number>;
}

/** The answers of one mesh. */
export class MeshAdmin {
  readonly #source: MeshSource;
  readonly #path: string;
  readonly #startedAtMs = Date.now();
  readonly #looks: Look[] = [];
  readonly #server: Server;
  #timer: NodeJS.Timeout | undefined;

  private constructor(source: MeshSource, path: string) {
    this.#source = source;
    this.#path = path;
    this.#server = createServer({ requestTimeout: 5000 }, (request, response) => {
      if (request.method !== 'GET' || request.url !== '/v1/status') {
        response
          .writeHead(404, { 'content-type': 'application/json' })
          .end('{"error":"there is /v1/status"}');
        return;
      }
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(this.status()));
    });
    this.#server.maxConnections = 16;
  }

  /** Begins to answer at a path. What an earlier mesh left there is taken away. */
  static async start(source: MeshSource, path: string): Promise<MeshAdmin> {
    const admin = new MeshAdmin(source, path);
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    rmSync(path, { force: true });
    admin.#server.listen(path);
    await once(admin.#server, 'listening');
    chmodSync(path, 0o600);
    admin.#look();
    admin.#timer = setInterval(() => admin.#look(), LOOK_MS).unref();
    return admin;
  }

  /** How everything is now. */
  status(): MeshStatus {
    const atMs = Date.now();
    const before = this.#looks[0];
    const seconds = before ? Math.max(atMs - before.atMs, LOOK_MS) / 1000 : 1;
    const edges = this.#source.edges().map((edge) => {
      const earlier = before?.requests.get(keyOf(edge)) ?? 0;
      return { ...edge, rate: (edge.requests - earlier) / seconds };
    });
    return {
      trustDomain: this.#source.trustDomain,
      atMs,
      startedAtMs: this.#startedAtMs,
      sidecars: this.#source.sidecars(),
      edges,
    };
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
    rmSync(this.#path, { force: true });
  }

  #look(): void {
    const atMs = Date.now();
    const requests = new Map(this.#source.edges().map((edge) => [keyOf(edge), edge.requests]));
    this.#looks.push({ atMs, requests });
    while (this.#looks.length > 1 && atMs - (this.#looks[0]?.atMs ?? atMs) > WINDOW_MS) this.#looks.shift();
  }
}

function keyOf(edge: Omit<EdgeStatus, 'rate'>): string {
  const { identity, direction, peer, service, port, protocol, mtls } = edge;
  return [identity, direction, peer, service, port, protocol, mtls].join(' ');
}
