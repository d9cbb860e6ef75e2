// Does traffic notice that the configuration changes ten times a second?

import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { createProxy } from '../../src/index.js';
import type { Config } from '../../src/index.js';
import { type Origin, httpOrigin, keepAliveAgent, request } from '../support/http.js';
import { startSidecar } from '../support/sidecar.js';
import { tcpServer } from '../support/tcp.js';

const CLIENTS = 8;
const UPDATES = 30;

interface Origins {
  stays: Origin;
  changes: Origin;
  comes: Origin;
}

async function servers(t: ExecutionContext): Promise<Origins> {
  const server = (): Promise<Origin> => httpOrigin(t, (_, response) => response.end('ok'));
  return { stays: await server(), changes: await server(), comes: await server() };
}

/** What everybody asks for stays; around it routes, clusters, listeners and endpoints come and go. */
function version(n: number, { stays, changes, comes }: Origins): Config {
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
        ],
      },
      ...(n % 2 === 0 ? [{ name: 'sometimes', address: '127.0.0.1:0', to: 'stays' }] : []),
    ],
    clusters: {
      stays: { endpoints: [stays.address] },
      changes: {
        endpoints: n % 3 === 0 ? [changes.address] : [changes.address, comes.address],
        timeouts: { idle: `${30 + n}s` },
      },
      ...Object.fromEntries(extra.map(({ to }) => [to, { endpoints: [stays.address] }])),
    },
  };
}

/** Clients that ask until they are told to stop; gives how many requests they made. Any that fails is told. */
async function traffic(t: ExecutionContext, port: number, updates: () => Promise<void>): Promise<number> {
  const state = { on: true };
  let requests = 0;
  const client = async (number: number): Promise<void> => {
    const agent = keepAliveAgent(t, { maxSockets: 1 });
    for (let n = 0; state.on; n += 1) {
      const path = number % 2 === 0 ? '/stays/x' : '/changes/x';
      const { status, reused, text } = await request(port, { agent, path });
      if (status !== 200) t.fail(`${path}: ${status} ${text}`);
      if (!reused && n > 0) t.fail(`${path}: the connection was closed`);
      requests += 1;
    }
  };
  const clients = Promise.all(Array.from({ length: CLIENTS }, (_, number) => client(number)));
  try {
    await updates();
  } finally {
    state.on = false;
    await clients;
  }
  return requests;
}

test('the sidecar: no request fails, no connection is closed, pools and sockets stay', async (t) => {
  const origins = await servers(t);
  const proxy = await startSidecar(t, version(0, origins));
  const port = proxy.port('web');
  const requests = await traffic(t, port, async () => {
    for (let n = 1; n <= UPDATES; n += 1) {
      await Promise.all([proxy.reload(version(n, origins)), sleep(100)]);
    }
  });
  t.true(requests > UPDATES);
  t.is(proxy.port('web'), port);
  // Never more than clients that ask at once: what was pooled was used again.
  t.true(origins.stays.connections <= CLIENTS, `${origins.stays.connections} connections`);
});

test('embedded in Node: the same', async (t) => {
  const origins = await servers(t);
  const proxy = createProxy(version(0, origins), { threads: 2 });
  t.teardown(() => proxy.close());
  const { addresses } = await proxy.listen();
  const port = addresses.find(({ listener }) => listener === 'web')?.port ?? 0;
  const requests = await traffic(t, port, async () => {
    for (let n = 1; n <= UPDATES; n += 1) {
      const [listening] = await Promise.all([proxy.apply(version(n, origins)), sleep(100)]);
      t.is(listening.addresses.find(({ listener }) => listener === 'web')?.port, port);
    }
  });
  t.true(requests > UPDATES);
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
