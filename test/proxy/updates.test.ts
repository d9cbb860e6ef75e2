// Does traffic notice that the configuration changes ten times a second?

import { setTimeout as sleep } from 'node:timers/promises';
import grpc from '@grpc/grpc-js';
import test, { type ExecutionContext } from 'ava';
import { createProxy } from '../../src/index.js';
import type { Config } from '../../src/index.js';
import { type Origin, http2Origin, httpOrigin, keepAliveAgent, request } from '../support/http.js';
import { ask, http2Connect } from '../support/http2.js';
import { startSidecar } from '../support/sidecar.js';
import { connect, tcpServer } from '../support/tcp.js';
import { PATIENCE_MS, until } from '../support/wait.js';

const CLIENTS = 8;
const UPDATES = 30;

interface Origins {
  stays: Origin;
  changes: Origin;
  comes: Origin;
  /** Addresses of two that speak HTTP/2, and of one that sends back what it gets. */
  calls: [string, string];
  bytes: string;
}

/** Answers `ok` over HTTP/2, and calls of gRPC with an empty message. */
async function caller(t: ExecutionContext): Promise<string> {
  const { address } = await http2Origin(t, (stream, headers) => {
    stream.resume();
    if (headers['content-type'] !== 'application/grpc') {
      stream.respond({ ':status': 200 });
      return void stream.end('ok');
    }
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    return void stream.end(Buffer.alloc(5));
  });
  return address;
}

async function servers(t: ExecutionContext): Promise<Origins> {
  const server = (): Promise<Origin> => httpOrigin(t, (_, response) => response.end('ok'));
  const { address: bytes } = await tcpServer(t, ({ socket }) => socket.pipe(socket));
  const calls: Origins['calls'] = [await caller(t), await caller(t)];
  return { stays: await server(), changes: await server(), comes: await server(), calls, bytes };
}

/** What everybody asks for stays; around it routes, clusters, listeners and endpoints come and go. */
function version(n: number, { stays, changes, comes, calls, bytes }: Origins): Config {
  const extra = Array.from({ length: n % 5 }, (_, at) => ({
    match: { path: `/extra-${at}/*` },
    to: `extra-${at}`,
  }));
  return {
    listeners: [
      {
        name: 'web',
        address: '127.0.0.1:0',
        routes: [
          ...extra,
          { match: { path: '/changes/*' }, to: 'changes', timeout: `${10 + n}s` },
          { match: { path: '/stays/*' }, to: 'stays' },
          { match: { path: '/calls/*' }, to: 'calls', timeout: `${10 + n}s` },
        ],
      },
      { name: 'bytes', address: '127.0.0.1:0', protocol: 'tcp', tcp: 'bytes' },
      ...(n % 2 === 0 ? [{ name: 'sometimes', address: '127.0.0.1:0', to: 'stays' }] : []),
    ],
    clusters: {
      stays: { endpoints: [stays.address] },
      changes: {
        endpoints: n % 3 === 0 ? [changes.address] : [changes.address, comes.address],
        timeouts: { idle: `${30 + n}s` },
      },
      calls: {
        endpoints: n % 3 === 0 ? calls.slice(0, 1) : calls,
        protocol: 'http2',
        timeouts: { idle: `${30 + n}s` },
      },
      bytes: { endpoints: [bytes], timeouts: { idle: `${30 + n}s` } },
      ...Object.fromEntries(extra.map(({ to }) => [to, { endpoints: [stays.address] }])),
    },
  };
}

/** What a client of each kind does, over and over. */
type Deeds = Record<string, (n: number) => Promise<void>>;

