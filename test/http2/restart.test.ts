// Does a server that restarts, or a proxy that drains, cost a request?

import { once } from 'node:events';
import http2 from 'node:http2';
import type { Socket } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { http2Origin } from '../support/http.js';
import { ask, http2Connect, readAnswer } from '../support/http2.js';
import { startSidecar, web } from '../support/sidecar.js';
import { closedPort } from '../support/tcp.js';
import { until, within } from '../support/wait.js';

/** How long a client that is told to leave has to read it: `LINGER_TIME` of the core. */
const LINGER_MS = 2000;

/** The servers are of this process, which may stand still for a while. */
const timeouts = { connect: '20s' };

/** A server that can go and come back on its port. */
class Restarting {
  #server: http2.Http2Server | undefined;
  #sessions = new Set<http2.ServerHttp2Session>();
  #sockets = new Set<Socket>();
  served = 0;

  /** A port that the system gives to nobody else while the server is away. */
  constructor(readonly port: number) {}

  async start(): Promise<void> {
    const server = http2.createServer();
    server.on('session', (session) => {
      this.#sessions.add(session);
      session.on('error', () => {});
      session.on('close', () => this.#sessions.delete(session));
    });
    server.on('stream', (stream) => {
      stream.on('error', () => {});
      this.served += 1;
      setTimeout(() => {
        if (stream.destroyed) return;
        stream.respond({ ':status': 200 });
        stream.end('ok');
      }, 2);
    });
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    server.listen(this.port, '127.0.0.1');
    await once(server, 'listening');
    this.#server = server;
  }

  /** GOAWAY to all, what is under way ends, then it is gone. */
  async leave(): Promise<void> {
    const server = this.#server;
    if (!server) return;
    const closed = once(server, 'close');
    server.close();
    for (const session of this.#sessions) session.close();
    await within('the server to have gone', closed);
  }

  /** As if the process had ended: its sockets close, and no frame says why. */
  kill(): void {
    this.#server?.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

async function pair(t: ExecutionContext): Promise<[Restarting, Restarting]> {
  const both: [Restarting, Restarting] = [
    new Restarting(await closedPort()),
    new Restarting(await closedPort()),
  ];
  for (const server of both) {
    await server.start();
    t.teardown(() => server.kill());
  }
  return both;
}

test('two servers that restart in turn under load: no call fails', async (t) => {
  const servers = await pair(t);
  const proxy = await startSidecar(
    t,
    web(
      { to: 'site' },
      {
        clusters: {
          site: {
            endpoints: servers.map(({ port }) => `127.0.0.1:${port}`),
            protocol: 'http2',
            balance: 'roundRobin',
            timeouts,
          },
        },
      },
    ),
  );
  const session = await http2Connect(t, proxy.url());
  let calls = 0;
  const stop = new AbortController();
  const failures: string[] = [];
  const callers = Array.from({ length: 10 }, async (_, n) => {
    while (!stop.signal.aborted) {
      // What the server says it did not look at is repeated even when the method may not be.
      const method = n % 2 === 0 ? 'GET' : 'PUT';
      const answer = await ask(session, { ':method': method, ':path': `/${n}` }).catch(
        (error: Error) => error,
      );
      calls += 1;
      if (answer instanceof Error) failures.push(answer.message);
      else if (answer.status !== 200) failures.push(`${answer.status} ${answer.headers['proxy-status']}`);
    }
  });
  for (let round = 0; round < 6; round += 1) {
    const server = servers[round % 2];
    if (!server) continue;
    const { served } = server;
    await until('it is under load', () => server.served > served + 50);
    await server.leave();
    const at = calls;
    await until('the other one serves', () => calls > at + 50);
    await server.start();
    // It is back in once its time of being out is over.
    await until('it serves again', () => server.served > served + 100);
  }
  stop.abort();
  await Promise.all(callers);
  t.deepEqual(failures, []);
  t.true(calls > 600);
});

test('a server killed amid its answers: calls that may be repeated are, and no other connection pays', async (t) => {
  const [dying, staying] = await pair(t);
  const proxy = await startSidecar(
    t,
    web(
      { to: 'site' },
      {
        clusters: {
          site: {
            endpoints: [`127.0.0.1:${dying.port}`, `127.0.0.1:${staying.port}`],
            protocol: 'http2',
            balance: 'roundRobin',
            timeouts,
          },
        },
      },
    ),
  );
  const session = await http2Connect(t, proxy.url());
  await Promise.all(Array.from({ length: 20 }, () => ask(session, { ':path': '/' })));
  const under = dying.served;
  const calls = Array.from({ length: 40 }, () => ask(session, { ':path': '/' }));
  await until('it has some', () => dying.served > under);
  dying.kill();
  for (const { status } of await Promise.all(calls)) t.is(status, 200);
});

test('a proxy that drains says GOAWAY twice; what is under way ends, what comes between is served', async (t) => {
  const held: http2.ServerHttp2Stream[] = [];
  const origin = await http2Origin(t, (stream, headers) => {
    if (headers[':path'] === '/held') held.push(stream);
    else {
      stream.respond({ ':status': 200 });
      stream.end('quick');
    }
  });
  const proxy = await startSidecar(
    t,
    web({ to: 'site' }, { clusters: { site: { endpoints: [origin.address], protocol: 'http2', timeouts } } }),
    { lameDuck: '0s' },
  );
  const session = await http2Connect(t, proxy.url());
  const goaways: [number, number][] = [];
  session.on('goaway', (code: number, last: number) => goaways.push([code, last]));
  const stream = session.request({ ':path': '/held' });
  const answer = readAnswer(stream);
  await until('it is held', () => held.length === 1);
  const gone = proxy.drain();
  await until('the client is asked to leave', () => goaways.length >= 2);
  t.deepEqual(goaways, [
    [0, 2 ** 31 - 1],
    [0, 1],
  ]);
  held[0]?.respond({ ':status': 200 });
  held[0]?.end('late');
  t.is((await answer).text, 'late');
  t.is((await gone).code, 0);
});

test('a drain under load: clients that are told GOAWAY go elsewhere, and no request fails', async (t) => {
  const origin = await http2Origin(t, (stream) => {
    stream.respond({ ':status': 200 });
    stream.end('ok');
  });
  const proxy = await startSidecar(
    t,
    web({ to: 'site' }, { clusters: { site: { endpoints: [origin.address], protocol: 'http2', timeouts } } }),
    { lameDuck: '0s' },
  );
  const url = proxy.url();
  const failures: string[] = [];
  let [answered, goaways] = [0, 0];
  const caller = async (): Promise<void> => {
    for (;;) {
      const session = await http2Connect(t, url).catch((error: NodeJS.ErrnoException) => error);
      if (session instanceof Error) {
        // Nobody listens any more: that is the end of it.
        if (session.code !== 'ECONNREFUSED') failures.push(String(session));
        return;
      }
      session.on('goaway', (code) => {
        goaways += 1;
        if (code !== 0) failures.push(`GOAWAY ${code}`);
      });
      let asked = performance.now();
      while (!session.closed) {
        const before = asked;
        setImmediate(() => {
          asked = performance.now();
        });
        const answer = await ask(session, { ':path': '/' }).catch((error: Error) => error);
        if (answer instanceof Error) {
          // What was on its way when GOAWAY came was looked at by nobody (RFC 9113 section 6.8), and is asked elsewhere.
          const unseen = session.closed && answer.message.includes('NGHTTP2_REFUSED_STREAM');
          // This process stood still, and read nothing for as long.
          const late = asked - before > LINGER_MS;
          if (!unseen && !late) failures.push(String(answer));
        } else if (answer.status !== 200) failures.push(`${answer.status} ${answer.text}`);
        else answered += 1;
      }
    }
  };
  const callers = Array.from({ length: 20 }, caller);
  await until('the callers are under way', () => answered > 500);
  const exit = await proxy.drain();
  await Promise.all(callers);
  t.deepEqual(exit, { code: 0, signal: null });
  t.deepEqual(failures, []);
  t.true(goaways >= callers.length, `${goaways} times GOAWAY`);
});
