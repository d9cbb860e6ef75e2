// Does every byte of a body arrive, whatever it is, however it is framed and cut?

import { createHash, randomBytes, randomInt } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import { setImmediate as turn } from 'node:timers/promises';
import test from 'ava';
import { echo, echoed, httpOrigin, keepAliveAgent, request } from '../support/http.js';
import { run } from '../support/processes.js';
import { startSidecar, web } from '../support/sidecar.js';
import { connect, tcpServer } from '../support/tcp.js';

const hash = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Random pieces of random sizes: mostly small, sometimes far beyond a buffer. */
function pieces(): Buffer[] {
  const sizes = [1, 10, 1000, 4096, 20_000, 300_000];
  return Array.from({ length: randomInt(0, 12) }, () =>
    randomBytes(randomInt(1, (sizes[randomInt(sizes.length)] ?? 1) + 1)),
  );
}

for (const framing of ['chunked', 'fixed'] as const) {
  test(`random bytes in random pieces, ${framing} both ways`, async (t) => {
    const origin = await httpOrigin(t, (incoming, outgoing) => {
      const chunks: Buffer[] = [];
      incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
      incoming.on('end', async () => {
        const whole = Buffer.concat(chunks);
        outgoing.setHeader('x-hash', hash(whole));
        if (framing === 'fixed') outgoing.setHeader('content-length', whole.length);
        outgoing.flushHeaders();
        for (let at = 0; at < whole.length;) {
          const next = Math.min(whole.length, at + randomInt(1, 50_000));
          if (!outgoing.write(whole.subarray(at, next))) await once(outgoing, 'drain');
          else await turn();
          at = next;
        }
        outgoing.end();
      });
    });
    const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
    const agent = keepAliveAgent(t);
    await Promise.all(
      Array.from({ length: 4 }, async () => {
        for (let round = 0; round < 10; round += 1) {
          const parts = pieces();
          const whole = Buffer.concat(parts);
          const sent = http.request({
            port: proxy.port(),
            host: '127.0.0.1',
            method: 'POST',
            agent,
            headers:
              framing === 'fixed' ? { 'content-length': whole.length } : { 'transfer-encoding': 'chunked' },
          });
          const answered = once(sent, 'response') as Promise<[http.IncomingMessage]>;
          for (const part of parts) {
            sent.write(part);
            await turn();
          }
          sent.end();
          const [answer] = await answered;
          const back: Buffer[] = [];
          for await (const chunk of answer) back.push(chunk as Buffer);
          t.is(answer.headers['x-hash'], hash(whole));
          t.is(hash(Buffer.concat(back)), hash(whole));
        }
      }),
    );
  });
}

