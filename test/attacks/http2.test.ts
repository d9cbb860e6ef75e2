// Rows 1 to 8, 11, 20 and 28: does an HTTP/2 connection end when its client is hostile, with the right word, and does nobody
// else notice?

import test, { type ExecutionContext } from 'ava';
import { DOWNGRADES, downgrade } from '../../src/attack/downgrades.js';
import {
  CODE,
  FLAG,
  REQUEST,
  TYPE,
  block,
  cancel,
  code,
  frame,
  opening,
  request,
  u32,
} from '../../src/attack/frames.js';
import { HTTP2_ATTACKS, open } from '../../src/attack/http2-attacks.js';
import { HIDDEN } from '../../src/attack/payloads.js';
import { tcpServer } from '../support/tcp.js';
import { until } from '../support/wait.js';
import { arrives, framesOf } from './arrives.js';
import { type Front, type Listener, front, recorder } from './support.js';

/** What is made `count` times. */
const times = (count: number, make: (n: number) => Uint8Array): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, n) => make(n)));

/** A stream that is open: a request whose body is to come. */
const OPEN = open(REQUEST);

/** What must end with one of its codes. */
const FLOODS = HTTP2_ATTACKS.filter(({ row }) => row !== 28);

for (const row of new Set(FLOODS.map((flood) => flood.row))) {
  test(`row ${row}`, async (t) => {
    const server = await recorder(t);
    const proxy = await front(t, server.address);
    const bystander = await proxy.connect(t, 'plain');
    for (const { name, bytes, codes, limit } of FLOODS.filter((flood) => flood.row === row)) {
      for (const listener of ['plain', 'tls'] as const) {
        const labels = { listener, ...(limit === undefined ? {} : { limit }) };
        let before = 0;
        let goaway: number | undefined;
        // Node throws away what has arrived when its next write meets the reset behind it.
        for (let tries = 0; goaway === undefined && tries < 5; tries += 1) {
          before = await proxy.count('mesh_limit_hits_total', labels);
          goaway = await calmed(t, proxy, listener, bytes(REQUEST));
        }
        t.true(goaway !== undefined && codes.includes(goaway), `${listener}: ${name}: GOAWAY with ${goaway}`);
        if (limit !== undefined) await proxy.counted(before, 1, 'mesh_limit_hits_total', labels);
        await bystander.send('GET / HTTP/1.1\r\nHost: a.test\r\n\r\n');
        t.is((await bystander.response()).status, 200);
      }
    }
  });
}

/** Attacks, waits for the connection's end and gives the code of the last GOAWAY; undefined when a reset was all. */
async function calmed(
  t: ExecutionContext,
  proxy: Front,
  listener: Listener,
  bytes: Buffer,
): Promise<number | undefined> {
  const peer = await proxy.connect(t, listener, 'h2');
  // The proxy stops reading at some time.
  peer.socket.write(opening());
  peer.socket.write(bytes);
  await until('the connection ends', () => peer.ended || peer.closed);
  const goaway = framesOf(peer).findLast((each) => each.type === TYPE.goaway);
  if (!goaway) t.truthy(peer.error, 'an end in order has a GOAWAY before it');
  peer.socket.destroy();
  return goaway && code(goaway);
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
  await peer.send(times(5, (n) => cancel(2 * n + 1)));
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

for (const listener of ['plain', 'tls'] as const) {
  test(`row 20: ${listener}`, async (t) => {
    const server = await recorder(t);
    const proxy = await front(t, server.address);
    for (const each of DOWNGRADES) {
      const { name } = each;
      server.forget();
      const peer = await proxy.connect(t, listener, 'h2');
      // Its head alone may have been refused by now.
      await peer.send(opening(), ...downgrade(each, REQUEST)).catch(() => {});
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

/** What must end with one of its codes, or whose stream must. */
const LATE = HTTP2_ATTACKS.filter(({ row, demand }) => row === 28 && demand === 'resets');

test('row 28: frames behind the end of a stream', async (t) => {
  const server = await recorder(t);
  const proxy = await front(t, server.address);
  for (const { name, bytes, codes } of LATE) {
    server.forget();
    const peer = await proxy.connect(t, 'plain');
    await peer.send(opening(), bytes(REQUEST));
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
  await peer.send(opening(), OPEN, cancel(1), frame(TYPE.data, FLAG.endStream, 1, HIDDEN), request(3));
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
    ['a fragment', request(1, [...REQUEST.slice(0, -1), [':path', '/a#hidden']])],
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
