// Rows 22, 25 to 27, 29 and 32: is what is routed what a server sees, whatever a client calls it?

import test from 'ava';
import { proxyStatus } from '../support/http.js';
import { front, recorder } from './support.js';
import { LISTENERS } from './support.js';
import { HIDDEN } from '../../src/attack/payloads.js';
import { PATHS } from './paths.js';
import { FLAG, REQUEST, code, opening, request, TYPE } from '../../src/attack/frames.js';
import { arrives } from './arrives.js';

const get = (path: string, fields = ''): string =>
  `GET ${path} HTTP/1.1\r\nHost: a.test\r\n${fields}Connection: close\r\n\r\n`;

/** What is not for everybody is refused; the rest goes to a server. */
const GUARDED = {
  routes: [
    { match: { path: '/admin' }, respond: { status: 403 } },
    { match: { path: '/admin/*' }, respond: { status: 403 } },
    { match: { path: '/*' }, to: 'all' },
  ],
};

test('row 22: HTTP/1', async (t) => {
  const server = await recorder(t);
  const proxy = await front(t, 'all', GUARDED, { clusters: { all: { endpoints: [server.address] } } });
  for (const listener of LISTENERS) {
    for (const [path, outcome] of PATHS) {
      server.forget();
      const peer = await proxy.connect(t, listener);
      await peer.send(get(path));
      const { status } = await peer.response();
      if (typeof outcome === 'number') {
        t.is(status, outcome, path);
        t.is(server.bytes(), '', path);
      } else if (/^\/admin(\/|$)/.test(outcome)) {
        t.is(status, 403, path);
        t.is(server.bytes(), '', path);
      } else {
        t.is(status, 200, path);
        t.is(server.requests[0]?.head.split(' ')[1], outcome, path);
      }
      peer.socket.destroy();
    }
  }
});

test('row 22: HTTP/2', async (t) => {
  const server = await recorder(t);
  const proxy = await front(t, 'all', GUARDED, { clusters: { all: { endpoints: [server.address] } } });
  const peer = await proxy.connect(t, 'plain');
  await peer.send(opening());
  for (const [n, [path, outcome]] of PATHS.entries()) {
    server.forget();
    const stream = 2 * n + 1;
    await peer.send(request(stream, [...REQUEST.slice(0, 3), [':path', path]]));
    await arrives(
      `an answer to ${path}`,
      peer,
      (frame) => frame.type === TYPE.headers && frame.stream === stream,
    );
    const isPassed = typeof outcome === 'string' && !/^\/admin(\/|$)/.test(outcome);
    t.is(server.requests[0]?.head.split(' ')[1], isPassed ? outcome : undefined, path);
  }
});

test('row 22: with escaped slashes kept, they are one segment and stay as they are', async (t) => {
  const server = await recorder(t);
  const proxy = await front(
    t,
    'all',
    { ...GUARDED, escapedSlashes: 'keep' },
    { clusters: { all: { endpoints: [server.address] } } },
  );
  for (const [path, outcome] of [
    ['/public/..%2fadmin', '/public/..%2Fadmin'],
    ['/a%5Cb', '/a%5Cb'],
    ['/admin%2f', '/admin%2F'],
  ] as const) {
    server.forget();
    const peer = await proxy.connect(t, 'plain');
    await peer.send(get(path));
    t.is((await peer.response()).status, 200, path);
    t.is(server.requests[0]?.head.split(' ')[1], outcome);
  }
  const peer = await proxy.connect(t, 'plain');
  await peer.send(get('/a%00'));
  t.is((await peer.response()).status, 400);
});

/** What a client may say of itself only where it is believed. */
const FORGED = [
  'X-Forwarded-For: 6.6.6.6',
  'X-Forwarded-Host: evil.test',
  'X-Forwarded-Proto: gopher',
  'X-Forwarded-Port: 666',
  'X-Forwarded-Prefix: /evil',
  'X-Forwarded-Ssl: evil',
  'X-Real-IP: 6.6.6.6',
  'X-Request-Id: evil',
  'Forwarded: for=6.6.6.6;host=evil.test',
  'X_Forwarded_For: 6.6.6.6',
  'x_real_ip: 6.6.6.6',
  'X-Mesh-Peer: spiffe://evil.test',
];