test('trailers pass both ways, and framing fields among them do not', async (t) => {
  const origin = await httpOrigin(t, (incoming, outgoing) => {
    incoming.resume();
    incoming.on('end', () => {
      outgoing.setHeader('trailer', 'x-sum');
      outgoing.setHeader('x-seen', JSON.stringify(incoming.trailers));
      outgoing.write('body');
      outgoing.addTrailers({ 'x-sum': '42' });
      outgoing.end();
    });
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const answer = await request(proxy.port(), {
    method: 'POST',
    headers: { 'transfer-encoding': 'chunked', trailer: 'x-check' },
    body: 'hello',
    trailers: { 'x-check': 'yes' },
  });
  t.is(answer.text, 'body');
  t.deepEqual({ ...answer.trailers }, { 'x-sum': '42' });
  t.deepEqual(JSON.parse(String(answer.headers['x-seen'])), { 'x-check': 'yes' });

  const peer = await connect(t, proxy.port());
  await peer.send(
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\nX-Good: 1\r\nTransfer-Encoding: chunked\r\nHost: b\r\n\r\n',
  );
  const cleaned = await peer.response();
  if (cleaned.status === 200) t.deepEqual(JSON.parse(cleaned.headers.get('x-seen') ?? ''), { 'x-good': '1' });
  else t.is(cleaned.status, 400);
});

test('HEAD: the length that GET would have had, and no body; the connection goes on', async (t) => {
  const origin = await httpOrigin(t, (_, outgoing) => {
    outgoing.setHeader('content-length', 1234);
    outgoing.end('x'.repeat(1234));
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const peer = await connect(t, proxy.port());
  await peer.send('HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n');
  const head = await peer.response('HEAD');
  t.is(head.headers.get('content-length'), '1234');
  t.is((await peer.response()).body.length, 1234);
  t.is(origin.connections, 1);
});

for (const status of [204, 304] as const) {
  test(`${status} has no body, and the next response is the next request's`, async (t) => {
    const origin = await httpOrigin(t, (incoming, outgoing) => {
      if (incoming.url === '/none') {
        outgoing.statusCode = status;
        outgoing.setHeader('etag', '"x"');
        outgoing.end();
      } else echo(incoming, outgoing);
    });
    const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
    const peer = await connect(t, proxy.port());
    await peer.send('GET /none HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n');
    const none = await peer.response();
    t.is(none.status, status);
    t.is(none.headers.get('etag'), '"x"');
    t.false(none.headers.has('transfer-encoding'));
    t.is(echoed({ text: (await peer.response()).body }).url, '/next');
  });
}

test('a length announced with 304 stays an announcement', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    for (;;) {
      await peer.readUntil('\r\n\r\n');
      await peer.send('HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n');
    }
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: server.address }] }));
  const peer = await connect(t, proxy.port());
  for (let n = 0; n < 2; n += 1) {
    await peer.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    const answer = await peer.response();
    t.is(answer.status, 304);
    t.is(answer.headers.get('content-length'), '99');
  }
  t.is(server.peers.length, 1);
});

test('a server that ends its body by closing: chunked to the client, whole', async (t) => {
  const body = randomBytes(100_000).toString('latin1');
  const server = await tcpServer(t, async (peer) => {
    await peer.readUntil('\r\n\r\n');
    await peer.send('HTTP/1.1 200 OK\r\n\r\n', body);
    peer.end();
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: server.address }] }));
  const peer = await connect(t, proxy.port());
  for (let n = 0; n < 2; n += 1) {
    await peer.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    const answer = await peer.response();
    t.is(answer.headers.get('transfer-encoding'), 'chunked');
    t.is(hash(Buffer.from(answer.body, 'latin1')), hash(Buffer.from(body, 'latin1')));
  }
});

test('a POST without a body says so to the server', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const peer = await connect(t, proxy.port());
  await peer.send('POST / HTTP/1.1\r\nHost: a\r\n\r\n');
  const seen = echoed({ text: (await peer.response()).body });
  t.is(seen.headers['content-length'], '0');
  t.is(seen.body, '');
});

for (const [what, announced] of [
  ['fixed', 'Content-Length: 100\r\n\r\n'],
  ['chunked', 'Transfer-Encoding: chunked\r\n\r\n64\r\n'],
] as const) {
  test(`a server that closes amid a ${what} body: the client is not told that it was whole`, async (t) => {
    const server = await tcpServer(t, async (peer) => {
      await peer.readUntil('\r\n\r\n');
      peer.end(`HTTP/1.1 200 OK\r\n${announced}half of it`);
    });
    const proxy = await startSidecar(t, web({ routes: [{ to: server.address }] }));
    const error = await t.throwsAsync(request(proxy.port()));
    t.regex(
      String((error as NodeJS.ErrnoException).code),
      /ECONNRESET|ERR_STREAM_PREMATURE_CLOSE|HPE_INVALID_EOF_STATE/,
    );
  });
}

test('a server that closes amid a body: an HTTP/1.0 client, for which the end is the end, sees a reset', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    await peer.readUntil('\r\n\r\n');
    peer.end('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf of it');
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: server.address }] }));
  // Node calls a reset that comes with the last bytes an end; curl tells them apart.
  const { code, stderr } = await run('curl', ['-sS', '--http1.0', proxy.url()]);
  t.is(code, 56, stderr);
  t.regex(stderr, /reset by peer/);
});
