/**
 * How do `http` and `https` reach the mesh's names? At the one place that all their requests with an agent pass.
 *
 * A plain request is told to the sidecar as to a proxy, by its absolute URL (RFC 9112 section 3.2.2), and its Host is that
 * URL's: where a program passes its caller's on, that is `x-forwarded-host`, as with any proxy. Connections to
 * the sidecar are kept and shared as the agent keeps others. TLS goes through a tunnel, so that the client verifies the
 * server itself.
 */

import http from 'node:http';
import https from 'node:https';
import type { Socket } from 'node:net';
import { FORWARDED_HOST, type Mesh, isOfMesh, isSameHost } from './names.js';
import { tunnel } from './tunnel.js';

/** What the agents' methods, which Node's types leave out, take. */
interface RequestOptions {
  host?: unknown;
  path?: unknown;
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
  getHeader(name: string): unknown;
  setHeader(name: string, value: string): unknown;
}

type AddRequest = (
  this: object,
  request: PendingRequest,
  options: RequestOptions,
  ...rest: unknown[]
) => void;
/** What of an agent says whether Node's own way to a proxy is gone. */
interface ProxyRules {
  shouldUseProxy?: (this: object, host: unknown, ...rest: unknown[]) => boolean;
}

type Connect = (
  this: object,
  options: RequestOptions,
  done?: (error: Error | null, socket?: Socket) => void,
) => Socket | undefined;

/** The path that was asked for: `request.path` is Node's own URL where Node rewrites it for a proxy that it follows. */
function pathOf({ method }: PendingRequest, { path }: RequestOptions, authority: string): string {
  const asked = typeof path === 'string' && path !== '' ? path : '/';
  // As a proxy has it (RFC 9112 section 3.2.4).
  if (method === 'OPTIONS' && asked === '*') return '';
  const [, host, below = ''] = /^http:\/\/([^/?#]*)(.*)$/is.exec(asked) ?? [];
  if (host === undefined) return asked;
  if (isSameHost(host, authority)) return below;
  const what = `the path ${JSON.stringify(asked)} is of another host than ${authority}, which is asked`;
  throw Object.assign(new TypeError(what), { code: 'ERR_INVALID_ARG_VALUE' });
}

/** A head after its method and URL, with the host that is asked. */
function withHostLine(head: string, authority: string): string {
  const [line, host = ''] = /^host: *([^\r\n]*?) *\r\n/im.exec(head) ?? [];
  if (line === undefined || host === authority) return head;
  const isTold = isSameHost(host, authority) || /^x-forwarded-host:/im.test(head);
  const told = isTold ? '' : `${FORWARDED_HOST}: ${host}\r\n`;
  return head.replace(line, () => `Host: ${authority}\r\n${told}`);
}

/**
 * Keeps Node that follows HTTP_PROXY itself (since 22.21) from doing so for the mesh's names: it would refuse a Host that is
 * not theirs, and take a path that begins with `//` for a host. It asks a part of the agent that has no name.
 */
function keepFromProxying(mesh: Mesh): void {
  const agent: object = new http.Agent({
    proxyEnv: { http_proxy: 'http://127.0.0.1:1' },
  } as http.AgentOptions);
  for (const symbol of Object.getOwnPropertySymbols(agent)) {
    const part = (agent as Record<symbol, unknown>)[symbol];
    const rules =
      typeof part === 'object' && part !== null ? (Object.getPrototypeOf(part) as ProxyRules) : {};
    const { shouldUseProxy } = rules;
    if (typeof shouldUseProxy !== 'function') continue;
    rules.shouldUseProxy = function (host, ...rest) {
      return !isOfMesh(mesh, host) && shouldUseProxy.call(this, host, ...rest);
    };
  }
}

/** Makes every agent of this process, present and future, know the mesh. */
export function patchAgents(mesh: Mesh): void {
  const agents = http.Agent.prototype as unknown as { addRequest: AddRequest };
  const { addRequest } = agents;
  keepFromProxying(mesh);
  agents.addRequest = function (request, options, ...rest) {
    const plain = request.protocol === 'http:' && request.method !== 'CONNECT' && !options.socketPath;
    if (!plain || !isOfMesh(mesh, options.host)) {
      addRequest.call(this, request, options, ...rest);
      return;
    }
    const port = Number(options.port ?? 80);
    const authority = `${options.host}${port === 80 ? '' : `:${port}`}`;
    const url = `http://${authority}${pathOf(request, options, authority)}`;
    // Headers given as a list, and those of a client that waits for leave, are written before the agent is asked.
    const line = `${request.method} ${request.path} `;
    if (request._header?.startsWith(line) === true) {
      const head = request._header.slice(line.length);
      request._header = `${request.method} ${url} ${withHostLine(head, authority)}`;
    } else {
      const host = request.getHeader('host');
      if (typeof host === 'string' && host !== authority) {
        request.setHeader('host', authority);
        const isTold = isSameHost(host, authority) || request.getHeader(FORWARDED_HOST) !== undefined;
        if (!isTold) request.setHeader(FORWARDED_HOST, host);
      }
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
