/**
 * How do `http` and `https` reach the mesh's names? At the one place that all their requests with an agent pass.
 *
 * A plain request is told to the sidecar as to a proxy, by its absolute URL (RFC 9112 section 3.2.2); connections to
 * the sidecar are kept and shared as the agent keeps others. TLS goes through a tunnel, so that the client verifies the
 * server itself.
 */

import http from 'node:http';
import https from 'node:https';
import type { Socket } from 'node:net';
import { type Mesh, isOfMesh } from './names.js';
import { tunnel } from './tunnel.js';

/** What the agents' methods, which Node's types leave out, take. */
interface RequestOptions {
  host?: unknown;
  port?: unknown;
  socketPath?: unknown;
  socket?: unknown;
}

/** A request whose head may be written already. */
interface PendingRequest {
  path: string;
  method: string;
  protocol: string;
  _header?: string | null;
}

type AddRequest = (
  this: object,
  request: PendingRequest,
  options: RequestOptions,
  ...rest: unknown[]
) => void;
type Connect = (
  this: object,
  options: RequestOptions,
  done?: (error: Error | null, socket?: Socket) => void,
) => Socket | undefined;

/** Makes every agent of this process, present and future, know the mesh. */
export function patchAgents(mesh: Mesh): void {
  const agents = http.Agent.prototype as unknown as { addRequest: AddRequest };
  const { addRequest } = agents;
  agents.addRequest = function (request, options, ...rest) {
    const plain = request.protocol === 'http:' && request.method !== 'CONNECT' && !options.socketPath;
    if (!plain || !isOfMesh(mesh, options.host)) {
      addRequest.call(this, request, options, ...rest);
      return;
    }
    const port = Number(options.port ?? 80);
    // Node that follows HTTP_PROXY itself (since 22.21) has written an absolute URL, with `localhost` as its host where
    // headers are given as a list.
    const path = request.path.replace(/^http:\/\/[^/?#]*/, '');
    const url = `http://${options.host}${port === 80 ? '' : `:${port}`}${path}`;
    // Headers given as a list, and those of a client that waits for leave, are written before the agent is asked.
    const line = `${request.method} ${request.path} `;
    if (request._header?.startsWith(line) === true) {
      request._header = `${request.method} ${url} ${request._header.slice(line.length)}`;
    }
    request.path = url;
    addRequest.call(this, request, { ...options, host: mesh.host, port: mesh.port }, ...rest);
  };

  const secure = https.Agent.prototype as unknown as { createConnection: Connect };
  const { createConnection } = secure;
  secure.createConnection = function (options, done) {
    const { host } = options;
    if (!done || options.socketPath || options.socket || !isOfMesh(mesh, host)) {
      return createConnection.call(this, options, done);
    }
    tunnel(mesh, host, Number(options.port ?? 443), (error, socket) => {
      if (error) done(error);
      else done(null, createConnection.call(this, { ...options, socket }));
    });
    return undefined;
  };
}
