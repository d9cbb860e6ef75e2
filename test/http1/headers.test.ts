// Which headers stay, which go, and which are the proxy's own?

import { join } from 'node:path';
import test from 'ava';
import { temporaryFolder } from '../support/files.js';
import { echoed, httpOrigin, request } from '../support/http.js';
import { startSidecar, web } from '../support/sidecar.js';
import { connect, tcpServer } from '../support/tcp.js';

test('hop-by-hop headers of a request end here, also those that `connection` names', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const peer = await connect(t, proxy.port());
  await peer.send(
    'GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop, x-other\r\nX-Hop: 1\r\nX-OTHER: 2\r\nKeep-Alive: timeout=5\r\n' +
      'TE: gzip, trailers\r\nProxy-Connection: keep-alive\r\nX-End: 3\r\nX-Hop-Not: 4\r\n\r\n',
  );
  const { headers } = echoed({ text: (await peer.response()).body });
  for (const name of ['x-hop', 'x-other', 'keep-alive', 'proxy-connection', 'upgrade'])
    t.false(name in headers, name);
  t.is(headers['te'], 'trailers');
  t.is(headers['connection'], 'te');
  t.is(headers['x-end'], '3');
  t.is(headers['x-hop-not'], '4');
});

test('`te: trailers` is said anew to the next hop, and to it alone', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    for (;;) {
      const head = await peer.readUntil('\r\n\r\n');
      const hop = head.split('\r\n').filter((line) => /^(te|connection|upgrade):/i.test(line));
      const seen = hop.join('\n');
      await peer.send(`HTTP/1.1 200 OK\r\nContent-Length: ${seen.length}\r\n\r\n${seen}`);
    }
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: server.address }] }));
  const peer = await connect(t, proxy.port());
  for (const [said, sent] of [
    ['', ''],
    ['TE: gzip\r\n', ''],
    ['TE: trailers\r\n', 'te: trailers\nConnection: te'],
    // A list may come in several fields (RFC 9110 section 5.3).
    ['TE: gzip\r\nConnection: TE\r\nTE: deflate;q=0.5, Trailers\r\n', 'te: trailers\nConnection: te'],
    [
      'TE: trailers\r\nConnection: TE, Upgrade\r\nUpgrade: chat\r\n',
      'te: trailers\nConnection: upgrade, te\nUpgrade: chat',
    ],
  ] as const) {
    await peer.send(`GET / HTTP/1.1\r\nHost: a\r\n${said}\r\n`);
    t.is((await peer.response()).body, sent, said);
  }
});

test('hop-by-hop headers of a response end here likewise', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    await peer.readUntil('\r\n\r\n');
    await peer.send(
      'HTTP/1.1 200 OK\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nX-End: 2\r\nContent-Length: 0\r\n\r\n',
    );
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: server.address }] }));
  const { headers } = await request(proxy.port(), { headers: { connection: 'keep-alive' } });
  for (const name of ['x-hop', 'keep-alive', 'proxy-connection']) t.false(name in headers, name);
  t.is(headers['x-end'], '2');
});

test('`connection` can not take away what the proxy says', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const { headers } = echoed(
    await request(proxy.port(), {
      headers: { connection: 'close, x-forwarded-for, x-request-id, host', 'x-forwarded-for': '6.6.6.6' },
    }),
  );
  t.is(headers['x-forwarded-for'], '127.0.0.1');
  t.regex(String(headers['x-request-id']), /^[0-9a-f-]{36}$/);
  t.is(headers.host, `127.0.0.1:${proxy.port()}`);
});

const CLAIMS = {
  'x-forwarded-for': '1.2.3.4',
  'x-forwarded-proto': 'https',
  'x-forwarded-host': 'claimed.test',
  'x-forwarded-port': '444',
  'x-real-ip': '1.2.3.4',
  forwarded: 'for=1.2.3.4;proto=https',
  'x-request-id': 'from-the-client',
};

test('from anyone: what a client says of its way here is not believed', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(
    t,
    web({ routes: [{ to: origin.address }], trustedNetworks: ['10.0.0.0/8'] }),
  );
  const { headers } = echoed(await request(proxy.port(), { headers: CLAIMS }));
  t.is(headers['x-forwarded-for'], '127.0.0.1');
  t.is(headers['x-forwarded-proto'], 'http');
  for (const name of ['x-forwarded-host', 'x-forwarded-port', 'x-real-ip', 'forwarded'])
    t.false(name in headers, name);
  t.regex(
    String(headers['x-request-id']),
    /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
  );
});

