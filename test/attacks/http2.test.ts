// Rows 1 to 8, 11, 20 and 28: does an HTTP/2 connection end when its client is hostile, with the right word, and does nobody
// else notice?

import test, { type ExecutionContext } from 'ava';
import { tcpServer } from '../support/tcp.js';
import { until } from '../support/wait.js';
import {
  CODE,
  FLAG,
  REQUEST,
  TYPE,
  arrives,
  block,
  code,
  frame,
  framesOf,
  opening,
  request,
  u32,
} from './frames.js';
import { HIDDEN } from './payloads.js';
import { type Front, type Listener, front, recorder } from './support.js';

/** What is made `count` times. */
const times = (count: number, make: (n: number) => Uint8Array): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, n) => make(n)));

/** A stream that is open: a request whose body is to come. */
const OPEN = request(1, [[':method', 'POST'], ...REQUEST.slice(1)], FLAG.endHeaders);

/** Floods that must end with one of these codes. */
/** `limit` is the one that counts it, where it is a flood. */
const FLOODS: { row: number; name: string; bytes: () => Buffer; codes: number[]; limit?: string }[] = [
  {
    row: 1,
    name: 'rapid reset',
    bytes: () =>
      times(2000, (n) =>
        Buffer.concat([request(2 * n + 1), frame(TYPE.reset, 0, 2 * n + 1, u32(CODE.cancel))]),
      ),
    codes: [CODE.calm],
    limit: 'http2_resets',
  },
  {
    row: 2,
    name: 'requests that depend on themselves make us reset them',
    bytes: () =>
      times(2000, (n) =>
        frame(
          TYPE.headers,
          FLAG.endStream | FLAG.endHeaders | FLAG.priority,
          2 * n + 1,
          Buffer.concat([u32(2 * n + 1), Buffer.of(0), block(REQUEST)]),
        ),
      ),
    codes: [CODE.calm],
    limit: 'http2_local_resets',
  },
  {
    row: 2,
    name: 'malformed requests make us reset them',
    bytes: () => times(2000, (n) => request(2 * n + 1, [...REQUEST, ['host', 'b.test']])),
    codes: [CODE.calm],
    limit: 'http2_local_resets',
  },
  {
    row: 3,
    name: 'CONTINUATION without end',
    bytes: () =>
      Buffer.concat([
        frame(TYPE.headers, FLAG.endStream, 1, block(REQUEST)),
        times(1000, () => frame(TYPE.continuation, 0, 1)),
      ]),
    codes: [CODE.calm],
    limit: 'http2_continuations',
  },
  {
    row: 3,
    name: 'a header block without end',
    bytes: () =>
      Buffer.concat([
        frame(TYPE.headers, FLAG.endStream, 1, block(REQUEST)),
        times(100, () => frame(TYPE.continuation, 0, 1, block([['x', 'y'.repeat(16_000)]]))),
      ]),
    codes: [CODE.calm],
  },
  {
    row: 4,
    name: 'one indexed field, referred to by a byte, 16,000 times',
    bytes: () =>
      frame(
        TYPE.headers,
        FLAG.endStream | FLAG.endHeaders,
        1,
        Buffer.concat([
          block(REQUEST),
          Buffer.from('\x40\x06cookie\x03a=b', 'latin1'),
          Buffer.alloc(16_000, 0xbe),
        ]),
      ),
    codes: [CODE.calm],
    limit: 'header_bytes',
  },
  {
    row: 6,
    name: 'DATA without payload',
    bytes: () => Buffer.concat([OPEN, times(2000, () => frame(TYPE.data, 0, 1))]),
    codes: [CODE.calm],
    limit: 'http2_small_data',
  },
  {
    row: 6,
    name: 'DATA of padding alone',
    bytes: () => Buffer.concat([OPEN, times(2000, () => frame(TYPE.data, FLAG.padded, 1, '\x01\0'))]),
    codes: [CODE.calm],
    limit: 'http2_small_data',
  },
  {
    row: 7,
    name: 'PING',
    bytes: () => times(1000, () => frame(TYPE.ping, 0, 0, '12345678')),
    codes: [CODE.calm],
    limit: 'http2_pings',
  },
  {
    row: 7,
    name: 'SETTINGS',
    bytes: () => times(1000, () => frame(TYPE.settings, 0, 0)),
    codes: [CODE.calm],
    limit: 'http2_settings',
  },
  {
    row: 7,
    name: 'SETTINGS with six values each',
    bytes: () => times(1000, () => frame(TYPE.settings, 0, 0, '\0\x04\0\0\xff\xff'.repeat(6))),
    codes: [CODE.calm],
    limit: 'http2_settings',
  },
  {
    row: 7,
    name: 'WINDOW_UPDATE of the connection',
    bytes: () => times(1000, () => frame(TYPE.windowUpdate, 0, 0, u32(1))),
    codes: [CODE.calm],
    limit: 'http2_window_updates',
  },
  {
    row: 7,
    name: 'PRIORITY',
    bytes: () => times(1000, () => frame(TYPE.priority, 0, 1, '\0\0\0\0\0')),
    codes: [CODE.calm],
    limit: 'http2_priorities',
  },
  {
    row: 7,
    name: 'frames of an unknown type',
    bytes: () => times(1000, () => frame(99, 0, 0)),
    codes: [CODE.calm],
    limit: 'http2_priorities',
  },
  {
    row: 7,
    name: 'answers to pings that nobody sent',
    bytes: () => times(1000, () => frame(TYPE.ping, FLAG.ack, 0, '12345678')),
    codes: [CODE.calm],
    limit: 'http2_pings',
  },
  {
    row: 11,
    name: 'a stream of an even number',
    bytes: () => request(2),
    codes: [CODE.protocol],
  },
  {
    row: 11,
    name: 'a stream below the last',
    bytes: () => Buffer.concat([request(5), request(3)]),
    codes: [CODE.protocol, CODE.streamClosed],
  },
  {
    row: 11,
    name: 'DATA on a stream that was never opened',
    bytes: () => frame(TYPE.data, FLAG.endStream, 1, 'x'),
    codes: [CODE.protocol],
  },
  {
    row: 11,
    name: 'a stream of number 0',
    bytes: () => request(0),
    codes: [CODE.protocol],
  },
  {
    row: 11,
    name: 'PUSH_PROMISE from a client',
    bytes: () => frame(TYPE.push, FLAG.endHeaders, 1, Buffer.concat([u32(2), block(REQUEST)])),
    codes: [CODE.protocol],
  },
  {
    row: 11,
    name: 'HEADERS amid a header block',
    bytes: () => Buffer.concat([frame(TYPE.headers, FLAG.endStream, 1, block(REQUEST)), request(3)]),
    codes: [CODE.protocol],
  },
  {
    row: 11,
    name: 'a frame above the size that we allow',
    bytes: () => Buffer.concat([OPEN, frame(TYPE.data, 0, 1, Buffer.alloc(20_000))]),
    codes: [CODE.frameSize],
  },
  {
    row: 11,
    name: 'a window beyond its bound',
    bytes: () => times(2, () => frame(TYPE.windowUpdate, 0, 0, u32(0x7fff_ffff))),
    codes: [CODE.flowControl],
  },
  {
    row: 5,
    name: 'a reference to an entry of the table that is not there',
    bytes: () => frame(TYPE.headers, FLAG.endStream | FLAG.endHeaders, 1, Buffer.of(0x82, 0xff, 0xff, 0x7f)),
    codes: [CODE.compression, CODE.protocol],
  },
  {
    row: 5,
    name: 'a table larger than was allowed',
    bytes: () =>
      frame(
        TYPE.headers,
        FLAG.endStream | FLAG.endHeaders,
        1,
        Buffer.concat([Buffer.of(0x3f, 0xff, 0xff, 0x7f), block(REQUEST)]),
      ),
    codes: [CODE.compression, CODE.protocol],
  },
];

