// Does a WebSocket that is opened over HTTP/2 (RFC 8441) reach a server that knows upgrades of HTTP/1 only?

import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type http2 from 'node:http2';
import test, { type ExecutionContext } from 'ava';
import { WebSocketServer } from 'ws';
import { type Origin, httpOrigin, proxyStatus } from '../support/http.js';
import { ask, http2Connect, resetCode } from '../support/http2.js';
import { type Sidecar, startSidecar, web } from '../support/sidecar.js';
import { tcpServer } from '../support/tcp.js';
import { until, within } from '../support/wait.js';

const OPEN = {
  ':method': 'CONNECT',
  ':protocol': 'websocket',
  ':scheme': 'http',
  ':path': '/room?id=7',
  ':authority': 'chat.test',
  'sec-websocket-version': '13',
  'sec-websocket-protocol': 'chat.v2',
};

/** A frame of a client: masked, as RFC 6455 section 5.3 wants. */
function frame(opcode: number, payload: Buffer): Buffer {
  const mask = randomBytes(4);
  const masked = Buffer.from(payload.map((byte, at) => byte ^ (mask[at % 4] ?? 0)));
  const length =
    payload.length < 126
      ? Buffer.of(0x80 | payload.length)
      : payload.length < 65_536
        ? Buffer.of(0x80 | 126, payload.length >> 8, payload.length & 0xff)
        : (() => {
            const long = Buffer.alloc(9);
            long.writeUInt8(0x80 | 127, 0);
            long.writeBigUInt64BE(BigInt(payload.length), 1);
            return long;
          })();
  return Buffer.concat([Buffer.of(0x80 | opcode), length, mask, masked]);
}

/** Takes a server's frames out of bytes: what is whole, and the rest. */
function frames(bytes: Buffer): { whole: { opcode: number; payload: Buffer }[]; rest: Buffer } {
  const whole: { opcode: number; payload: Buffer }[] = [];
  let rest = bytes;
  for (;;) {
    if (rest.length < 2) return { whole, rest };
    const short = rest.readUInt8(1) & 0x7f;
    const head = short === 126 ? 4 : short === 127 ? 10 : 2;
    if (rest.length < head) return { whole, rest };
    const length =
      short === 126 ? rest.readUInt16BE(2) : short === 127 ? Number(rest.readBigUInt64BE(2)) : short;
    if (rest.length < head + length) return { whole, rest };
    whole.push({ opcode: rest.readUInt8(0) & 0xf, payload: rest.subarray(head, head + length) });
    rest = rest.subarray(head + length);
  }
}

/** The client's end of a WebSocket over one stream. */
class Client {
  readonly received: { opcode: number; payload: Buffer }[] = [];
  ended = false;
  #rest = Buffer.alloc(0);

