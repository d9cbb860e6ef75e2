// Is every bound kept, answered and counted?

import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { startEmbedded } from '../support/embedded.js';
import {
  echo,
  echoed,
  event,
  http2Origin,
  httpOrigin,
  keepAliveAgent,
  proxyStatus,
  request,
} from '../support/http.js';
import { http2Connect } from '../support/http2.js';
import { web } from '../support/sidecar.js';
import { connect, tcpServer } from '../support/tcp.js';
import { until } from '../support/wait.js';

test('header bytes: 431 and close, at the bound and not below', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startEmbedded(
    t,
    web({ routes: [{ to: origin.address }], limits: { headerBytes: 2048 } }),
  );
  const fits = await connect(t, proxy.port());
  await fits.send(`GET / HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(1900)}\r\n\r\n`);
  t.is((await fits.response()).status, 200);
  for (const bytes of [
    `GET / HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(3000)}\r\n\r\n`,
    `GET / HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(100_000)}`,
    `GET /${'x'.repeat(3000)}`,
  ]) {
    const peer = await connect(t, proxy.port());
    await peer.send(bytes);
    const answer = await peer.response();
    t.is(answer.status, 431);
    t.is(proxyStatus(answer.headers).details.split(':')[0], 'head_too_large');
    await peer.gone();
  }
  t.is((await proxy.listener()).limitHits['header_bytes'], 3);
});

test('header count: 431 and close', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startEmbedded(
    t,
    web({ routes: [{ to: origin.address }], limits: { headerCount: 20 } }),
  );
  const fields = (count: number): string => Array.from({ length: count }, (_, n) => `X-${n}: y\r\n`).join('');
  const peer = await connect(t, proxy.port());
  await peer.send(`GET / HTTP/1.1\r\nHost: a\r\n${fields(19)}\r\n`);
  t.is((await peer.response()).status, 200);
  await peer.send(`GET / HTTP/1.1\r\nHost: a\r\n${fields(20)}\r\n`);
  const answer = await peer.response();
  t.is(answer.status, 431);
  t.is(proxyStatus(answer.headers).details.split(':')[0], 'too_many_headers');
  t.is(await peer.readToEnd(), '');
  t.is((await proxy.listener()).limitHits['header_count'], 1);
});

test('by default: 64 KiB and 128 fields', async (t) => {
  const proxy = await startEmbedded(t, web({ routes: [{ respond: 200 }] }));
  const peer = await connect(t, proxy.port());
  await peer.send(`GET / HTTP/1.1\r\nHost: a\r\n${'X: y\r\n'.repeat(127)}\r\n`);
  t.is((await peer.response()).status, 200);
  await peer.send(`GET / HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(65_000)}\r\n\r\n`);
  t.is((await peer.response()).status, 200);
  await peer.send(`GET / HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(65_536)}\r\n\r\n`);
  t.is((await peer.response()).status, 431);
});

test('request body bytes: 413 by its announcement, and as it comes', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startEmbedded(
    t,
    web({ routes: [{ to: origin.address }], limits: { requestBodyBytes: 1000 } }),
  );
  const fits = await request(proxy.port(), { method: 'POST', body: 'x'.repeat(1000) });
  t.is(echoed(fits).body.length, 1000);
  const announced = await connect(t, proxy.port());
  await announced.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n');
  const first = await announced.response();
  t.is(first.status, 413);
  t.is(proxyStatus(first.headers).details.split(':')[0], 'body_too_large');
  const chunked = await connect(t, proxy.port());
  await chunked.send('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n');
  await until('the server is asked', () => origin.requests === 2);
  await chunked.send(`3e9\r\n${'x'.repeat(1001)}\r\n`);
  const second = await chunked.response();
  t.is(second.status, 413);
  t.is(origin.requests, 2);
  t.is((await proxy.listener()).limitHits['request_body_bytes'], 2);
});

