// How does a test speak HTTP with Node's own client and servers?

import { once } from 'node:events';
import http from 'node:http';
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import type { ExecutionContext } from 'ava';
import { LAST_WORD_MS, PATIENCE_MS, inTime, within } from './wait.js';

type Test = Pick<ExecutionContext, 'teardown'>;

/** What a request is made of. */
export interface RequestOptions extends http.RequestOptions {
  body?: string | Uint8Array;
  trailers?: Record<string, string>;
}

/** A response, read to its end. */
export interface Response {
  status: number;
  headers: http.IncomingHttpHeaders;
  rawHeaders: string[];
  body: Buffer;
  text: string;
  trailers: NodeJS.Dict<string>;
  /** The 1xx responses that came before. */
  informational: { status: number; headers: http.IncomingHttpHeaders }[];
  /** Whether the connection was used before. */
  reused: boolean;
}

/** Sends a request and reads its response to the end. Without an agent the connection is this request's alone. */
export async function request(port: number, options: RequestOptions = {}): Promise<Response> {
  const { body, trailers, ...rest } = options;
  const sent = http.request({
    host: '127.0.0.1',
    port,
    agent: false,
    timeout: PATIENCE_MS,
    ...rest,
    // Node would make `host` from where it connects to.
    ...(body !== undefined && !trailers && !hasFraming(rest.headers)
      ? { headers: { 'content-length': Buffer.byteLength(body), ...rest.headers } }
      : {}),
  });
  sent.on('timeout', () => sent.destroy(new Error('no response in time')));
  const informational: Response['informational'] = [];
  sent.on('information', ({ statusCode, headers }) => {
    informational.push({ status: statusCode, headers });
  });
  const answered = once(sent, 'response') as Promise<[http.IncomingMessage]>;
  if (trailers) sent.addTrailers(trailers);
  sent.end(body);
  const [response] = await answered;
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  const whole = Buffer.concat(chunks);
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    rawHeaders: response.rawHeaders,
    body: whole,
    text: whole.toString(),
    trailers: response.trailers,
    informational,
    reused: sent.reusedSocket,
  };
}

/** Asks where who is silent is cut off: again, when this process was held up before it spoke. */
export function requestInTime(port: number, options: RequestOptions = {}): Promise<Response> {
  return inTime('an answer', LAST_WORD_MS, () => request(port, options));
}

function hasFraming(headers: http.RequestOptions['headers']): boolean {
  return Object.keys(headers ?? {}).some((name) => /^(content-length|transfer-encoding)$/i.test(name));
}

/** A server for requests. */
export interface Origin {
  port: number;
  /** `127.0.0.1:43210`. */
  address: string;
  server: http.Server;
  /** Requests that came. */
  requests: number;
  /** Connections that came. */
  connections: number;
}

/** An HTTP/1 server that ends with the test. Without a handler it tells what it was asked: see `Echo`. */
export async function httpOrigin(t: Test, handler: http.RequestListener = echo, port = 0): Promise<Origin> {
  const server = http.createServer({ keepAliveTimeout: 0, requestTimeout: 0 });
  const origin: Origin = { port: 0, address: '', server, requests: 0, connections: 0 };
  server.on('connection', () => {
    origin.connections += 1;
  });
  server.on('request', (incoming, outgoing) => {
    origin.requests += 1;
    handler(incoming, outgoing);
  });
  return Object.assign(origin, await serve(t, server, port));
}

/** Puts a server on a port of loopback until the test ends. */
export async function serve(
  t: Test,
  server: http.Server,
  wanted = 0,
  host = '127.0.0.1',
): Promise<{ port: number; address: string }> {
  server.listen(wanted, host);
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  return { port, address: `${host}:${port}` };
}

/** What an echoing server saw of a request. */
export interface Echo {
  method: string;
  url: string;
  httpVersion: string;
  headers: http.IncomingHttpHeaders;
  rawHeaders: string[];
  trailers: NodeJS.Dict<string>;
  /** As latin1. */
  body: string;
}

/** Answers with what it was asked, as JSON. */
export const echo: http.RequestListener = (incoming, outgoing) => {
  const chunks: Buffer[] = [];
  incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
  incoming.on('end', () => {
    const { method = '', url = '', httpVersion, headers, rawHeaders, trailers } = incoming;
    const body = Buffer.concat(chunks).toString('latin1');
    const seen: Echo = { method, url, httpVersion, headers, rawHeaders, trailers, body };
    outgoing.setHeader('content-type', 'application/json');
    outgoing.end(JSON.stringify(seen));
  });
};

/** What the echoing server behind a response saw. */
export function echoed(response: { text: string }): Echo {
  return JSON.parse(response.text) as Echo;
}

/** An HTTP/2 server without TLS that ends with the test. */
export async function http2Origin(
  t: Test,
  handler: (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void,
  options: http2.ServerOptions = {},
): Promise<{
  port: number;
  address: string;
  server: http2.Http2Server;
  sessions: Set<http2.ServerHttp2Session>;
}> {
  const server = http2.createServer(options);
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on('session', (session) => {
    sessions.add(session);
    session.on('close', () => sessions.delete(session));
    session.on('error', () => {});
  });
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {});
    handler(stream, headers);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    for (const session of sessions) session.destroy();
  });
  const { port } = server.address() as AddressInfo;
  return { port, address: `127.0.0.1:${port}`, server, sessions };
}

/** An agent that keeps connections, and closes them with the test. */
export function keepAliveAgent(t: Test, options: http.AgentOptions = {}): http.Agent {
  const agent = new http.Agent({ keepAlive: true, ...options });
  t.teardown(() => agent.destroy());
  return agent;
}

/** The parts of a `proxy-status` field: `{ error, details }`. */
export function proxyStatus(headers: http.IncomingHttpHeaders | Map<string, string>): {
  error: string;
  details: string;
} {
  const field = headers instanceof Map ? headers.get('proxy-status') : headers['proxy-status'];
  const match = /^mesh; error=([a-z_]+); details="([^"]*)"$/.exec(String(field ?? ''));
  return { error: match?.[1] ?? '', details: match?.[2] ?? '' };
}

/** Waits for an event of a message or socket, not for ever. */
export async function event<T extends unknown[]>(emitter: NodeJS.EventEmitter, name: string): Promise<T> {
  return within(`the event ${name}`, once(emitter, name) as Promise<T>);
}
