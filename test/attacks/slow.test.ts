// Rows 9, 10 and 30: does a client that takes its time, or many that take all places, cost anybody else anything?

import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { proxyStatus } from '../support/http.js';
import { type Peer, connect, tcpServer } from '../support/tcp.js';
import { until } from '../support/wait.js';
import type { ListenerTimeoutsConfig } from '../../src/config/types.js';
import { CODE, FLAG, REQUEST, TYPE, code, frame, opening, request, u32 } from '../../src/attack/frames.js';
import { arrives, framesOf } from './arrives.js';
import { type Front, LISTENERS, front, recorder } from './support.js';

const ORDINARY = 'GET /ordinary HTTP/1.1\r\nHost: a.test\r\n\r\n';

/** The time of a head that this process begins: it may stand still for seconds before it does. */
const HEADER = '6s';

/** Sends a byte now and then, and not too many, until the other side has had enough. */
async function drip(
  t: ExecutionContext,
  peer: Awaited<ReturnType<Front['connect']>>,
  bytes: () => string,
): Promise<void> {
  await until('the connection ends', async () => {
    if (peer.ended || peer.closed) return true;
    await peer.send(bytes()).catch(() => {});
    await sleep(100);
    return false;
  });
  t.true(peer.ended || peer.closed);
}

for (const listener of LISTENERS) {
  test(`row 10: ${listener}`, async (t) => {
    const server = await recorder(t);
    const proxy = await front(t, server.address, {
      // The server has its own time to answer.
      timeouts: { header: HEADER, streamIdle: '300ms', idle: '300ms', request: '20s' },
    });

    const head = async (): Promise<void> => {
      const peer = await proxy.connect(t, listener);
      await peer.send('GET /slow HTTP/1.1\r\nHost: a.test\r\n');
      await drip(t, peer, () => 'X: y\r\n');
      t.regex(peer.text(), /^HTTP\/1\.1 408 .*header_timeout/s, 'a head that never ends');
    };

    const line = async (): Promise<void> => {
      const peer = await proxy.connect(t, listener);
      await peer.send('GET /');
      await drip(t, peer, () => 'a');
      t.regex(peer.text(), /^HTTP\/1\.1 408 /, 'a line that never ends');
    };

    const silent = async (): Promise<void> => {
      const peer = await proxy.connect(t, listener);
      t.is(await peer.readToEnd(), '', 'nothing at all');
    };

    const idle = async (): Promise<void> => {
      const peer = await proxy.connect(t, listener);
      await peer.send(ORDINARY);
      t.is((await peer.response()).status, 200);
      t.is(await peer.readToEnd(), '', 'no second request');
    };

    const body = async (): Promise<void> => {
      const peer = await proxy.connect(t, listener);
      await peer.send('POST /slow HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nabc');
      const refusal = await peer.response();
      t.is(refusal.status, 408, 'a body that stops');
      t.is(proxyStatus(refusal.headers).details, 'request_body_timeout');
      t.is(await peer.readToEnd(), '');
    };

    const preface = async (): Promise<void> => {
      const peer = await proxy.connect(t, listener, 'h2');
      await peer.send('PRI * HTTP/2.0\r\n\r\nS');
      await peer.readToEnd();
    };

    const streams = async (): Promise<void> => {
      const peer = await proxy.connect(t, listener, 'h2');
      await peer.send(opening());
      await peer.readToEnd();
    };

    await Promise.all([head(), line(), silent(), idle(), body(), preface(), streams()]);
    const responses = 'mesh_responses_total';
    await proxy.counted(0, 1, responses, { listener, reason: 'request_body_timeout' });
    t.true((await proxy.count(responses, { listener, reason: 'header_timeout' })) >= 2);
    t.deepEqual(
      server.requests.map((each) => each.head.split(' ')[1]).filter((path) => path !== '/slow'),
      ['/ordinary'],
    );
  });
}

for (const listener of LISTENERS) {
  test(`row 10: ${listener}: a head of HTTP/2 that never ends, while a stream is open`, async (t) => {
    const server = await tcpServer(t);
    const proxy = await front(t, server.address, { timeouts: { header: HEADER } });
    const ends = async (unfinished: Buffer): Promise<void> => {
      const peer = await proxy.connect(t, listener, 'h2');
      await peer.send(opening(), request(1), unfinished);
      const goodbye = await arrives('GOAWAY', peer, ({ type }) => type === TYPE.goaway);
      t.is(code(goodbye), CODE.none);
      await peer.gone();
    };
    await Promise.all([ends(request(3, REQUEST, FLAG.endStream)), ends(request(3).subarray(0, 20))]);
    for (const n of [0, 1]) await (await server.accepted(n)).gone();
    const labels = { listener, reason: 'header_timeout' };
    await proxy.counted(0, 2, 'mesh_connections_closed_total', labels);
  });
}