test('request body bytes: of a body of unknown length no more arrives than may, and never the end', async (t) => {
  const seen: { bytes: number; whole: boolean; over: boolean }[] = [];
  const note = (stream: Readable): void => {
    const one = { bytes: 0, whole: false, over: false };
    seen.push(one);
    stream.on('data', (chunk: Buffer) => (one.bytes += chunk.length));
    stream.on('end', () => (one.whole = true));
    stream.on('error', () => {});
    stream.on('close', () => (one.over = true));
  };
  const old = await httpOrigin(t, note);
  // Node ends a stream that is reset as one that is whole: that it was reset is told by `aborted`.
  const young = await http2Origin(t, (stream) => {
    note(stream);
    const one = seen.at(-1);
    stream.on('close', () => one && (one.whole &&= !stream.aborted));
  });
  const proxy = await startEmbedded(
    t,
    web(
      {
        limits: { requestBodyBytes: 1000 },
        routes: [
          { match: { path: '/old' }, to: old.address },
          { match: { path: '/young' }, to: 'young' },
        ],
      },
      { clusters: { young: { endpoints: [young.address], protocol: 'http2' } } },
    ),
  );
  const session = await http2Connect(t, `http://127.0.0.1:${proxy.port()}`);
  let hits = 0;
  for (const path of ['/old', '/young']) {
    for (const size of [1001, 5000, 60_000, 200_000]) {
      const half = 'x'.repeat(size - 500);
      for (const parts of [[half + 'x'.repeat(500)], ['x'.repeat(500), half]]) {
        const peer = await connect(t, proxy.port());
        await peer.send(`POST ${path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n`);
        // It may have been refused, and its connection closed, before all of it has gone.
        const chunks = parts.map((part) => `${part.length.toString(16)}\r\n${part}\r\n`);
        await peer.send(...chunks).catch(() => {});
        peer.socket.write('0\r\n\r\n');
        t.is((await peer.response()).status, 413, `${path} ${size}`);
        const stream = session.request({ ':method': 'POST', ':path': path });
        stream.on('error', () => {});
        for (const part of parts) stream.write(part);
        stream.end();
        const [answer] = await event<[Record<string, unknown>]>(stream, 'response');
        t.is(answer[':status'], 413, `HTTP/2 ${path} ${size}`);
        stream.destroy();
        hits += 2;
      }
    }
  }
  t.is((await proxy.listener()).limitHits['request_body_bytes'], hits);
  await until('all that arrived was broken off', () => seen.every(({ over }) => over));
  t.deepEqual(
    seen.filter(({ bytes, whole }) => whole || bytes > 1000),
    [],
  );
  // A body that fits arrives, and says that the others would have been seen.
  const fits = await connect(t, proxy.port());
  await fits.send(`POST /old HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n`);
  await fits.send(`3e8\r\n${'x'.repeat(1000)}\r\n0\r\n\r\n`);
  await until('it arrives', () => seen.at(-1)?.whole && seen.at(-1)?.bytes === 1000);
});

test('connections: whoever comes above the bound waits, and is served when one leaves', async (t) => {
  const proxy = await startEmbedded(t, web({ routes: [{ respond: 200 }], limits: { connections: 2 } }));
  const first = await connect(t, proxy.port());
  const second = await connect(t, proxy.port());
  const ask = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n';
  for (const peer of [first, second]) {
    await peer.send(ask);
    t.is((await peer.response()).status, 200);
  }
  const waiting = [await connect(t, proxy.port()), await connect(t, proxy.port())];
  for (const peer of waiting) await peer.send(ask);
  await until('it is counted', async () => (await proxy.listener()).limitHits['connections']);
  t.is((await proxy.listener()).active, 2);
  for (const peer of waiting) t.is(peer.pending, 0);
  first.end();
  t.is((await waiting[0]?.response())?.status, 200);
  t.is(waiting[1]?.pending, 0);
  second.end();
  t.is((await waiting[1]?.response())?.status, 200);
});

test('requests per connection: the last one says so, also after a pause', async (t) => {
  const proxy = await startEmbedded(
    t,
    web({ routes: [{ respond: 200 }], limits: { requestsPerConnection: 3 } }),
  );
  const peer = await connect(t, proxy.port());
  for (let n = 1; n <= 3; n += 1) {
    await peer.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    const answer = await peer.response();
    t.is(answer.headers.get('connection'), n === 3 ? 'close' : undefined);
    // Longer than a busy connection waits for its next request.
    if (n === 1) await sleep(1500);
  }
  t.is(await peer.readToEnd(), '');
  await proxy.closedBy('max_requests');
  t.is((await proxy.listener()).limitHits['requests_per_connection'], 1);
});

test('requests of a cluster: 503 above', async (t) => {
  const held: (() => void)[] = [];
  const origin = await httpOrigin(t, (_, outgoing) => {
    held.push(() => outgoing.end('ok'));
  });
  const proxy = await startEmbedded(
    t,
    web(
      { routes: [{ to: 'app' }] },
      { clusters: { app: { endpoints: [origin.address], limits: { requests: 2 } } } },
    ),
  );
  const two = [request(proxy.port()), request(proxy.port())];
  await until('both arrive', () => held.length === 2);
  const third = await request(proxy.port());
  t.is(third.status, 503);
  t.deepEqual(proxyStatus(third.headers), { error: 'connection_limit_reached', details: 'request_limit' });
  for (const release of held) release();
  for (const answer of await Promise.all(two)) t.is(answer.text, 'ok');
  t.is((await proxy.cluster('app')).limitHits['requests'], 1);
});

