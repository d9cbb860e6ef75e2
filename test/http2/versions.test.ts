// Which version of HTTP is spoken to whom? By the listener's and the cluster's word, by ALPN, by the preface.

import test from 'ava';
import { WebSocket, WebSocketServer } from 'ws';
import type { Config } from '../../src/config/index.js';
import { Authority } from '../support/certificates.js';
import { startWithAdmin } from '../sidecar/support.js';
import { event, http2Origin, httpOrigin, proxyStatus, request } from '../support/http.js';
import { ask, http2Connect, http2SecureOrigin } from '../support/http2.js';
import { must } from '../support/processes.js';
import { startSidecar, web } from '../support/sidecar.js';
import { httpsOrigin } from '../support/tls.js';
import { until } from '../support/wait.js';

test('curl with prior knowledge, and without', async (t) => {
  const origin = await http2Origin(t, (stream) => {
    stream.respond({ ':status': 200 });
    stream.end('hello');
  });
  const proxy = await startSidecar(
    t,
    web({ to: 'site' }, { clusters: { site: { endpoints: [origin.address], protocol: 'http2' } } }),
  );
  for (const [flag, version] of [
    ['--http2-prior-knowledge', '2'],
    ['--http1.1', '1.1'],
  ] as const) {
    const said = await must('curl', ['-sS', flag, '-w', ' %{http_version}', proxy.url()]);
    t.is(said, `hello ${version}`);
  }
});

/** A cluster of a TLS server; the listener has no TCP target, which a slow client's silence would call. */
function before(address: string, root: string, protocol?: 'http1' | 'http2'): Config {
  const tls = { serverName: 'site.test', roots: root };
  return web(
    { routes: [{ to: 'site' }] },
    {
      clusters: {
        // The server is in this process, which may stand still amid a handshake.
        site: { endpoints: [address], tls, timeouts: { connect: '20s' }, ...(protocol && { protocol }) },
      },
    },
  );
}

test('a TLS server of both versions gets HTTP/2, on one connection', async (t) => {
  const authority = await Authority.create(t);
  const origin = await http2SecureOrigin(
    t,
    await authority.sign({ names: ['site.test'] }),
    (incoming, outgoing) => {
      outgoing.end(`${incoming.httpVersion} ${incoming.url}`);
    },
    { allowHTTP1: true },
  );
  const proxy = await startSidecar(t, before(origin.address, authority.root));
  const session = await http2Connect(t, proxy.url());
  for (let n = 0; n < 10; n += 1) {
    t.is((await ask(session, { ':path': `/a${n}` })).text, `2.0 /a${n}`);
    t.is((await request(proxy.port(), { path: `/b${n}` })).text, `2.0 /b${n}`);
  }
  const burst = await Promise.all(Array.from({ length: 20 }, (_, n) => ask(session, { ':path': `/c${n}` })));
  for (const [n, { text }] of burst.entries()) t.is(text, `2.0 /c${n}`);
  t.deepEqual(origin.protocols, ['h2']);
});

test('a TLS server of HTTP/1 chooses once, and is asked no second time', async (t) => {
  const authority = await Authority.create(t);
  const certificate = await authority.sign({ names: ['site.test'] });
  const origin = await httpsOrigin(t, certificate, { ALPNProtocols: ['http/1.1'], keepAliveTimeout: 0 });
  const proxy = await startSidecar(t, before(origin.address, authority.root));
  const session = await http2Connect(t, proxy.url());
  for (let n = 0; n < 10; n += 1) t.is((await ask(session, { ':path': '/' })).text, 'origin');
  t.deepEqual(origin.protocols, ['http/1.1']);
  const burst = await Promise.all(Array.from({ length: 20 }, () => ask(session, { ':path': '/' })));
  for (const { text } of burst) t.is(text, 'origin');
  t.true(origin.handshakes <= 20, 'a connection for each request at once, and none in vain');
});

test('a first burst waits for the choice of a TLS server of HTTP/1', async (t) => {
  const authority = await Authority.create(t);
  const certificate = await authority.sign({ names: ['site.test'] });
  const origin = await httpsOrigin(t, certificate, { ALPNProtocols: ['http/1.1'], keepAliveTimeout: 0 });
  const proxy = await startSidecar(t, before(origin.address, authority.root));
  const session = await http2Connect(t, proxy.url());
  const burst = await Promise.all(Array.from({ length: 20 }, () => ask(session, { ':path': '/' })));
  for (const { text } of burst) t.is(text, 'origin');
  t.true(origin.handshakes <= 20);
});

