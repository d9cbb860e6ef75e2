// Do requests and responses pass between HTTP/1 and HTTP/2 in all four combinations, and what ends a stream, what does it
// cost the others?

import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import http2 from 'node:http2';
import test, { type ExecutionContext } from 'ava';
import { echo as echo1, httpOrigin, http2Origin, proxyStatus, request } from '../support/http.js';
import { ask, http2Connect, readAnswer, resetCode } from '../support/http2.js';
import { type Sidecar, startSidecar, web } from '../support/sidecar.js';
import { connect } from '../support/tcp.js';
import { until, within } from '../support/wait.js';

const { NGHTTP2_CANCEL, NGHTTP2_INTERNAL_ERROR, NGHTTP2_NO_ERROR } = http2.constants;

/** What a server saw and said: the same in both versions. */
interface Seen {
  method: string;
  path: string;
  host: string;
  headers: Record<string, unknown>;
  body: string;
  trailers: Record<string, unknown>;
}

type Handler = Parameters<typeof http2Origin>[1];

/** A sidecar before a server that speaks HTTP/2. */
async function beforeHttp2(t: ExecutionContext, handler: Handler): Promise<Sidecar> {
  const { address } = await http2Origin(t, handler);
  return startSidecar(
    t,
    web({ to: 'site' }, { clusters: { site: { endpoints: [address], protocol: 'http2' } } }),
  );
}