test('connections of a cluster: requests wait for one, as pending; more than may wait are 503', async (t) => {
  const held: (() => void)[] = [];
  const origin = await httpOrigin(t, (_, outgoing) => {
    held.push(() => outgoing.end('ok'));
  });
  const proxy = await startEmbedded(
    t,
    web(
      { routes: [{ to: 'app' }] },
      {
        clusters: {
          app: {
            endpoints: [origin.address],
            timeouts: { connect: '20s' },
            limits: { connections: 1, pendingRequests: 2 },
          },
        },
      },
    ),
  );
  const first = request(proxy.port());
  await until('it arrives', () => held.length === 1);
  const waiting = [request(proxy.port()), request(proxy.port())];
  await until('two wait', async () => (await proxy.cluster('app')).pending === 2);
  const over = await request(proxy.port());
  t.is(over.status, 503);
  t.is(proxyStatus(over.headers).details, 'upstream_overflow');
  t.is(held.length, 1);
  for (let n = 0; n < 3; n += 1) {
    await until('the next arrives', () => held.length > n);
    held[n]?.();
  }
  for (const answer of await Promise.all([first, ...waiting])) t.is(answer.text, 'ok');
  t.is(origin.connections, 1);
  const { limitHits } = await proxy.cluster('app');
  t.is(limitHits['pending_requests'], 1);
  t.is(limitHits['connections'], waiting.length);
});

test('connections of a cluster: a client that leaves while its request waits is no longer in the queue', async (t) => {
  const origin = await httpOrigin(t, () => {});
  const proxy = await startEmbedded(
    t,
    web(
      { routes: [{ to: 'app' }] },
      {
        clusters: {
          app: { endpoints: [origin.address], timeouts: { connect: '1h' }, limits: { connections: 1 } },
        },
      },
    ),
  );
  const first = await connect(t, proxy.port());
  await first.send('GET /first HTTP/1.1\r\nHost: a\r\n\r\n');
  await until('it arrives', () => origin.requests === 1);
  const peers = await Promise.all([1, 2, 3].map(() => connect(t, proxy.port())));
  for (const peer of peers) await peer.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab');
  await until('they wait', async () => (await proxy.cluster('app')).pending === peers.length);
  for (const peer of peers) peer.reset();
  await until('nobody waits', async () => (await proxy.cluster('app')).pending === 0);
  t.is(await proxy.endedBy('client_closed'), peers.length);
  t.is(origin.requests, 1);
});

test('idle connections: a pool keeps no more than it may, and the youngest', async (t) => {
  const held: (() => void)[] = [];
  const origin = await httpOrigin(t, (incoming, outgoing) => {
    held.push(() => echo(incoming, outgoing));
  });
  const proxy = await startEmbedded(
    t,
    web(
      { routes: [{ to: 'app' }] },
      { clusters: { app: { endpoints: [origin.address], limits: { idleConnections: 2 } } } },
    ),
  );
  const five = Array.from({ length: 5 }, () => request(proxy.port()));
  await until('all arrive', () => held.length === 5);
  t.is((await proxy.cluster('app')).active, 5);
  for (const release of held) release();
  await Promise.all(five);
  await until('two are left', async () => (await proxy.cluster('app')).active === 2);
  const agent = keepAliveAgent(t);
  const again = request(proxy.port(), { agent });
  await until('it arrives', () => held.length === 6);
  held[5]?.();
  t.is((await again).status, 200);
  t.is(origin.connections, 5);
});

test('a pool of none: every request has a connection of its own', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startEmbedded(
    t,
    web(
      { routes: [{ to: 'app' }] },
      { clusters: { app: { endpoints: [origin.address], limits: { idleConnections: 0 } } } },
    ),
  );
  for (let n = 0; n < 3; n += 1) t.is((await request(proxy.port())).status, 200);
  t.is(origin.connections, 3);
});

test('a stream above the connections of its cluster is refused', async (t) => {
  const servers = [await tcpServer(t), await tcpServer(t)];
  const endpoints = servers.map(({ address }) => address);
  const proxy = await startEmbedded(
    t,
    web({ protocol: 'tcp', tcp: 'db' }, { clusters: { db: { endpoints, limits: { connections: 1 } } } }),
  );
  const first = await connect(t, proxy.port());
  await first.send('hello');
  const accepted = (): number => servers.flatMap(({ peers }) => peers).length;
  await until('it is connected', () => accepted() === 1);
  // Node may see the reset before it sees that it was connected.
  await (await connect(t, proxy.port()).catch(() => undefined))?.gone();
  await proxy.closedBy('connection_limit');
  t.is(accepted(), 1);
  t.is((await proxy.cluster('db')).limitHits['connections'], 1, 'once, not once for each endpoint');
});
