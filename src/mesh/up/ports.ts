/** Which ports of this machine may a copy have? Free ones, and none that another copy was given. */

import { createServer, type Server } from 'node:net';

const HOST = '127.0.0.1';
/** A machine whose free ports are all taken has none for us either. */
const MOST_TRIES = 1000;

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
        const server = createServer();
        servers.push(server);
        const port = await listen(server);
        // It stays open until all are found, so that none is found twice.
        if (this.#taken.has(port)) continue;
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

function listen(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, HOST, () => {
      const address = server.address();
      resolve(typeof address === 'object' && address ? address.port : 0);
    });
  });
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
  });
}
