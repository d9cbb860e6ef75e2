// Does a slow reader slow its writer, on either side, while the proxy's memory stays where it is?

import http from 'node:http';
import { once } from 'node:events';
import test from 'ava';
import { httpOrigin } from '../support/http.js';
import { type Sidecar, startSidecar, web } from '../support/sidecar.js';
import { connect, tcpServer } from '../support/tcp.js';
import { until } from '../support/wait.js';

const TOTAL = 200 * 1024 * 1024;
const BLOCK = Buffer.alloc(1024 * 1024, 'b');
/** Two large buffers and some: a proxy that stores bodies would need a hundred times that. */
const MOST_MEMORY = 8 * 1024 * 1024;

/** Waits until a count has stopped to grow: the writer is held back. */
async function standstill(count: () => number): Promise<number> {
  let last = -1;
  let since = performance.now();
  return until('the writer is held back', () => {
    const now = count();
    if (now !== last) {
      last = now;
      since = performance.now();
    }
    return now > 0 && performance.now() - since > 300 ? now : undefined;
  });
}

function grown(proxy: Sidecar, before: number): number {
  return proxy.residentBytes() - before;
}

for (const chunked of [true, false]) {
  test(`a client that does not read a ${chunked ? 'chunked' : 'fixed'} body holds its server back`, async (t) => {
    let written = 0;
    const origin = await httpOrigin(t, async (_, outgoing) => {
      if (!chunked) outgoing.setHeader('content-length', TOTAL);
      while (written < TOTAL) {
        written += BLOCK.length;
        if (!outgoing.write(BLOCK)) await once(outgoing, 'drain');
      }
      outgoing.end();
    });
    const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
    const before = proxy.residentBytes();
    const sent = http.get({ port: proxy.port(), host: '127.0.0.1', agent: false });
    const [answer] = (await once(sent, 'response')) as [http.IncomingMessage];
    t.true((await standstill(() => written)) < TOTAL / 2);
    t.true(grown(proxy, before) < MOST_MEMORY, `${grown(proxy, before)} bytes more`);
    let read = 0;
    let peak = 0;
    for await (const chunk of answer) {
      read += (chunk as Buffer).length;
      peak = Math.max(peak, grown(proxy, before));
    }
    t.is(read, TOTAL);
    t.true(peak < MOST_MEMORY, `${peak} bytes more`);
  });
}

test('a server that does not read holds its client back', async (t) => {
  const server = await tcpServer(t, (peer) => {
    peer.socket.pause();
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: server.address }] }));
  const before = proxy.residentBytes();
  const client = await connect(t, proxy.port());
  await client.send(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ${TOTAL}\r\n\r\n`);
  let written = 0;
  const writing = (async () => {
    while (written < TOTAL) {
      await client.send(BLOCK);
      written += BLOCK.length;
    }
  })();
  const upstream = await server.accepted();
  t.true((await standstill(() => written)) < TOTAL / 2);
  t.true(grown(proxy, before) < MOST_MEMORY, `${grown(proxy, before)} bytes more`);
  let read = 0;
  upstream.socket.removeAllListeners('data');
  upstream.socket.on('data', (chunk: Buffer) => {
    read += chunk.length;
  });
  upstream.socket.resume();
  await writing;
  await until('all arrives', () => read > TOTAL);
  t.true(grown(proxy, before) < MOST_MEMORY, `${grown(proxy, before)} bytes more`);
  await upstream.send('HTTP/1.1 204 No Content\r\n\r\n');
  t.is((await client.response()).status, 204);
});