test('row 25: forged headers of the way, from a client that is not believed', async (t) => {
  const server = await recorder(t);
  const proxy = await front(t, server.address);
  const fields = FORGED.map((field) => `${field}\r\n`).join('');
  const peer = await proxy.connect(t, 'plain');
  // Twice, and in another case.
  await peer.send(get('/', fields + fields.toLowerCase()));
  t.is((await peer.response()).status, 200);
  const h2 = await proxy.connect(t, 'tls', 'h2');
  const named = FORGED.map((field) => field.toLowerCase().split(': ') as [string, string]);
  await h2.send(opening(), request(1, [...REQUEST, ...named]));
  await arrives('an answer', h2, ({ type }) => type === TYPE.headers);
  for (const [n, { head }] of server.requests.entries()) {
    t.notRegex(head, /evil|6\.6\.6\.6|666|gopher/i);
    t.regex(head, /^x-forwarded-for: 127\.0\.0\.1\r$/m);
    t.true(head.includes(`\r\nx-forwarded-proto: ${n === 0 ? 'http' : 'https'}\r\n`));
    t.regex(head, /^x-request-id: [0-9a-f-]{36}\r$/m);
  }
  t.is(server.requests.length, 2);
});

test('row 25: the same from a client that is', async (t) => {
  const server = await recorder(t);
  const proxy = await front(t, server.address, { trustedNetworks: ['127.0.0.0/8'] });
  const peer = await proxy.connect(t, 'plain');
  await peer.send(get('/', 'X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Request-Id: mine\r\n'));
  t.is((await peer.response()).status, 200);
  const head = server.requests[0]?.head ?? '';
  t.deepEqual(head.match(/^x-forwarded-for: .*(?=\r$)/gim), [
    'X-Forwarded-For: 6.6.6.6',
    'x-forwarded-for: 127.0.0.1',
  ]);
  t.deepEqual(head.match(/^x-forwarded-proto: .*(?=\r$)/gim), ['X-Forwarded-Proto: https']);
  t.deepEqual(head.match(/^x-request-id: .*(?=\r$)/gim), ['X-Request-Id: mine']);
});

test('row 26: connection names what must not go', async (t) => {
  const server = await recorder(t);
  const names = 'X-Forwarded-For, x-forwarded-proto, X-Request-Id, Host, Content-Length, x-gone, Cookie';
  for (const trustedNetworks of [[], ['127.0.0.0/8']]) {
    server.forget();
    const proxy = await front(t, server.address, { trustedNetworks });
    const peer = await proxy.connect(t, 'plain');
    await peer.send(
      `POST / HTTP/1.1\r\nHost: a.test\r\nConnection: ${names}\r\nX-Forwarded-For: 6.6.6.6\r\n` +
        'X-Forwarded-Proto: gopher\r\nX-Request-Id: evil\r\nX-Gone: y\r\nKeep-Alive: 5\r\nProxy-Connection: close\r\n' +
        'TE: trailers, deflate\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\nContent-Length: 5\r\n\r\nhello',
    );
    t.is((await peer.response()).status, 200);
    const [seen] = server.requests;
    t.is(seen?.body, 'hello');
    const head = seen?.head ?? '';
    t.regex(head, /^host: a\.test\r$/im);
    t.regex(head, /^x-forwarded-for: 127\.0\.0\.1\r$/m);
    t.regex(head, /^x-forwarded-proto: http\r$/m);
    t.regex(head, /^x-request-id: [0-9a-f-]{36}\r$/m);
    t.regex(head, /^te: trailers\r$/m);
    t.deepEqual(head.match(/^connection.*(?=\r$)/gim), ['Connection: te']);
    t.notRegex(head, /gone|evil|gopher|6\.6|keep-alive|proxy-connection|upgrade|http2-settings|deflate/i);
  }
});

