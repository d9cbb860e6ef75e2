// As a forward proxy: are names that are configured reached, and no others?

import http from 'node:http';
import { once } from 'node:events';
import test from 'ava';
import { Authority } from '../support/certificates.js';
import { echoed, httpOrigin, proxyStatus } from '../support/http.js';
import { must, run } from '../support/processes.js';
import { startSidecar, web } from '../support/sidecar.js';
import { closedPort, connect, tcpServer } from '../support/tcp.js';
import { httpsOrigin } from '../support/tls.js';

const routes = (to: string) => [{ match: { host: ['shop.test', '*.inner.test'] }, to }];

test('absolute-form: a configured name is reached, with the host of the target', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(t, web({ forwardProxy: true, routes: routes(origin.address) }));
  const text = await must('curl', ['-sS', '--proxy', proxy.url(), 'http://shop.test/a?b=c']);
  const seen = echoed({ text });
  t.is(seen.url, '/a?b=c');
  t.is(seen.headers.host, 'shop.test');
  t.false('proxy-connection' in seen.headers);

  const peer = await connect(t, proxy.port());
  await peer.send('GET http://x.inner.test:8080 HTTP/1.1\r\nHost: x.inner.test:8080\r\n\r\n');
  const root = echoed({ text: (await peer.response()).body });
  t.is(root.url, '/');
  t.is(root.headers.host, 'x.inner.test:8080');
});

test('absolute-form: OPTIONS without a path asks the server itself', async (t) => {
  const origin = await httpOrigin(t);
  for (const forwardProxy of [true, false]) {
    const proxy = await startSidecar(t, web({ forwardProxy, routes: routes(origin.address) }));
    const peer = await connect(t, proxy.port());
    for (const [target, url] of [
      ['http://shop.test', '*'],
      ['http://shop.test/', '/'],
      ['http://shop.test/?a', '/?a'],
      ['http://shop.test?a=/b', '/?a=/b'],
    ]) {
      await peer.send(`OPTIONS ${target} HTTP/1.1\r\nHost: shop.test\r\n\r\n`);
      const seen = echoed({ text: (await peer.response()).body });
      t.deepEqual([seen.method, seen.url, seen.headers.host], ['OPTIONS', url, 'shop.test'], target);
    }
  }
});

test('absolute-form: any other name is 403, whoever listens there', async (t) => {
  const origin = await httpOrigin(t);
  const stranger = await httpOrigin(t);
  const proxy = await startSidecar(t, web({ forwardProxy: true, routes: routes(origin.address) }));
  for (const url of [`http://${stranger.address}/`, 'http://other.test/']) {
    const { stdout } = await run('curl', ['-sS', '-i', '--proxy', proxy.url(), url]);
    t.regex(
      stdout.toString(),
      /^HTTP\/1\.1 403 [^]*proxy-status: mesh; error=http_request_denied; details="forward_denied"/,
    );
  }
  t.is(stranger.connections, 0);
});

test('absolute-form with https is passed on by TLS, or refused', async (t) => {
  const authority = await Authority.create(t);
  const inClear = await httpOrigin(t);
  const secured = await httpsOrigin(t, await authority.sign({ names: ['secure.test'] }));
  const proxy = await startSidecar(
    t,
    web(
      {
        forwardProxy: true,
        routes: [...routes(inClear.address), { match: { host: 'secure.test' }, to: 'secure' }],
      },
      {
        clusters: {
          secure: {
            endpoints: [secured.address],
            protocol: 'http1',
            tls: { serverName: 'secure.test', roots: authority.root },
            // The server is of this process, which may stand still amid a handshake.
            timeouts: { connect: '20s' },
          },
        },
      },
    ),
  );
  const peer = await connect(t, proxy.port());
  for (const [url, status] of [
    ['https://shop.test/', 421],
    ['HTTPS://shop.test/', 421],
    ['http://shop.test/', 200],
    ['https://secure.test/', 200],
  ] as const) {
    await peer.send(`GET ${url} HTTP/1.1\r\nHost: ${new URL(url).host}\r\n\r\n`);
    const answer = await peer.response();
    t.is(answer.status, status, url);
    if (status === 421) t.is(proxyStatus(answer.headers).details, 'misdirected: https_in_clear');
  }
  t.is(inClear.requests, 1);
});

test('absolute-form where the listener is no forward proxy: an ordinary request for that host', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(t, web({ routes: routes(origin.address) }));
  const peer = await connect(t, proxy.port());
  await peer.send('GET http://shop.test/x HTTP/1.1\r\nHost: shop.test\r\n\r\n');
  t.is(echoed({ text: (await peer.response()).body }).url, '/x');
  await peer.send('GET http://other.test/x HTTP/1.1\r\nHost: other.test\r\n\r\n');
  t.is((await peer.response()).status, 404);
});

