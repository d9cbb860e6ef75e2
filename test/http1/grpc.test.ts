// Do gRPC callers over HTTP/1 learn how a call ended whose answer had begun?

import type http2 from 'node:http2';
import test, { type ExecutionContext } from 'ava';
import type { ListenerConfig } from '../../src/index.js';
import { http2Origin, httpOrigin } from '../support/http.js';
import { type Sidecar, startSidecar, web } from '../support/sidecar.js';
import { type Peer, connect } from '../support/tcp.js';

const MESSAGE = Buffer.of(0, 0, 0, 0, 1, 65);
const CHUNK = `6\r\n${MESSAGE.toString('latin1')}\r\n`;
const HEAD = { 'content-type': 'application/grpc' };

interface Upstream {
  address: string;
  /** Ends every connection amid its answer. */
  die(): void;
}

/** Servers of both protocols that send one message and nothing more. */
const UPSTREAMS = {
  http1: async (t: ExecutionContext): Promise<Upstream> => {
    const origin = await httpOrigin(t, (_, outgoing) => {
      outgoing.writeHead(200, HEAD);
      outgoing.write(MESSAGE);
    });
    return { address: origin.address, die: () => origin.server.closeAllConnections() };
  },
  http2: async (t: ExecutionContext): Promise<Upstream> => {
    const origin = await http2Origin(t, (stream: http2.ServerHttp2Stream) => {
      stream.respond({ ':status': 200, ...HEAD });
      stream.write(MESSAGE);
    });
    const die = (): void => {
      for (const session of origin.sessions) session.destroy();
    };
    return { address: origin.address, die };
  },
};

async function call(t: ExecutionContext, proxy: Sidecar, fields = 'TE: trailers\r\n'): Promise<Peer> {
  const peer = await connect(t, proxy.port('web'));
  const body = '\0\0\0\0\0';
  await peer.send(
    `POST /s/M HTTP/1.1\r\nHost: a\r\n${fields}Content-Type: application/grpc\r\nContent-Length: 5\r\n\r\n${body}`,
  );
  await peer.readUntil('\r\n\r\n');
  await peer.readUntil(CHUNK);
  return peer;
}

async function before(
  t: ExecutionContext,
  protocol: keyof typeof UPSTREAMS,
  timeouts: ListenerConfig['timeouts'] = {},
): Promise<{ proxy: Sidecar; upstream: Upstream }> {
  const upstream = await UPSTREAMS[protocol](t);
  const clusters = { server: { endpoints: [upstream.address], protocol } };
  return { proxy: await startSidecar(t, web({ to: 'server', timeouts }, { clusters })), upstream };
}

for (const protocol of ['http1', 'http2'] as const) {
  test(`${protocol}: a deadline that passes amid the answer`, async (t) => {
    const { proxy } = await before(t, protocol);
    // Long enough for the server to begin its answer, also when this process stands still for a while.
    const peer = await call(t, proxy, 'TE: trailers\r\ngrpc-timeout: 6S\r\n');
    t.regex(await peer.readToEnd(), /^0\r\ngrpc-status: 4\r\ngrpc-message: [^\r]+\r\n\r\n$/);
  });

  test(`${protocol}: an answer on which nothing moves`, async (t) => {
    const { proxy } = await before(t, protocol, { streamIdle: '500ms', request: '60s' });
    const peer = await call(t, proxy);
    t.regex(await peer.readToEnd(), /^0\r\ngrpc-status: \d+\r\ngrpc-message: [^\r]+\r\n\r\n$/);
  });

  test(`${protocol}: a server that dies amid its answer`, async (t) => {
    const { proxy, upstream } = await before(t, protocol);
    const peer = await call(t, proxy);
    upstream.die();
    t.regex(await peer.readToEnd(), /^0\r\ngrpc-status: \d+\r\ngrpc-message: [^\r]+\r\n\r\n$/);
  });

  test(`${protocol}: a drain that ends amid the answer`, async (t) => {
    const { proxy } = await before(t, protocol, { drain: '300ms' });
    const peer = await call(t, proxy);
    proxy.process.signal('SIGTERM');
    t.regex(await peer.readToEnd(), /^0\r\ngrpc-status: 14\r\ngrpc-message: [^\r]+\r\n\r\n$/);
  });

  test(`${protocol}: a caller that reads no trailers sees that the answer was cut`, async (t) => {
    const { proxy, upstream } = await before(t, protocol);
    const peer = await call(t, proxy, '');
    upstream.die();
    t.is(await peer.readToEnd(), '');
  });
}