test('row 27: requests without a path', async (t) => {
  const server = await recorder(t);
  const proxy = await front(
    t,
    'all',
    {
      ...GUARDED,
      routes: [
        {
          match: { path: { regex: '/.*' }, headers: { x: 'y' } },
          respond: { status: 200 },
        },
        ...GUARDED.routes,
      ],
    },
    { clusters: { all: { endpoints: [server.address] } } },
  );
  for (const [bytes, status] of [
    ['CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n', 403],
    ['CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nx: y\r\n\r\n', 403],
    ['OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n', 404],
    ['OPTIONS http://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n', 404],
    ['GET http://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n', 200],
    ['GET / HTTP/1.0\r\n\r\n', 200],
  ] as const) {
    const peer = await proxy.connect(t, 'plain');
    await peer.send(bytes);
    t.is((await peer.response()).status, status, bytes);
    peer.socket.destroy();
  }
  // CONNECT of HTTP/2 has neither path nor scheme.
  const peer = await proxy.connect(t, 'plain');
  await peer.send(
    opening(),
    request(
      1,
      [
        [':method', 'CONNECT'],
        [':authority', 'a.test:443'],
      ],
      FLAG.endHeaders,
    ),
  );
  const answer = await arrives('an answer', peer, ({ type }) => type === TYPE.headers || type === TYPE.reset);
  t.is(answer.type, TYPE.headers);
  // Its port is part of where it goes.
  for (const [at, authority] of ['a.test', 'a.test:', 'a.test:0', ''].entries()) {
    const stream = 5 + 2 * at;
    await peer.send(
      request(
        stream,
        [
          [':method', 'CONNECT'],
          [':authority', authority],
        ],
        FLAG.endHeaders,
      ),
    );
    const malformed = await arrives('a reset', peer, (frame) => frame.stream === stream);
    t.deepEqual([malformed.type, code(malformed)], [TYPE.reset, 1], authority);
  }
  // Extended CONNECT without its path is malformed.
  await peer.send(
    request(
      13,
      [
        [':method', 'CONNECT'],
        [':protocol', 'websocket'],
        [':authority', 'a.test'],
      ],
      FLAG.endHeaders,
    ),
  );
  const reset = await arrives('a reset', peer, ({ type, stream }) => type === TYPE.reset && stream === 13);
  t.is(code(reset), 1);
});

test('row 29: a pattern that would try for ever elsewhere', async (t) => {
  const server = await recorder(t);
  const proxy = await front(
    t,
    'all',
    {
      routes: [
        { match: { path: { regex: '/(a+)+b' } }, respond: { status: 403 } },
        { match: { path: '/*' }, to: 'all' },
      ],
    },
    { clusters: { all: { endpoints: [server.address] } } },
  );
  const peer = await proxy.connect(t, 'plain');
  await peer.send(get(`/${'a'.repeat(60_000)}`));
  t.is((await peer.response()).status, 200);
});

test('row 32: a PROXY header where none is wanted', async (t) => {
  const server = await recorder(t);
  const proxy = await front(t, server.address);
  for (const bytes of [
    'PROXY TCP4 6.6.6.6 127.0.0.1 1 2\r\n',
    'PROXY UNKNOWN\r\n',
    '\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x06\x06\x06\x06\x7f\0\0\x01\0\x01\0\x02',
  ]) {
    for (const listener of LISTENERS) {
      const peer = await proxy.connect(t, listener);
      await peer.send(bytes + HIDDEN);
      const response = await peer.response();
      t.is(response.status, 400);
      t.regex(proxyStatus(response.headers).details, /^bad_request/);
      t.is(await peer.readToEnd(), '');
      peer.socket.destroy();
    }
  }
  t.is(server.bytes(), '');
});
