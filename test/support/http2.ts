// How does a test speak HTTP/2 with Node's own client and server?

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import type { ExecutionContext } from 'ava';
import type { Certificate } from './certificates.js';
import { within } from './wait.js';

type Test = Pick<ExecutionContext, 'teardown'>;

/** Opens a connection with prior knowledge, or TLS for `https:`; it ends with the test. */
export async function http2Connect(
  t: Test,
  url: string,
  options: http2.SecureClientSessionOptions = {},
): Promise<http2.ClientHttp2Session> {
  const session = http2.connect(url, options);
  t.teardown(() => session.destroy());
  await within(`an HTTP/2 connection to ${url}`, once(session, 'connect'));
  session.on('error', () => {});
  return session;
}

/** What a request is made of, beside its fields. */
export interface Sent {
  body?: string | Uint8Array;
  trailers?: http2.OutgoingHttpHeaders;
}

/** A response, read to its end. */
export interface Answer {
  status: number;
  headers: http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader;
  body: Buffer;
  text: string;
  trailers: http2.IncomingHttpHeaders;
  /** The 1xx responses that came before. */
  informational: http2.IncomingHttpHeaders[];
}

/** Sends a request and reads its response to the end. Fails as Node does when the stream is reset. */
export async function ask(
  session: http2.ClientHttp2Session,
  headers: http2.OutgoingHttpHeaders,
  { body, trailers }: Sent = {},
): Promise<Answer> {
  const stream = session.request(headers, {
    endStream: body === undefined && trailers === undefined,
    waitForTrailers: trailers !== undefined,
  });
  if (trailers) stream.on('wantTrailers', () => stream.sendTrailers(trailers));
  if (body !== undefined || trailers !== undefined) stream.end(body);
  return within(`the answer to ${headers[':path']}`, readAnswer(stream));
}

/** Reads a stream's response to its end. */
export async function readAnswer(stream: http2.ClientHttp2Stream): Promise<Answer> {
  const informational: http2.IncomingHttpHeaders[] = [];
  let trailers: http2.IncomingHttpHeaders = {};
  stream.on('headers', (fields) => informational.push(fields));
  stream.on('trailers', (fields) => {
    trailers = fields;
  });
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  const closed = once(stream, 'close');
  // What fails before there is a response is told by that.
  closed.catch(() => {});
  const [headers] = (await once(stream, 'response')) as [Answer['headers']];
  await closed;
  if (stream.rstCode !== http2.constants.NGHTTP2_NO_ERROR)
    throw new Error(`the stream was reset: ${stream.rstCode}`);
  const whole = Buffer.concat(chunks);
  return {
    status: headers[':status'] ?? 0,
    headers,
    body: whole,
    text: whole.toString(),
    trailers,
    informational,
  };
}

/** Resolves with the code that a stream is reset with. */
export async function resetCode(stream: http2.ClientHttp2Stream): Promise<number> {
  stream.on('error', () => {});
  stream.resume();
  await within(
    'the end of a stream',
    once(stream, 'close').catch(() => {}),
  );
  return stream.rstCode;
}

/** An HTTPS server for HTTP/2, or for both versions with `allowHTTP1`. */
export interface SecureOrigin {
  port: number;
  address: string;
  server: http2.Http2SecureServer;
  /** What was agreed by ALPN, in order. */
  protocols: (string | false | null)[];
}

/** A TLS server that ends with the test. */
export async function http2SecureOrigin(
  t: Test,
  { certificate, key }: Certificate,
  handler: (request: http2.Http2ServerRequest, response: http2.Http2ServerResponse) => void,
  options: http2.SecureServerOptions = {},
): Promise<SecureOrigin> {
  const server = http2.createSecureServer(
    { cert: readFileSync(certificate), key: readFileSync(key), ...options },
    handler,
  );
  const protocols: SecureOrigin['protocols'] = [];
  const sockets = new Set<{ destroy(): void }>();
  server.on('secureConnection', (socket) => {
    protocols.push(socket.alpnProtocol);
    sockets.add(socket);
  });
  server.on('sessionError', () => {});
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  const { port } = server.address() as AddressInfo;
  return { port, address: `127.0.0.1:${port}`, server, protocols };
}