for (const row of new Set(FLOODS.map((flood) => flood.row))) {
  test(`row ${row}`, async (t) => {
    const server = await recorder(t);
    const proxy = await front(t, server.address);
    const bystander = await proxy.connect(t, 'plain');
    for (const { name, bytes, codes, limit } of FLOODS.filter((flood) => flood.row === row)) {
      for (const listener of ['plain', 'tls'] as const) {
        const labels = { listener, ...(limit === undefined ? {} : { limit }) };
        const before = await proxy.count('mesh_limit_hits_total', labels);
        const goaway = await calmed(t, proxy, listener, bytes());
        t.true(codes.includes(goaway), `${listener}: ${name}: GOAWAY with ${goaway}`);
        if (limit !== undefined) await proxy.counted(before, 1, 'mesh_limit_hits_total', labels);
        await bystander.send('GET / HTTP/1.1\r\nHost: a.test\r\n\r\n');
        t.is((await bystander.response()).status, 200);
      }
    }
  });
}

/** Attacks, waits for the connection's end and gives the code of the last GOAWAY. */
async function calmed(t: ExecutionContext, proxy: Front, listener: Listener, bytes: Buffer): Promise<number> {
  const peer = await proxy.connect(t, listener, 'h2');
  // The proxy stops reading at some time.
  peer.socket.write(opening());
  peer.socket.write(bytes);
  await until('the connection ends', () => peer.ended || peer.closed);
  const goaway = framesOf(peer).findLast((each) => each.type === TYPE.goaway);
  t.truthy(goaway, 'a GOAWAY');
  peer.socket.destroy();
  return goaway ? code(goaway) : -1;
}