test('CONNECT: a tunnel to the cluster of a configured name; bytes, early ones included, and half-close', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    await peer.send('welcome\r\n');
    const all = await peer.readToEnd();
    peer.end(`you said ${all}`);
  });
  const proxy = await startSidecar(t, web({ forwardProxy: true, routes: routes(server.address) }));
  const peer = await connect(t, proxy.port());
  await peer.send('CONNECT shop.test:25 HTTP/1.1\r\nHost: shop.test:25\r\n\r\nearly ');
  const answer = await peer.readUntil('\r\n\r\n');
  t.regex(answer, /^HTTP\/1\.1 200 /);
  t.notRegex(answer, /content-length|transfer-encoding/i);
  t.is(await peer.readUntil('\r\n'), 'welcome\r\n');
  peer.end('and late');
  t.is(await peer.readToEnd(), 'you said early and late');
});

test('CONNECT: HTTP through the tunnel, with curl', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(t, web({ forwardProxy: true, routes: routes(origin.address) }));
  const text = await must('curl', ['-sS', '--proxytunnel', '--proxy', proxy.url(), 'http://shop.test/in']);
  const seen = echoed({ text });
  t.is(seen.url, '/in');
  t.false('x-forwarded-for' in seen.headers, 'nothing is changed in a tunnel');
});

test('CONNECT: with Node', async (t) => {
  const server = await tcpServer(t, (peer) => peer.send('hi'));
  const proxy = await startSidecar(t, web({ forwardProxy: true, routes: routes(server.address) }));
  const sent = http.request({
    port: proxy.port(),
    host: '127.0.0.1',
    method: 'CONNECT',
    path: 'shop.test:1',
    headers: { host: 'shop.test:1' },
    agent: false,
  });
  sent.end();
  const [answer, socket, head] = (await once(sent, 'connect')) as [
    http.IncomingMessage,
    NodeJS.ReadableStream,
    Buffer,
  ];
  t.is(answer.statusCode, 200);
  // What comes in one packet with the answer is given with it.
  const [first] = head.length > 0 ? [head] : ((await once(socket, 'data')) as [Buffer]);
  t.is(first.toString(), 'hi');
  sent.destroy();
});

test('CONNECT: other names are 403, no forward proxy is 403, a server that is not there is 502', async (t) => {
  const server = await tcpServer(t);
  const gone = await closedPort();
  const proxy = await startSidecar(t, {
    listeners: [
      {
        name: 'forward',
        address: '127.0.0.1:0',
        forwardProxy: true,
        routes: [...routes(server.address), { match: { host: 'gone.test' }, to: `127.0.0.1:${gone}` }],
      },
      { name: 'plain', address: '127.0.0.1:0', routes: routes(server.address) },
    ],
  });
  const ask = async (listener: string, target: string): Promise<[number, string]> => {
    const peer = await connect(t, proxy.port(listener));
    await peer.send(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`);
    const { status, headers } = await peer.response();
    return [status, proxyStatus(headers).details];
  };
  t.deepEqual(await ask('forward', 'other.test:443'), [403, 'forward_denied']);
  t.deepEqual(await ask('forward', server.address), [403, 'forward_denied']);
  t.deepEqual(await ask('plain', 'shop.test:443'), [403, 'forward_denied']);
  t.deepEqual(await ask('forward', 'gone.test:443'), [502, 'connect_refused']);
  t.is(server.peers.length, 0);
});

test('CONNECT: one that is refused ends its connection, so that what was for the tunnel is no request', async (t) => {
  const origin = await httpOrigin(t);
  const gone = await closedPort();
  const proxy = await startSidecar(
    t,
    web({
      forwardProxy: true,
      routes: [...routes(origin.address), { match: { host: 'gone.test' }, to: `127.0.0.1:${gone}` }],
    }),
  );
  for (const [target, status] of [
    ['other.test:443', 403],
    ['gone.test:443', 502],
  ] as const) {
    const peer = await connect(t, proxy.port());
    await peer.send(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`);
    const answer = await peer.response();
    t.is(answer.status, status);
    t.is(answer.headers.get('connection'), 'close');
    peer.socket.write('GET /smuggled HTTP/1.1\r\nHost: shop.test\r\n\r\n');
    t.is(await peer.readToEnd(), '');
  }
  t.is(origin.requests, 0);
});