/** Answers with what it saw, a hint before and a trailer behind. */
const echo: Handler = (stream, headers) => {
  const chunks: Buffer[] = [];
  let trailers: object = {};
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  stream.on('trailers', (fields: object) => {
    trailers = { ...fields };
  });
  stream.on('end', () => {
    stream.additionalHeaders({ ':status': 103, link: '</style.css>' });
    stream.respond({ ':status': 200, 'x-origin': 'here' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': String(Buffer.concat(chunks).length) }));
    const seen: Seen = {
      method: String(headers[':method']),
      path: String(headers[':path']),
      host: String(headers[':authority']),
      headers: { ...headers },
      body: Buffer.concat(chunks).toString('latin1'),
      trailers: { ...trailers } as Seen['trailers'],
    };
    stream.end(JSON.stringify(seen));
  });
};

async function before(t: ExecutionContext, version: 1 | 2): Promise<Sidecar> {
  if (version === 2) return beforeHttp2(t, echo);
  const origin = await httpOrigin(t, (incoming, outgoing) => {
    const chunks: Buffer[] = [];
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
    incoming.on('end', () => {
      outgoing.writeEarlyHints({ link: '</style.css>' });
      outgoing.writeHead(200, { 'x-origin': 'here', trailer: 'x-sum' });
      const { method = '', url = '', headers, trailers } = incoming;
      const seen: Seen = {
        method,
        path: url,
        host: headers.host ?? '',
        headers: { ...headers },
        body: Buffer.concat(chunks).toString('latin1'),
        trailers: { ...trailers },
      };
      outgoing.write(JSON.stringify(seen));
      outgoing.addTrailers({ 'x-sum': String(Buffer.concat(chunks).length) });
      outgoing.end();
    });
  });
  return startSidecar(t, web({ to: origin.address }));
}

for (const client of [1, 2] as const) {
  for (const server of [1, 2] as const) {
    test(`HTTP/${client} to HTTP/${server}: heads, bodies, hints and trailers pass`, async (t) => {
      const proxy = await before(t, server);
      const fields = { 'x-one': '1', cookie: 'a=b' };
      const options = { body: 'ping', trailers: { 'x-after': 'yes' } };
      const answer =
        client === 1
          ? await request(proxy.port(), {
              method: 'POST',
              path: '/a?b=c',
              headers: { ...fields, host: 'shop.test', trailer: 'x-after' },
              ...options,
            })
          : await ask(
              await http2Connect(t, proxy.url()),
              { ':method': 'POST', ':path': '/a?b=c', ':authority': 'shop.test', ...fields },
              options,
            );
      t.is(answer.status, 200);
      t.is(answer.headers['x-origin'], 'here');
      t.is(answer.trailers['x-sum'], '4');
      t.is(answer.informational.length, 1);
      const seen = JSON.parse(answer.text) as Seen;
      t.like(seen, { method: 'POST', path: '/a?b=c', host: 'shop.test', body: 'ping' });
      t.like(seen.headers, { ...fields, 'x-forwarded-for': '127.0.0.1', 'x-forwarded-proto': 'http' });
      t.is(seen.trailers['x-after'], 'yes');
    });
  }
}

test('bulk passes both ways at once, byte for byte', async (t) => {
  const proxy = await beforeHttp2(t, (stream) => {
    stream.respond({ ':status': 200 });
    stream.pipe(stream);
  });
  const session = await http2Connect(t, proxy.url());
  const digests = await Promise.all(
    [0, 1, 16_384, 65_535, 65_536, 3_000_000].map(async (size) => {
      const bytes = randomBytes(size);
      const { body } = await ask(session, { ':method': 'POST', ':path': '/' }, { body: bytes });
      return [body, bytes].map((each) => createHash('sha1').update(each).digest('hex'));
    }),
  );
  for (const [got, sent] of digests) t.is(got, sent);
});

test('responses without a body: HEAD, 204 and 304, to both versions', async (t) => {
  const proxy = await beforeHttp2(t, (stream, headers) => {
    const status = Number(String(headers[':path']).slice(1));
    stream.respond(
      { ':status': status, ...(status === 204 ? {} : { 'content-length': 5 }) },
      { endStream: headers[':method'] === 'HEAD' || status !== 200 },
    );
    if (!stream.writableEnded) stream.end('hello');
  });
  const session = await http2Connect(t, proxy.url());
  for (const [method, status, length] of [
    ['HEAD', 200, '5'],
    ['GET', 204, undefined],
    ['GET', 304, '5'],
  ] as const) {
    const answer = await ask(session, { ':method': method, ':path': `/${status}` });
    t.deepEqual([answer.status, answer.headers['content-length'], answer.text], [status, length, '']);
    const old = await request(proxy.port(), { method, path: `/${status}` });
    t.deepEqual([old.status, old.headers['content-length'], old.text], [status, length, '']);
  }
});

test('a server that answers before it has read: the answer arrives whole, the connection stays', async (t) => {
  const sessions = new Set<unknown>();
  const proxy = await beforeHttp2(t, (stream, headers) => {
    sessions.add(stream.session);
    if (headers[':path'] !== '/early') return echo(stream, headers);
    stream.respond({ ':status': 413 });
    stream.end('too much');
    return undefined;
  });
  const session = await http2Connect(t, proxy.url());
  for (let n = 0; n < 50; n += 1) {
    const stream = session.request({ ':method': 'POST', ':path': '/early' });
    stream.on('error', () => {});
    stream.write(Buffer.alloc(1000));
    const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpStatusHeader];
    t.is(headers[':status'], 413);
    const chunks: Buffer[] = [];
    for await (const chunk of stream) chunks.push(chunk as Buffer);
    t.is(Buffer.concat(chunks).toString(), 'too much');
    t.is(await resetCode(stream), NGHTTP2_NO_ERROR);
  }
  const { status } = await ask(session, { ':path': '/' });
  t.is(status, 200);
  t.is(sessions.size, 1);
});

test('a stream that the server resets is told to the client', async (t) => {
  const proxy = await beforeHttp2(t, (stream, headers) => {
    if (headers[':path'] === '/early') return stream.close(NGHTTP2_CANCEL);
    stream.respond({ ':status': 200 });
    // What Node is told to end without an error it ends in order first.
    stream.write('half', () => setTimeout(() => stream.destroy(new Error('as asked')), 20));
    return undefined;
  });
  const session = await http2Connect(t, proxy.url());
  const early = await ask(session, { ':path': '/early' });
  t.is(early.status, 502);
  t.is(
    proxyStatus(early.headers as Parameters<typeof proxyStatus>[0]).details,
    'upstream_closed: stream_reset',
  );
  const stream = session.request({ ':path': '/amid' });
  const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpStatusHeader];
  t.is(headers[':status'], 200);
  t.is(await resetCode(stream), NGHTTP2_INTERNAL_ERROR);
  await t.throwsAsync(request(proxy.port(), { path: '/amid' }), { code: 'ECONNRESET' });
});