test('row 1: what was asked of servers is taken back', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    await peer.readUntil('\r\n\r\n');
  });
  const proxy = await front(t, server.address);
  const peer = await proxy.connect(t, 'plain');
  await peer.send(
    opening(),
    times(5, (n) => request(2 * n + 1)),
  );
  await until('five requests are at the server', () => server.peers.length === 5);
  await peer.send(times(5, (n) => frame(TYPE.reset, 0, 2 * n + 1, u32(CODE.cancel))));
  await until('their connections are gone', () => server.peers.every((each) => each.ended || each.closed));
  t.pass();
});

test('row 8: a client that never reads is left', async (t) => {
  const chunk = 'x'.repeat(65_536);
  const server = await tcpServer(t, async (peer) => {
    for (;;) {
      await peer.readUntil('\r\n\r\n');
      await peer.send(
        `HTTP/1.1 200 OK\r\nContent-Length: 655360\r\nConnection: close\r\n\r\n${chunk.repeat(10)}`,
      );
    }
  });
  const proxy = await front(t, server.address, { timeouts: { streamIdle: '500ms' } });
  const peer = await proxy.connect(t, 'plain');
  peer.socket.pause();
  // As large windows as there are.
  peer.socket.write(opening('\0\x04\x7f\xff\xff\xff'));
  peer.socket.write(frame(TYPE.windowUpdate, 0, 0, u32(0x7fff_0000)));
  peer.socket.write(times(100, (n) => request(2 * n + 1)));
  await until('requests are at the server', () => server.peers.length > 0);
  await until('the server is left', () => server.peers.every((each) => each.ended || each.closed));
  // Stream by stream, or all at once, whichever is noticed first; it may be counted after the server was left.
  await until('it is counted', async () => {
    const streams = await proxy.count('mesh_responses_total', { reason: 'stream_idle_timeout' });
    const connections = await proxy.count('mesh_limit_hits_total', { limit: 'http2_backlog' });
    return streams + connections > 0;
  });
  t.true(proxy.proxy.residentBytes() < 200 * 1024 * 1024);
});

test('row 11: streams above the limit are refused', async (t) => {
  const server = await tcpServer(t);
  const proxy = await front(t, server.address, { limits: { streams: 2 } });
  const peer = await proxy.connect(t, 'plain');
  await peer.send(
    opening(),
    times(3, (n) => request(2 * n + 1)),
  );
  const reset = await arrives('a RST_STREAM', peer, (each) => each.type === TYPE.reset);
  t.is(reset.stream, 5);
  t.is(code(reset), CODE.refused);
  await proxy.counted(0, 1, 'mesh_limit_hits_total', { listener: 'plain', limit: 'streams' });
});

