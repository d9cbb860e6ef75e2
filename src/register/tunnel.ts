/** How does TLS get through the sidecar unopened? In a tunnel: `CONNECT name:port`, then the client's own bytes. */

import http from 'node:http';
import type { Socket } from 'node:net';
import type { Mesh } from './names.js';

/** As long as a proxy in the same machine may take to reach a server. */
const DEADLINE_MS = 10_000;

/** Calls back with a connection to `name:port` through the sidecar. */
export function tunnel(
  mesh: Mesh,
  name: string,
  port: number,
  done: (error: Error | null, socket?: Socket) => void,
): void {
  const asked = http.request({
    method: 'CONNECT',
    host: mesh.host,
    port: mesh.port,
    path: `${name}:${port}`,
    headers: { host: `${name}:${port}` },
    agent: false,
    timeout: DEADLINE_MS,
  });
  asked.once('connect', (response, stream, head) => {
    const socket = stream as Socket;
    socket.setTimeout(0);
    if (response.statusCode === 200) {
      if (head.length > 0) socket.unshift(head);
      done(null, socket);
      return;
    }
    socket.destroy();
    done(refused(name, port, response));
  });
  // A proxy that refuses answers like a server.
  asked.once('response', (response) => {
    response.destroy();
    done(refused(name, port, response));
  });
  asked.once('timeout', () =>
    asked.destroy(new Error(`the sidecar does not answer CONNECT ${name}:${port}`)),
  );
  asked.once('error', done);
  asked.end();
}

function refused(name: string, port: number, { statusCode, headers }: http.IncomingMessage): Error {
  const why = headers['proxy-status'];
  const text = `the sidecar answered CONNECT ${name}:${port} with ${statusCode}${why ? `: ${String(why)}` : ''}`;
  return Object.assign(new Error(text), { code: 'MESH_CONNECT_REFUSED', statusCode });
}