test('a server that agrees to no version gets HTTP/1; one that must speak HTTP/2 and does not is no server', async (t) => {
  const authority = await Authority.create(t);
  const certificate = await authority.sign({ names: ['site.test'] });
  const silent = await httpsOrigin(t, certificate, { ALPNProtocols: [] });
  const either = await startSidecar(t, before(silent.address, authority.root));
  t.is((await request(either.port())).text, 'origin');
  const old = await httpsOrigin(t, certificate, { ALPNProtocols: ['http/1.1'] });
  const strict = await startSidecar(t, before(old.address, authority.root, 'http2'));
  t.is((await request(strict.port())).status, 502);
  const plain = await startSidecar(t, before(old.address, authority.root, 'http1'));
  t.is((await request(plain.port())).text, 'origin');
});

test('an upgrade goes to a TLS server of both versions as HTTP/1', async (t) => {
  const authority = await Authority.create(t);
  const certificate = await authority.sign({ names: ['site.test'] });
  const origin = await http2SecureOrigin(
    t,
    certificate,
    (incoming, outgoing) => {
      outgoing.end(incoming.httpVersion);
    },
    { allowHTTP1: true },
  );
  const sockets = new WebSocketServer({ noServer: true });
  t.teardown(() => sockets.close());
  origin.server.on('upgrade', (incoming, socket, head) => {
    sockets.handleUpgrade(incoming, socket, head, (opened) => {
      opened.on('message', (data) => opened.send(`echo ${data.toString()}`));
    });
  });
  const proxy = await startSidecar(t, before(origin.address, authority.root));
  t.is((await request(proxy.port())).text, '2.0');
  const client = new WebSocket(`ws://${proxy.address()}/`);
  t.teardown(() => client.terminate());
  await event(client, 'open');
  client.send('hello');
  const [data] = await event<[Buffer]>(client, 'message');
  t.is(data.toString(), 'echo hello');
  t.deepEqual(origin.protocols, ['h2', 'http/1.1']);
});

test('an upgrade that servers of HTTP/2 alone have no use for says nothing against them', async (t) => {
  const authority = await Authority.create(t);
  const certificate = await authority.sign({ names: ['site.test'] });
  const origins = await Promise.all(
    Array.from({ length: 3 }, () =>
      http2SecureOrigin(t, certificate, (_, outgoing) => {
        outgoing.end('hello');
      }),
    ),
  );
  let connections = 0;
  for (const { server } of origins) {
    server.on('connection', () => {
      connections += 1;
    });
  }
  const tls = { serverName: 'site.test', roots: authority.root };
  const { sidecar: proxy, admin } = await startWithAdmin(
    t,
    web(
      { routes: [{ to: 'site' }] },
      { clusters: { site: { endpoints: origins.map(({ address }) => address), tls } } },
    ),
  );
  const headers = {
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
  };
  for (let n = 1; n <= 6; n += 1) {
    const answer = await request(proxy.port('web'), { headers });
    t.is(answer.status, 502);
    t.deepEqual(proxyStatus(answer.headers), {
      error: 'tls_alert_received',
      details: 'upstream_no_http1',
    });
    t.is(connections, n, 'one server is asked');
  }
  const session = await http2Connect(t, proxy.url('web'));
  await until('it is announced', () => session.remoteSettings?.enableConnectProtocol === true);
  for (let n = 0; n < 6; n += 1) {
    const answer = await ask(session, {
      ':method': 'CONNECT',
      ':protocol': 'websocket',
      ':scheme': 'http',
      ':path': '/',
      ':authority': 'site.test',
      'sec-websocket-version': '13',
    });
    t.is(answer.status, 502);
    t.is(proxyStatus(answer.headers as Parameters<typeof proxyStatus>[0]).details, 'upstream_no_http1');
  }
  const metrics = await admin.metrics();
  t.is(metrics.sum('mesh_endpoint_ejections_total'), 0);
  t.is(metrics.sum('mesh_upstream_connect_failures_total', { reason: 'upstream_no_http1' }), 12);
  for (let n = 0; n < 9; n += 1) t.is((await request(proxy.port('web'))).text, 'hello');
});

test('in plaintext a cluster of either version gets HTTP/1, and gRPC HTTP/2', async (t) => {
  const old = await httpOrigin(t);
  const grpc = await http2Origin(t, (stream) => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end();
  });
  const proxy = await startSidecar(
    t,
    web({ routes: [{ match: { grpc: 'shop.Basket' }, to: grpc.address }, { to: old.address }] }),
  );
  const session = await http2Connect(t, proxy.url());
  t.is((await ask(session, { ':path': '/' })).status, 200);
  t.is(old.requests, 1);
  const answer = await ask(
    session,
    { ':method': 'POST', ':path': '/shop.Basket/Add', 'content-type': 'application/grpc', te: 'trailers' },
    { body: Buffer.alloc(5) },
  );
  t.is(answer.trailers['grpc-status'], '0');
});