/** Requests that a server behind, over HTTP/1, could read differently. */
const DOWNGRADES: { name: string; fields: readonly (readonly [string, string])[]; body?: string }[] = [
  { name: 'CRLF in a value', fields: [...REQUEST, ['x', `y\r\n\r\n${HIDDEN}`]] },
  { name: 'LF in a value', fields: [...REQUEST, ['x', 'y\nz: a']] },
  { name: 'NUL in a value', fields: [...REQUEST, ['x', 'y\0z']] },
  { name: 'CRLF in a name', fields: [...REQUEST, [`x: y\r\n\r\n${HIDDEN}z`, 'a']] },
  { name: 'a colon in a name', fields: [...REQUEST, ['transfer-encoding: chunked\r\nx', 'y']] },
  { name: 'a space in a name', fields: [...REQUEST, ['x y', 'z']] },
  { name: 'upper case in a name', fields: [...REQUEST, ['X', 'y']] },
  { name: 'an empty name', fields: [...REQUEST, ['', 'y']] },
  { name: 'space around a value', fields: [...REQUEST, ['x', ' y']] },
  { name: 'CRLF in the path', fields: path(`/ HTTP/1.1\r\nHost: a.test\r\n\r\n${HIDDEN}`) },
  { name: 'a space in the path', fields: path('/a HTTP/1.1') },
  { name: 'a high byte in the path', fields: path('/a\xff') },
  { name: 'a high byte in the query', fields: path('/a?b=\xff') },
  { name: 'a control byte in the query', fields: path('/a?b=\x01') },
  { name: 'a path without a slash', fields: path('a') },
  { name: 'an absolute URL as path', fields: path('http://b.test/') },
  { name: 'an empty path', fields: path('') },
  { name: 'a star for GET', fields: path('*') },
  {
    name: 'CRLF in the method',
    fields: pseudo(':method', `GET / HTTP/1.1\r\nHost: a.test\r\n\r\n${HIDDEN}`),
  },
  { name: 'a space in the method', fields: pseudo(':method', 'GET /hidden') },
  { name: 'an empty method', fields: pseudo(':method', '') },
  { name: 'CRLF in the authority', fields: pseudo(':authority', 'a.test\r\nx: y') },
  { name: 'userinfo in the authority', fields: pseudo(':authority', 'u@a.test') },
  { name: 'a path in the authority', fields: pseudo(':authority', 'a.test/x') },
  { name: 'a port beyond the last', fields: pseudo(':authority', 'a.test:65536') },
  { name: 'another host', fields: [...REQUEST, ['host', 'b.test']] },
  { name: 'two hosts', fields: [...REQUEST, ['host', 'a.test'], ['host', 'b.test']] },
  { name: 'no authority at all', fields: REQUEST.filter(([name]) => name !== ':authority') },
  { name: 'the authority twice', fields: [[':authority', 'a.test'], ...REQUEST] },
  { name: 'the path twice', fields: [[':path', '/'], ...REQUEST] },
  { name: 'no method', fields: REQUEST.slice(1) },
  { name: 'no scheme', fields: REQUEST.filter(([name]) => name !== ':scheme') },
  { name: 'a scheme that is none', fields: pseudo(':scheme', `http://a.test/ HTTP/1.1\r\nx: y`) },
  { name: 'an unknown pseudo-field', fields: [...REQUEST, [':hidden', 'x']] },
  { name: 'a pseudo-field of responses', fields: [...REQUEST, [':status', '200']] },
  { name: 'a pseudo-field behind a field', fields: [['x', 'y'], ...REQUEST] },
  { name: 'transfer-encoding', fields: [...REQUEST, ['transfer-encoding', 'chunked']] },
  { name: 'connection', fields: [...REQUEST, ['connection', 'keep-alive']] },
  { name: 'upgrade', fields: [...REQUEST, ['upgrade', 'h2c']] },
  { name: 'keep-alive', fields: [...REQUEST, ['keep-alive', 'timeout=5']] },
  { name: 'proxy-connection', fields: [...REQUEST, ['proxy-connection', 'close']] },
  { name: 'te other than trailers', fields: [...REQUEST, ['te', 'gzip']] },
  { name: 'a length that is none', fields: [...REQUEST, ['content-length', 'x']] },
  { name: 'a negative length', fields: [...REQUEST, ['content-length', '-1']], body: 'x' },
  { name: 'a signed length', fields: [...REQUEST, ['content-length', '+1']], body: 'x' },
  { name: 'two lengths', fields: [...REQUEST, ['content-length', '1'], ['content-length', '2']], body: 'x' },
  {
    name: 'a body longer than its length',
    fields: [...REQUEST, ['content-length', '1']],
    body: `x${HIDDEN}`,
  },
  { name: 'a body shorter than its length', fields: [...REQUEST, ['content-length', '9']], body: 'x' },
  { name: 'a length and no body', fields: [...REQUEST, ['content-length', '9']] },
];

function pseudo(name: string, value: string): readonly (readonly [string, string])[] {
  return REQUEST.map((field) => (field[0] === name ? [name, value] : field));
}

function path(value: string): readonly (readonly [string, string])[] {
  return pseudo(':path', value);
}

