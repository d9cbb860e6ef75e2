/**
 * What do the shop's services have in common? Each is a process of its own that tells its parent where it answers.
 *
 * The parent ends them: a service goes when its parent does, and leaves Ctrl-C, which a terminal sends to all of them,
 * to the parent, who drains first.
 */

import type { Server } from 'node:net';

/** What a service tells its parent. */
export interface Announcement {
  readonly address: string;
}

/** What the parent tells a service: where it finds the others. */
export interface Directions {
  readonly mesh: string;
}

/** Tells where this service answers, and makes it end with its parent. */
export function announce(port: number): void {
  process.on('SIGINT', () => {});
  process.on('disconnect', () => process.exit());
  process.send?.({ address: `127.0.0.1:${port}` } satisfies Announcement);
}

/** Resolves once the parent has said where the others are. */
export function directions(): Promise<Directions> {
  return new Promise((resolve) => {
    process.once('message', (message) => resolve(message as Directions));
  });
}

/** Resolves with the port once a server listens. */
export function listening(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      resolve(typeof address === 'object' && address ? address.port : 0);
    });
  });
}