test('a thousand cancelled streams cost nobody else anything', async (t) => {
  const sessions = new Set<unknown>();
  let [asked, cancelled] = [0, 0];
  const proxy = await beforeHttp2(t, (stream, headers) => {
    sessions.add(stream.session);
    if (headers[':path'] === '/') return echo(stream, headers);
    asked += 1;
    stream.on('close', () => {
      if (stream.rstCode === NGHTTP2_CANCEL) cancelled += 1;
    });
    if (headers[':path'] === '/answers') {
      stream.respond({ ':status': 200 });
      stream.write('some');
    }
    return undefined;
  });
  const session = await http2Connect(t, proxy.url());
  const watched = session.request({ ':path': '/answers' });
  const [some] = (await once(watched, 'data')) as [Buffer];
  t.is(some.toString(), 'some');
  let watchedEnded = false;
  watched.on('close', () => {
    watchedEnded = true;
  });
  for (let round = 1; round <= 20; round += 1) {
    const streams = Array.from({ length: 50 }, (_, n) => {
      const stream = session.request({ ':method': 'POST', ':path': n % 2 === 0 ? '/answers' : '/silent' });
      stream.on('error', () => {});
      return stream;
    });
    await until('all are asked', () => asked === 1 + round * 50);
    for (const stream of streams) stream.close(NGHTTP2_CANCEL);
    const { status } = await ask(session, { ':path': '/' });
    t.is(status, 200);
    await until('all are cancelled', () => cancelled === round * 50);
  }
  t.false(watchedEnded);
  // Servers end a connection with too many resets on it, so it is replaced before.
  t.true(sessions.size <= 4, `${sessions.size} connections`);
});

test('a client that stops reading stops its server, and holds up nobody else', async (t) => {
  let written = 0;
  const proxy = await beforeHttp2(t, (stream, headers) => {
    stream.respond({ ':status': 200 });
    if (headers[':path'] === '/small') return stream.end('small');
    const piece = Buffer.alloc(65_536);
    const more = (): void => {
      if (written >= 1_000 * piece.length) return void stream.end();
      written += piece.length;
      stream.write(piece, more);
    };
    more();
    return undefined;
  });
  const session = await http2Connect(t, proxy.url());
  const slow = session.request({ ':path': '/bulk' });
  await once(slow, 'response');
  let last = -1;
  await until('the server is stopped', async () => {
    const still = written === last && written > 0;
    last = written;
    await new Promise((resolve) => {
      setTimeout(resolve, 200);
    });
    return still;
  });
  t.true(written < 2_000_000, `${written} bytes were taken while nobody read`);
  for (let n = 0; n < 20; n += 1) t.is((await ask(session, { ':path': '/small' })).text, 'small');
  let seen = 0;
  slow.on('data', (chunk: Buffer) => {
    seen += chunk.length;
  });
  await once(slow, 'end');
  t.is(seen, written);
});

test('a deadline of the route ends a stream at both ends', async (t) => {
  let code = -1;
  const { address } = await http2Origin(t, (stream) => {
    stream.on('close', () => {
      code = stream.rstCode;
    });
  });
  const proxy = await startSidecar(
    t,
    web(
      { routes: [{ to: 'site', timeout: '100ms' }] },
      { clusters: { site: { endpoints: [address], protocol: 'http2' } } },
    ),
  );
  const session = await http2Connect(t, proxy.url());
  const stream = session.request({ ':path': '/' });
  const answer = await readAnswer(stream);
  t.is(answer.status, 504);
  await until('the server hears of it', () => code === NGHTTP2_CANCEL);
});