for (const listener of ['plain', 'tls'] as const) {
  test(`row 20: ${listener}`, async (t) => {
    const server = await recorder(t);
    const proxy = await front(t, server.address);
    for (const { name, fields, body } of DOWNGRADES) {
      server.forget();
      const peer = await proxy.connect(t, listener, 'h2');
      const flags = body === undefined ? FLAG.endStream | FLAG.endHeaders : FLAG.endHeaders;
      await peer.send(opening(), request(1, fields, flags));
      // Its head alone may have been refused by now.
      if (body !== undefined) await peer.send(frame(TYPE.data, FLAG.endStream, 1, body)).catch(() => {});
      const refusal = await arrives(
        `a refusal of ${name}`,
        peer,
        ({ type }) => type === TYPE.reset || type === TYPE.goaway || type === TYPE.headers,
      );
      // Some are errors of the connection to the library that reads the frames.
      t.not(refusal.type, TYPE.headers, `${name}: answered`);
      t.is(code(refusal), CODE.protocol, name);
      t.false(server.bytes().includes('/hidden'), name);
      t.is(server.requests.length, 0, name);
      peer.socket.destroy();
    }
  });
}

test('row 28: frames behind the end of a stream', async (t) => {
  const server = await recorder(t);
  const proxy = await front(t, server.address);
  const late: [name: string, bytes: Buffer, codes: number[]][] = [
    [
      'DATA behind END_STREAM',
      Buffer.concat([request(1), frame(TYPE.data, 0, 1, HIDDEN)]),
      [CODE.streamClosed, CODE.protocol],
    ],
    [
      'HEADERS behind END_STREAM',
      Buffer.concat([request(1), request(1)]),
      [CODE.streamClosed, CODE.protocol],
    ],
    [
      'trailers without END_STREAM',
      Buffer.concat([OPEN, frame(TYPE.headers, FLAG.endHeaders, 1, block([['x', 'y']]))]),
      [CODE.protocol],
    ],
  ];
  for (const [name, bytes, codes] of late) {
    server.forget();
    const peer = await proxy.connect(t, 'plain');
    await peer.send(opening(), bytes);
    const refusal = await arrives(
      `a refusal of ${name}`,
      peer,
      ({ type }) => type === TYPE.reset || type === TYPE.goaway,
    );
    t.true(codes.includes(code(refusal)), `${name}: ${code(refusal)}`);
    t.false(server.bytes().includes('hidden'), name);
    peer.socket.destroy();
  }
  // What comes behind a reset is passed over: the connection goes on.
  const peer = await proxy.connect(t, 'plain');
  await peer.send(
    opening(),
    OPEN,
    frame(TYPE.reset, 0, 1, u32(CODE.cancel)),
    frame(TYPE.data, FLAG.endStream, 1, HIDDEN),
    request(3),
  );
  const answer = await arrives(
    'an answer on the next stream',
    peer,
    ({ type, stream }) => type === TYPE.headers && stream === 3,
  );
  t.is(answer.stream, 3);
  t.false(server.bytes().includes('hidden'));
});

test('rows 20 and 28: fragments and late pseudo-fields reach no server', async (t) => {
  const server = await recorder(t);
  const proxy = await front(t, server.address);
  const hidden = frame(
    TYPE.headers,
    FLAG.endHeaders | FLAG.endStream,
    1,
    block([
      [':path', '/hidden'],
      ['x', 'y'],
    ]),
  );
  const malformed: [name: string, bytes: Buffer][] = [
    ['a fragment', request(1, path('/a#hidden'))],
    ['pseudo-fields in trailers', Buffer.concat([OPEN, hidden])],
  ];
  for (const [name, bytes] of malformed) {
    server.forget();
    const peer = await proxy.connect(t, 'plain');
    await peer.send(opening(), bytes);
    const reset = await arrives(`a reset of ${name}`, peer, ({ type }) => type === TYPE.reset);
    t.is(code(reset), CODE.protocol, name);
    t.false(server.bytes().includes('hidden'), name);
    peer.socket.destroy();
  }
});

test('row 20: a body longer than nothing', async (t) => {
  const server = await recorder(t);
  const proxy = await front(t, server.address);
  const peer = await proxy.connect(t, 'plain');
  const fields = [...REQUEST, ['content-length', '0']] as const;
  await peer.send(
    opening(),
    request(1, fields, FLAG.endHeaders),
    frame(TYPE.data, FLAG.endStream, 1, HIDDEN),
  );
  // The request may have gone when its body came: it was complete.
  const reset = await arrives('a reset', peer, ({ type }) => type === TYPE.reset);
  t.is(code(reset), CODE.protocol);
  await peer.send(request(3));
  await arrives('an answer on the next stream', peer, ({ stream }) => stream === 3);
  t.false(server.bytes().includes('hidden'));
});