test('from a trusted network: it is kept, and the client appended', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(
    t,
    web({ routes: [{ to: origin.address }], trustedNetworks: ['127.0.0.0/8'] }),
  );
  const { headers } = echoed(await request(proxy.port(), { headers: CLAIMS }));
  t.is(headers['x-forwarded-for'], '1.2.3.4, 127.0.0.1');
  t.is(headers['x-forwarded-proto'], 'https');
  t.is(headers['x-forwarded-host'], 'claimed.test');
  t.is(headers['x-forwarded-port'], '444');
  t.is(headers['x-real-ip'], '1.2.3.4');
  t.is(headers['x-request-id'], 'from-the-client');
  t.is(headers['forwarded'], CLAIMS.forwarded);
});

test('from a Unix socket: it is believed where that is said', async (t) => {
  const origin = await httpOrigin(t);
  for (const trustedNetworks of [['unix'], ['0.0.0.0/0', '::/0']]) {
    const socketPath = join(temporaryFolder(t), 'web.sock');
    const address = `unix:${socketPath}`;
    const listener = { name: 'web', address, routes: [{ to: origin.address }], trustedNetworks };
    await startSidecar(t, { listeners: [listener] });
    const { headers } = echoed(await request(0, { socketPath, headers: CLAIMS }));
    const isTrusted = trustedNetworks[0] === 'unix';
    t.is(headers['x-forwarded-for'], isTrusted ? '1.2.3.4, unknown' : 'unknown');
    t.is(headers['x-forwarded-proto'], isTrusted ? 'https' : 'http');
    t.is(headers['x-request-id'] === 'from-the-client', isTrusted);
  }
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }], trustedNetworks: ['unix'] }));
  t.is(
    echoed(await request(proxy.port(), { headers: CLAIMS })).headers['x-forwarded-for'],
    '127.0.0.1',
    'nobody comes by one here',
  );
});

test('each request gets an id of its own', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const ids = new Set<unknown>();
  for (let n = 0; n < 50; n += 1) ids.add(echoed(await request(proxy.port())).headers['x-request-id']);
  t.is(ids.size, 50);
});

test('`via` is off, and on where it is asked for, both ways', async (t) => {
  const origin = await httpOrigin(t, (incoming, outgoing) => {
    outgoing.setHeader('x-via', incoming.headers.via ?? 'none');
    outgoing.end();
  });
  const proxy = await startSidecar(t, {
    listeners: [
      { name: 'off', address: '127.0.0.1:0', to: origin.address },
      { name: 'on', address: '127.0.0.1:0', to: origin.address, via: 'edge' },
    ],
  });
  const off = await request(proxy.port('off'));
  t.is(off.headers['x-via'], 'none');
  t.false('via' in off.headers);
  const on = await request(proxy.port('on'), { headers: { via: '1.0 first' } });
  t.is(on.headers['x-via'], '1.0 first, 1.1 edge');
  t.is(on.headers['via'], '1.1 edge');
});

test('names keep their case and order, and repeated fields stay apart', async (t) => {
  const origin = await httpOrigin(t, (_, outgoing) => {
    outgoing.writeHead(
      200,
      [
        ['X-Mixed-CASE', 'a'],
        ['Set-Cookie', 'one=1'],
        ['Set-Cookie', 'two=2'],
        ['x-low', 'b'],
      ].flat(),
    );
    outgoing.end();
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const { rawHeaders } = await request(proxy.port());
  const pairs = rawHeaders.join('\n');
  t.true(pairs.startsWith('X-Mixed-CASE\na\nSet-Cookie\none=1\nSet-Cookie\ntwo=2\nx-low\nb'), pairs);
});

test('the host is kept, replaced, or the server is called by its own name', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(
    t,
    web({
      routes: [
        { match: { path: '/keep' }, to: origin.address },
        { match: { path: '/set' }, to: origin.address, host: 'set.test' },
        { match: { path: '/upstream' }, to: origin.address, host: 'upstream' },
      ],
    }),
  );
  const hostAt = async (path: string): Promise<string | undefined> =>
    echoed(await request(proxy.port(), { path, headers: { host: 'asked.test' } })).headers.host;
  t.is(await hostAt('/keep'), 'asked.test');
  t.is(await hostAt('/set'), 'set.test');
  t.is(await hostAt('/upstream'), origin.address);
});