/** Clients of every kind, each of which keeps its connection. */
async function clients(t: ExecutionContext, port: (listener: string) => number): Promise<Deeds> {
  const deeds: Deeds = {};
  for (let number = 0; number < CLIENTS; number += 1) {
    const agent = keepAliveAgent(t, { maxSockets: 1 });
    const path = number % 2 === 0 ? '/stays/x' : '/changes/x';
    deeds[`HTTP/1 ${number}`] = async (n) => {
      const { status, reused, text } = await request(port('web'), { agent, path });
      if (status !== 200) throw new Error(`${path}: ${status} ${text}`);
      if (!reused && n > 0) throw new Error(`${path}: the connection was closed`);
    };
  }
  const session = await http2Connect(t, `http://127.0.0.1:${port('web')}`);
  for (const body of ['', 'x'.repeat(100_000)]) {
    deeds[`HTTP/2, ${body.length} bytes`] = async () => {
      const { status, text } = await ask(session, { ':method': 'POST', ':path': '/calls/x' }, { body });
      if (status !== 200) throw new Error(`${status} ${text}`);
    };
  }
  const calls = new grpc.Client(`127.0.0.1:${port('web')}`, grpc.credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_retries': 0,
  });
  t.teardown(() => calls.close());
  const asIs = (bytes: Buffer): Buffer => bytes;
  deeds['gRPC'] = () =>
    new Promise((resolve, reject) => {
      const options = { deadline: Date.now() + PATIENCE_MS };
      calls.makeUnaryRequest('/calls/Get', asIs, asIs, Buffer.alloc(10), options, (error) =>
        error ? reject(error) : resolve(),
      );
    });
  const stream = await connect(t, port('bytes'));
  deeds['TCP'] = async (n) => {
    await stream.send(`${n}\n`);
    const back = await stream.readUntil('\n');
    if (back !== `${n}\n`) throw new Error(`${back} is not ${n}`);
  };
  return deeds;
}

/** Does a step again and again while clients of every kind ask, each of them at least once in each step. None may fail. */
async function traffic(
  t: ExecutionContext,
  port: (listener: string) => number,
  step: (n: number) => Promise<void>,
): Promise<void> {
  const deeds = Object.entries(await clients(t, port));
  const done = new Map<string, number>();
  const state = { on: true };
  const loops = deeds.map(async ([kind, deed]) => {
    try {
      for (let n = 0; state.on; n += 1) {
        await deed(n);
        done.set(kind, n + 1);
      }
    } catch (error) {
      t.fail(`${kind}: ${String(error)}`);
    }
  });
  try {
    for (let n = 1; n <= UPDATES; n += 1) {
      const before = new Map(done);
      await Promise.all([step(n), sleep(100)]);
      for (const [kind] of deeds)
        await until(`${kind} goes on`, () => (done.get(kind) ?? 0) > (before.get(kind) ?? 0));
    }
  } finally {
    state.on = false;
    await Promise.all(loops);
  }
}

test('the sidecar: no request fails, no connection is closed, pools and sockets stay', async (t) => {
  const origins = await servers(t);
  const proxy = await startSidecar(t, version(0, origins));
  const port = proxy.port('web');
  await traffic(
    t,
    (listener) => proxy.port(listener),
    (n) => proxy.reload(version(n, origins)),
  );
  t.is(proxy.port('web'), port);
  // Never more than clients that ask at once: what was pooled was used again.
  t.true(origins.stays.connections <= CLIENTS, `${origins.stays.connections} connections`);
});

test('embedded in Node: the same', async (t) => {
  const origins = await servers(t);
  const proxy = createProxy(version(0, origins), { threads: 2 });
  t.teardown(() => proxy.close());
  const { addresses } = await proxy.listen();
  const port = (name: string, among = addresses): number =>
    among.find(({ listener }) => listener === name)?.port ?? 0;
  await traffic(t, port, async (n) => {
    const listening = await proxy.apply(version(n, origins));
    t.is(port('web', listening.addresses), port('web'));
  });
  const { updates } = await proxy.stats();
  t.deepEqual(updates, { applied: UPDATES + 1, refused: 0 });
});

test('a connection that was plaintext is not used again once the cluster speaks TLS', async (t) => {
  const server = await tcpServer(t);
  const config = (tls: object): Config => ({
    listeners: [{ name: 'web', address: '127.0.0.1:0', routes: [{ to: 'site' }] }],
    clusters: { site: { endpoints: [server.address], ...tls } },
  });
  const proxy = await startSidecar(t, config({}));
  const before = request(proxy.port(), { path: '/before' });
  const plain = await server.accepted(0);
  t.regex(await plain.readUntil('\r\n\r\n'), /^GET \/before HTTP\/1\.1\r\n/);
  await proxy.reload(config({ tls: { serverName: 'site.test' } }));
  await plain.send('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok');
  t.is((await before).text, 'ok');
  const after = request(proxy.port(), { path: '/after' });
  const secret = await server.accepted(1);
  // A handshake record, and not a word of the request in the clear.
  t.is((await secret.read(1))[0], 22);
  secret.reset();
  t.is(await plain.readToEnd(), '');
  t.true((await after).status >= 502);
});