  constructor(readonly stream: http2.ClientHttp2Stream) {
    stream.on('error', () => {});
    stream.on('data', (chunk: Buffer) => {
      const { whole, rest } = frames(Buffer.concat([this.#rest, chunk]));
      this.received.push(...whole);
      this.#rest = Buffer.from(rest);
    });
    stream.on('end', () => {
      this.ended = true;
    });
  }

  send(opcode: number, payload: Buffer | string): void {
    this.stream.write(frame(opcode, Buffer.from(payload)));
  }

  next(): Promise<{ opcode: number; payload: Buffer }> {
    return until('a frame comes', () => this.received.shift());
  }
}

interface Chat {
  proxy: Sidecar;
  origin: Origin;
  /** The heads that the server saw. */
  heads: Record<string, unknown>[];
}

async function chat(t: ExecutionContext): Promise<Chat> {
  const heads: Chat['heads'] = [];
  const origin = await httpOrigin(t);
  const server = new WebSocketServer({ server: origin.server, handleProtocols: () => 'chat.v2' });
  t.teardown(() => server.close());
  server.on('connection', (socket, asked) => {
    heads.push({ ...asked.headers, method: asked.method, url: asked.url });
    socket.on('error', () => {});
    socket.on('message', (data, isBinary) => {
      if (data.toString() === 'bye') socket.close(4001, 'as asked');
      else socket.send(data, { binary: isBinary });
    });
  });
  return { proxy: await startSidecar(t, web({ to: origin.address })), origin, heads };
}

async function open(
  session: http2.ClientHttp2Session,
  headers: http2.OutgoingHttpHeaders = OPEN,
): Promise<{ client: Client; head: http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader }> {
  const stream = session.request(headers, { endStream: false });
  const client = new Client(stream);
  const [head] = (await within('the answer', once(stream, 'response'))) as [http2.IncomingHttpHeaders];
  return { client, head };
}

test('text, binary of every length, ping, and a close with its code', async (t) => {
  const { proxy, heads } = await chat(t);
  const session = await http2Connect(t, proxy.url());
  await until('it is announced', () => session.remoteSettings?.enableConnectProtocol === true);
  const { client, head } = await open(session);
  t.is(head[':status'], 200);
  t.is(head['sec-websocket-protocol'], 'chat.v2');
  // What proves a switch in HTTP/1 has no place in HTTP/2.
  for (const name of ['sec-websocket-accept', 'upgrade', 'connection']) t.is(head[name], undefined);
  t.like(heads[0], { method: 'GET', url: '/room?id=7', host: 'chat.test', upgrade: 'websocket' });
  t.regex(String(heads[0]?.['sec-websocket-key']), /^[A-Za-z0-9+/]{22}==$/);

  for (const size of [0, 1, 125, 126, 65_535, 65_536, 1_000_000]) {
    const bytes = randomBytes(size);
    client.send(2, bytes);
    const { opcode, payload } = await client.next();
    t.is(opcode, 2);
    t.is(createHash('sha1').update(payload).digest('hex'), createHash('sha1').update(bytes).digest('hex'));
  }
  client.send(1, 'grüße');
  t.is((await client.next()).payload.toString(), 'grüße');
  client.send(9, 'there?');
  t.like(await client.next(), { opcode: 10 });
  client.send(1, 'bye');
  const close = await client.next();
  t.is(close.opcode, 8);
  t.is(close.payload.readUInt16BE(0), 4001);
  client.send(8, close.payload);
  client.stream.end();
  await until('the stream ends', () => client.ended);
});

test('many on one connection, beside requests; one that is cancelled ends alone', async (t) => {
  const { proxy, origin, heads } = await chat(t);
  const session = await http2Connect(t, proxy.url());
  const opened = await Promise.all(Array.from({ length: 20 }, () => open(session)));
  t.is(new Set(heads.map((head) => head['sec-websocket-key'])).size, 20);
  for (const [n, { client }] of opened.entries()) client.send(1, `${n}`);
  for (const [n, { client }] of opened.entries()) t.is((await client.next()).payload.toString(), `${n}`);
  t.is((await ask(session, { ':path': '/' })).status, 200);
  const open20 = await new Promise<number>((resolve, reject) => {
    origin.server.getConnections((error, count) => (error ? reject(error) : resolve(count)));
  });
  opened[0]?.client.stream.close(8);
  await until(
    'its connection is closed',
    () =>
      new Promise<boolean>((resolve) => {
        origin.server.getConnections((_, count) => resolve(count < open20));
      }),
  );
  opened[1]?.client.send(1, 'still here');
  t.is((await opened[1]?.client.next())?.payload.toString(), 'still here');
});

test('half-close passes in both directions', async (t) => {
  const origin = await tcpServer(t, async (peer) => {
    const head = await peer.readUntil('\r\n\r\n');
    const [, key = ''] = /sec-websocket-key: (\S+)/i.exec(head) ?? [];
    const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
    await peer.send(
      `HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
    );
    const all = await peer.readToEnd();
    peer.end(`got ${all}`);
  });
  const proxy = await startSidecar(t, web({ to: origin.address }));
  const session = await http2Connect(t, proxy.url());
  const stream = session.request(OPEN, { endStream: false });
  stream.on('error', () => {});
  await within('the answer', once(stream, 'response'));
  stream.end('last words');
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  t.is(Buffer.concat(chunks).toString(), 'got last words');
});

// The name, the answer, why the client gets 502, and what a plain request gets for the same answer.
for (const [name, answer, details, plain] of [
  ['refuses', 'HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno', undefined, 403],
  ['answers as if nothing was asked', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi', 'no_switch', 200],
  [
    'switches without proof',
    'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n',
    'websocket_accept',
    502,
  ],
] as const) {
  test(`a server that ${name}: the client is not told of success`, async (t) => {
    const origin = await tcpServer(t, async (peer) => {
      await peer.readUntil('\r\n\r\n');
      await peer.send(answer);
    });
    const proxy = await startSidecar(t, web({ to: origin.address }));
    const session = await http2Connect(t, proxy.url());
    const stream = session.request(OPEN, { endStream: false });
    stream.on('error', () => {});
    const [head] = (await within('the answer', once(stream, 'response'))) as [
      http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader,
    ];
    if (details === undefined) {
      t.is(head[':status'], 403);
    } else {
      t.is(head[':status'], 502);
      t.is(proxyStatus(head as Parameters<typeof proxyStatus>[0]).details, `upstream_protocol: ${details}`);
    }
    stream.end();
    await resetCode(stream);
    t.is((await ask(session, { ':path': '/', ':authority': 'a' })).status, plain);
  });
}

test('a server that proves a WebSocket and switches to something else: the client is not told of success', async (t) => {
  const origin = await tcpServer(t, async (peer) => {
    const head = await peer.readUntil('\r\n\r\n');
    const [, key = ''] = /sec-websocket-key: (\S+)/i.exec(head) ?? [];
    const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
    await peer.send(
      `HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
    );
  });
  const proxy = await startSidecar(t, web({ to: origin.address }));
  const { head } = await open(await http2Connect(t, proxy.url()));
  t.is(head[':status'], 502);
  const { details } = proxyStatus(head as Parameters<typeof proxyStatus>[0]);
  t.is(details, 'upstream_protocol: unasked_switch');
});