test('row 10: a TLS handshake that never starts, or never ends', async (t) => {
  const server = await recorder(t);
  const proxy = await front(t, server.address, { timeouts: { header: '300ms', handshake: '300ms' } });
  const port = proxy.proxy.port('tls');
  const silent = await connect(t, port);
  t.is(await silent.readToEnd(), '');
  const half = await connect(t, port);
  await half.send('\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03').catch(() => {});
  await half.readToEnd();
  const plain = await connect(t, port);
  await plain.send(ORDINARY).catch(() => {});
  await plain.readToEnd();
  t.is(server.bytes(), '');
});

test('row 9: a client that does not read holds its server no longer than it may', async (t) => {
  const chunk = Buffer.alloc(1024 * 1024, 'x');
  const server = await tcpServer(t, async (peer) => {
    await peer.readUntil('\r\n\r\n');
    await peer.send('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n');
    for (let n = 0; n < 64; n += 1) await peer.send('100000\r\n', chunk, '\r\n');
  });
  const proxy = await front(t, server.address, { timeouts: { streamIdle: '500ms' } });
  const before = proxy.proxy.residentBytes();
  const clients = await Promise.all(
    Array.from({ length: 20 }, async () => {
      const peer = await proxy.connect(t, 'plain');
      await peer.send(ORDINARY);
      peer.socket.pause();
      return peer;
    }),
  );
  await until(
    'their servers are left',
    () => server.peers.length === 20 && server.peers.every((peer) => peer.closed || peer.ended),
  );
  t.true(proxy.proxy.residentBytes() - before < 64 * 1024 * 1024);
  for (const peer of clients) peer.socket.destroy();
});

/** A client whose stream has this window, before a server with a megabyte to say. */
async function narrow(t: ExecutionContext, window: number, timeouts: ListenerTimeoutsConfig) {
  const server = await tcpServer(t, async (peer) => {
    await peer.readUntil('\r\n\r\n');
    await peer.send(
      `HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n${'x'.repeat(1_000_000)}`,
    );
  });
  const proxy = await front(t, server.address, { timeouts });
  const peer = await proxy.connect(t, 'plain');
  await peer.send(opening(Buffer.concat([Buffer.of(0, 4), u32(window)])), request(1));
  const upstream = await server.accepted();
  return { peer, isLeft: () => upstream.closed || upstream.ended };
}

const isReset = (peer: Peer): boolean => framesOf(peer).some(({ type }) => type === TYPE.reset);

test('row 9: a stream whose window is nothing is taken back, and its server left', async (t) => {
  const { peer, isLeft } = await narrow(t, 0, { streamIdle: '500ms', request: '20s' });
  await until('the stream is taken back', () => isReset(peer));
  await until('its server is left', isLeft);
  t.false(framesOf(peer).some(({ type, payload }) => type === TYPE.data && payload.length > 0));
});

test('row 9: a stream whose window is a byte at a time ends when its time is over', async (t) => {
  const { peer, isLeft } = await narrow(t, 1, { request: '6s' });
  let given = 1;
  await until('the stream is taken back', async () => {
    if (isReset(peer)) return true;
    await peer.send(frame(TYPE.windowUpdate, 0, 1, u32(1)));
    given += 1;
    await sleep(100);
    return false;
  });
  await until('its server is left', isLeft);
  const data = framesOf(peer).filter(({ type }) => type === TYPE.data);
  const came = data.reduce((bytes, { payload }) => bytes + payload.length, 0);
  t.true(came > 1 && came <= given, `${came} bytes of ${given}`);
});

test('row 30: connections above the limit wait, and those below are served', async (t) => {
  const server = await recorder(t);
  const proxy = await front(t, server.address, { limits: { connections: 5 } });
  const held = await Promise.all(Array.from({ length: 5 }, () => proxy.connect(t, 'plain')));
  for (const peer of held) {
    await peer.send(ORDINARY);
    t.is((await peer.response()).status, 200);
  }
  const late = await proxy.connect(t, 'plain');
  await late.send(ORDINARY);
  const [first] = held;
  await first?.send(ORDINARY);
  t.is((await first?.response())?.status, 200);
  t.is(late.text(), '');
  first?.socket.destroy();
  t.is((await late.response()).status, 200, 'served as soon as there is room');
  t.true((await proxy.count('mesh_limit_hits_total', { listener: 'plain', limit: 'connections' })) > 0);
});

test('row 30: connections that come and go leave nothing behind', async (t) => {
  const server = await recorder(t);
  const proxy = await front(t, server.address);
  const storm = async (): Promise<void> => {
    for (let round = 0; round < 20; round += 1) {
      const peers = await Promise.all(
        Array.from({ length: 50 }, () => connect(t, proxy.proxy.port('plain'))),
      );
      for (const [n, peer] of peers.entries()) {
        if (n % 3 === 0) peer.socket.write('GET / HT');
        if (n % 3 === 1) peer.socket.write(ORDINARY);
        peer.reset();
      }
      await Promise.all(peers.map((peer) => peer.closed || once(peer.socket, 'close')));
    }
  };
  await storm();
  const before = proxy.proxy.residentBytes();
  await storm();
  t.true(proxy.proxy.residentBytes() - before < 16 * 1024 * 1024);
  const peer = await proxy.connect(t, 'plain');
  await peer.send(ORDINARY);
  t.is((await peer.response()).status, 200);
});