/** A sidecar before a server that says 100 to those who ask `/yes` and wait for it, and 413 to those who ask `/no`. */
async function beforeWary(t: ExecutionContext, version: 1 | 2): Promise<Sidecar> {
  if (version === 2)
    return beforeHttp2(t, (stream, headers) => {
      if (headers.expect !== '100-continue') return stream.respond({ ':status': 500 }, { endStream: true });
      if (headers[':path'] === '/yes') {
        stream.additionalHeaders({ ':status': 100 });
        return echo(stream, headers);
      }
      stream.respond({ ':status': 413 });
      return void stream.end('too much');
    });
  const origin = await httpOrigin(t, (_, outgoing) => outgoing.writeHead(500).end());
  origin.server.on('checkContinue', (incoming: IncomingMessage, outgoing: ServerResponse) => {
    if (incoming.url !== '/yes') return void outgoing.writeHead(413).end('too much');
    outgoing.writeContinue();
    return echo1(incoming, outgoing);
  });
  return startSidecar(t, web({ to: origin.address }));
}

const EXPECTS = { expect: '100-continue', 'content-length': '4' };

/** A POST that keeps its body until it hears 100; gives the answer's status and text, and whether 100 came. */
async function expecting(
  t: ExecutionContext,
  proxy: Sidecar,
  version: 1 | 2,
  path: string,
): Promise<{ status: number; text: string; went: boolean }> {
  let went = false;
  if (version === 1) {
    const peer = await connect(t, proxy.port());
    const fields = Object.entries(EXPECTS).map(([name, value]) => `${name}: ${value}\r\n`);
    await peer.send(`POST ${path} HTTP/1.1\r\nHost: a.test\r\n${fields.join('')}\r\n`);
    let answer = await peer.response();
    if (answer.status === 100) {
      went = true;
      await peer.send('ping');
      answer = await peer.response();
      while (answer.status < 200) answer = await peer.response();
    }
    return { status: answer.status, text: answer.body, went };
  }
  const session = await http2Connect(t, proxy.url());
  const stream = session.request({ ':method': 'POST', ':path': path, ...EXPECTS }, { endStream: false });
  stream.on('continue', () => {
    went = true;
    stream.end('ping');
  });
  const { status, text } = await within(`the answer to ${path}`, readAnswer(stream));
  return { status, text, went };
}

for (const client of [1, 2] as const) {
  for (const server of [1, 2] as const) {
    test(`HTTP/${client} to HTTP/${server}: a body that waits for 100 goes when the server says so, and only then`, async (t) => {
      const proxy = await beforeWary(t, server);
      const { text, ...yes } = await expecting(t, proxy, client, '/yes');
      t.deepEqual(yes, { status: 200, went: true });
      t.like(JSON.parse(text), { method: 'POST', body: 'ping' });
      t.deepEqual(await expecting(t, proxy, client, '/no'), { status: 413, text: 'too much', went: false });
    });
  }
}

test('HTTP/1.0 to HTTP/2: a request for nobody is for the server', async (t) => {
  const { address } = await http2Origin(t, echo);
  const proxy = await startSidecar(
    t,
    web({ to: 'site' }, { clusters: { site: { endpoints: [address], protocol: 'http2' } } }),
  );
  const peer = await connect(t, proxy.port());
  await peer.send('GET /a HTTP/1.0\r\n\r\n');
  const answer = await peer.response();
  t.is(answer.status, 200);
  t.like(JSON.parse(answer.body), { path: '/a', host: address });
});

test('HTTP/2 to HTTP/2: trailers that are none cost no stream, however many there are', async (t) => {
  const proxy = await before(t, 2);
  const session = await http2Connect(t, proxy.url());
  for (let n = 0; n < 20; n += 1) {
    const forged = { 'content-length': '77', 'x-mesh-peer': 'spiffe://a/b', x_forwarded_for: '10.0.0.1' };
    const trailers = { ...forged, 'x-after': 'yes' };
    const answer = await ask(session, { ':method': 'POST', ':path': '/' }, { body: 'ping', trailers });
    t.is(answer.status, 200);
    t.deepEqual((JSON.parse(answer.text) as Seen).trailers, { 'x-after': 'yes' });
  }
});
