// Does a proxy that goes, or changes, fail nobody?

import type http from 'node:http';
import test from 'ava';
import { httpOrigin, keepAliveAgent, request } from '../support/http.js';
import { startSidecar, web } from '../support/sidecar.js';
import { connect, tcpServer } from '../support/tcp.js';
import { until } from '../support/wait.js';

type Test = Parameters<typeof startSidecar>[0];

/** What clients that loop have seen. */
interface Seen {
  answered: number;
  failed: string[];
  stop: boolean;
}

/** How long a connection that is asked to leave is kept for the request that may be on its way: `WARM` of the core. */
const WARM_MS = 1000;

/** Clients that send one request after the other on kept connections until they are refused or told to stop. */
function loops(t: Test, port: number, count: number): { seen: Seen; ended: Promise<unknown> } {
  const seen: Seen = { answered: 0, failed: [], stop: false };
  const loop = async (): Promise<void> => {
    const agent = keepAliveAgent(t, { maxSockets: 1 });
    let begun = performance.now();
    while (!seen.stop) {
      // The connection may have been idle since then, for all that the proxy knows.
      const before = begun;
      begun = performance.now();
      try {
        const { status, text } = await request(port, { agent, path: '/x' });
        if (status !== 200 || text !== 'x'.repeat(1000)) seen.failed.push(`${status} ${text.slice(0, 100)}`);
        else seen.answered += 1;
      } catch (error) {
        const { code = String(error) } = error as NodeJS.ErrnoException;
        // The listener is gone: nobody took the request.
        if (code === 'ECONNREFUSED') return;
        // This process stood still, before it asked or while it connected, and its connection was silent.
        if (code === 'ECONNRESET' && performance.now() - before > WARM_MS) continue;
        seen.failed.push(code);
      }
    }
  };
  return { seen, ended: Promise.all(Array.from({ length: count }, loop)) };
}

const answer: http.RequestListener = (_, outgoing) => outgoing.end('x'.repeat(1000));

for (const lameDuck of ['0s', '1s']) {
  test(`a drain under load fails no request, with a lame duck of ${lameDuck}`, async (t) => {
    const origin = await httpOrigin(t, answer);
    const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }), { lameDuck });
    const { seen, ended } = loops(t, proxy.port(), 20);
    await until('the clients are under way', () => seen.answered > 500);
    const exit = await proxy.drain();
    await ended;
    t.deepEqual(exit, { code: 0, signal: null });
    t.deepEqual(seen.failed, []);
  });
}

test('a drain: what is under way ends, what is asked meanwhile says goodbye, idle connections leave', async (t) => {
  let finish = (): void => {};
  const origin = await httpOrigin(t, (incoming, outgoing) => {
    if (incoming.url !== '/slow') return outgoing.end('ok');
    outgoing.write('begun,');
    finish = () => outgoing.end('done');
    return undefined;
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const [slow, idle] = [await connect(t, proxy.port()), await connect(t, proxy.port())];
  await slow.send('GET /slow HTTP/1.1\r\nHost: a\r\n\r\n');
  await slow.readUntil('begun,');
  await idle.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await idle.response();
  const gone = proxy.drain();
  await idle.gone();
  await until(
    'nobody listens',
    async () => (await connect(t, proxy.port()).catch(() => 'refused')) === 'refused',
  );
  finish();
  t.regex(await slow.readUntil('0\r\n\r\n'), /done/);
  t.deepEqual(await gone, { code: 0, signal: null });
});

test('a second signal ends at once', async (t) => {
  const server = await tcpServer(t);
  const proxy = await startSidecar(t, web({ routes: [{ to: server.address }] }));
  const peer = await connect(t, proxy.port());
  await peer.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await (await server.accepted()).readUntil('\r\n\r\n');
  proxy.process.signal('SIGTERM');
  await proxy.said(/draining/);
  t.is((await proxy.drain()).code, 1);
});

test('updates under load fail no request, and keep sockets and pools', async (t) => {
  const origins = [await httpOrigin(t, answer), await httpOrigin(t, answer)];
  const config = (n: number) =>
    web(
      {
        routes: [
          { to: 'app', response: { setHeaders: { 'x-version': String(n) } } },
          { match: { path: `/only/${n}` }, respond: 204 },
        ],
      },
      {
        clusters: {
          app: { endpoints: origins.map(({ address }) => address) },
          [`other-${n}`]: { endpoints: ['127.0.0.1:1'] },
        },
      },
    );
  const proxy = await startSidecar(t, config(0));
  const port = proxy.port();
  const { seen, ended } = loops(t, port, 10);
  for (let n = 1; n <= 30; n += 1) {
    const before = seen.answered;
    await proxy.reload(config(n));
    await until('requests go on', () => seen.answered > before + 10);
  }
  seen.stop = true;
  await ended;
  t.deepEqual(seen.failed, []);
  t.is((await request(port)).headers['x-version'], '30');
  // As many as clients may have asked at once, not as many as there were updates.
  t.true(
    origins.every(({ connections }) => connections <= 11),
    origins.map(({ connections }) => connections).join(),
  );
});

test('an update that is refused changes nothing', async (t) => {
  const proxy = await startSidecar(t, web({ routes: [{ respond: 204 }] }));
  await t.throwsAsync(proxy.reload(web({ routes: [{ to: 'nobody' }] }, { clusters: {} })));
  t.is((await request(proxy.port())).status, 204);
});

test('a listener that is taken away finishes what it has; its port is free then', async (t) => {
  let finish = (): void => {};
  const origin = await httpOrigin(t, (_, outgoing) => {
    outgoing.write('begun,');
    finish = () => outgoing.end('done');
  });
  const two = (names: string[]) => ({
    listeners: names.map((name) => ({ name, address: '127.0.0.1:0', routes: [{ to: origin.address }] })),
  });
  const proxy = await startSidecar(t, two(['stays', 'goes']));
  const port = proxy.port('goes');
  const peer = await connect(t, port);
  await peer.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await peer.readUntil('begun,');
  await proxy.reload(two(['stays']));
  await until('its port is free', async () => (await connect(t, port).catch(() => 'refused')) === 'refused');
  finish();
  t.regex(await peer.readUntil('0\r\n\r\n'), /done/);
  await peer.gone();
  t.true((await connect(t, proxy.port('stays'))).socket.writable);
});
