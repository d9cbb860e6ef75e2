// Which version of HTTP is spoken to whom? By the listener's and the cluster's word, by ALPN, by the preface.

import test from 'ava';
import { WebSocket, WebSocketServer } from 'ws';
import { Authority } from '../support/certificates.js';
import { event, http2Origin, httpOrigin, request } from '../support/http.js';
import { ask, http2Connect, http2SecureOrigin } from '../support/http2.js';
import { must } from '../support/processes.js';
import { startSidecar, web } from '../support/sidecar.js';

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

for (const [name, options, chosen, connections] of [
  ['both versions', { allowHTTP1: true }, 'h2', 1],
  ['HTTP/1 alone', { allowHTTP1: true, ALPNProtocols: ['http/1.1'] }, 'http/1.1', 1],
] as const) {
  test(`a TLS server of ${name} chooses, and is asked no second time`, async (t) => {
    const authority = await Authority.create(t);
    const certificate = await authority.sign({ names: ['site.test'] });
    const origin = await http2SecureOrigin(
      t,
      certificate,
      (incoming, outgoing) => {
        outgoing.end(`${incoming.httpVersion} ${incoming.url}`);
      },
      { ...options, ...('ALPNProtocols' in options && { ALPNProtocols: [...options.ALPNProtocols] }) },
    );
    const proxy = await startSidecar(
      t,
      web(
        { to: 'site' },
        {
          clusters: {
            site: { endpoints: [origin.address], tls: { serverName: 'site.test', roots: authority.root } },
          },
        },
      ),
    );
    const session = await http2Connect(t, proxy.url());
    const version = chosen === 'h2' ? '2.0' : '1.1';
    for (let n = 0; n < 10; n += 1) {
      t.is((await ask(session, { ':path': `/a${n}` })).text, `${version} /a${n}`);
      t.is((await request(proxy.port(), { path: `/b${n}` })).text, `${version} /b${n}`);
    }
    t.deepEqual(origin.protocols, Array.from({ length: connections }, () => chosen));
    // A burst takes as many connections as the version needs.
    const burst = await Promise.all(
      Array.from({ length: 20 }, (_, n) => ask(session, { ':path': `/c${n}` })),
    );
    for (const [n, { text }] of burst.entries()) t.is(text, `${version} /c${n}`);
    if (chosen === 'h2') t.is(origin.protocols.length, 1);
    else t.true(origin.protocols.length <= 20);
  });
}

test('a server that agrees to no version over TLS gets HTTP/1; one that must speak HTTP/2 and does not is no server', async (t) => {
  const authority = await Authority.create(t);
  const certificate = await authority.sign({ names: ['site.test'] });
  const origin = await http2SecureOrigin(
    t,
    certificate,
    (incoming, outgoing) => {
      outgoing.end(incoming.httpVersion);
    },
    { allowHTTP1: true, ALPNProtocols: ['http/1.1'] },
  );
  const tls = { serverName: 'site.test', roots: authority.root };
  const proxy = await startSidecar(
    t,
    web(
      { routes: [{ match: { path: '/h2' }, to: 'strict' }, { to: 'old' }] },
      {
        clusters: {
          strict: { endpoints: [origin.address], protocol: 'http2', tls },
          old: { endpoints: [origin.address], protocol: 'http1', tls },
        },
      },
    ),
  );
  t.is((await request(proxy.port())).text, '1.1');
  const refused = await request(proxy.port(), { path: '/h2' });
  t.is(refused.status, 502);
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
  const proxy = await startSidecar(
    t,
    web(
      { to: 'site' },
      {
        clusters: {
          site: { endpoints: [origin.address], tls: { serverName: 'site.test', roots: authority.root } },
        },
      },
    ),
  );
  t.is((await request(proxy.port())).text, '2.0');
  const client = new WebSocket(`ws://${proxy.address()}/`);
  t.teardown(() => client.terminate());
  await event(client, 'open');
  client.send('hello');
  const [data] = await event<[Buffer]>(client, 'message');
  t.is(data.toString(), 'echo hello');
  t.deepEqual(origin.protocols, ['h2', 'http/1.1']);
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
