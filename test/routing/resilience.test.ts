// What happens to requests when servers fail, and to servers that fail?

import test from 'ava';
import { startEmbedded } from '../support/embedded.js';
import { httpOrigin, keepAliveAgent, proxyStatus, request } from '../support/http.js';
import { startSidecar, web } from '../support/sidecar.js';
import { closedPort, tcpServer } from '../support/tcp.js';
import { until } from '../support/wait.js';

test('a server that refuses costs no request: another is asked, and the dead one is put aside', async (t) => {
  const origin = await httpOrigin(t);
  const dead = await closedPort();
  const proxy = await startEmbedded(
    t,
    web(
      { routes: [{ to: 'app' }] },
      { clusters: { app: { balance: 'roundRobin', endpoints: [`127.0.0.1:${dead}`, origin.address] } } },
    ),
  );
  const agent = keepAliveAgent(t, { maxSockets: 4 });
  for (let n = 0; n < 40; n += 1) {
    t.is((await request(proxy.port(), { agent, method: n % 2 ? 'POST' : 'GET' })).status, 200);
  }
  const { connectFailures } = await proxy.cluster('app');
  // Once put aside it is not asked each time: by a probe a second at most.
  t.true((connectFailures['connect_refused'] ?? 0) < 20, JSON.stringify(connectFailures));
  // It is out for a second, and for another one when it is tried again.
  const failed = await until('it is put aside', async () => {
    t.is((await request(proxy.port(), { agent })).status, 200);
    const { endpoints } = await proxy.cluster('app');
    return endpoints.find(({ address, state }) => address.endsWith(`:${dead}`) && state === 'ejected');
  });
  t.true(failed.ejections >= 1);
  const [route] = await proxy.routes();
  t.is(route?.failures, 0);
  t.true((route?.retries ?? 0) >= 1);
});

test('a server that comes back is used again', async (t) => {
  const port = await closedPort();
  const proxy = await startEmbedded(
    t,
    web({ routes: [{ to: 'app' }] }, { clusters: { app: { endpoints: [`127.0.0.1:${port}`] } } }),
  );
  // For a second, which may be over when it is looked at.
  await until('it is put aside', async () => {
    t.is((await request(proxy.port())).status, 502);
    return (await proxy.cluster('app')).endpoints[0]?.state === 'ejected';
  });
  await httpOrigin(t, undefined, port);
  await until('it answers', async () => (await request(proxy.port())).status === 200);
  t.is((await proxy.cluster('app')).endpoints[0]?.state, 'available');
});

test('all servers dead: each request says so, and tries them again rather than none', async (t) => {
  const ports = [await closedPort(), await closedPort()];
  const proxy = await startEmbedded(
    t,
    web(
      { routes: [{ to: 'app' }] },
      { clusters: { app: { endpoints: ports.map((port) => `127.0.0.1:${port}`) } } },
    ),
  );
  for (let n = 0; n < 5; n += 1) {
    const answer = await request(proxy.port());
    t.is(answer.status, 502);
    t.is(proxyStatus(answer.headers).details, 'connect_refused');
  }
});

test('at most three are asked for one request', async (t) => {
  const ports = await Promise.all(Array.from({ length: 8 }, () => closedPort()));
  const proxy = await startEmbedded(
    t,
    web(
      { routes: [{ to: 'app' }] },
      { clusters: { app: { endpoints: ports.map((port) => `127.0.0.1:${port}`) } } },
    ),
  );
  t.is((await request(proxy.port())).status, 502);
  t.is((await proxy.cluster('app')).connectFailures['connect_refused'], 3);
});

test('a request of which something was sent is not sent again', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    await peer.readUntil('\r\n\r\n');
    peer.reset();
  });
  const proxy = await startSidecar(
    t,
    web(
      { routes: [{ to: 'app' }] },
      {
        clusters: { app: { endpoints: [server.address, server.address.replace('127.0.0.1', '127.0.0.2')] } },
      },
    ),
  );
  const answer = await request(proxy.port(), { method: 'POST', body: 'once' });
  t.is(answer.status, 502);
  t.is(server.peers.length, 1);
});

test('a 5xx of a server is the client’s to see, and takes no server out', async (t) => {
  const origin = await httpOrigin(t, (_, outgoing) => {
    outgoing.statusCode = 503;
    outgoing.end('mine');
  });
  const proxy = await startEmbedded(
    t,
    web({ routes: [{ to: 'app' }] }, { clusters: { app: { endpoints: [origin.address] } } }),
  );
  for (let n = 0; n < 5; n += 1) {
    const answer = await request(proxy.port());
    t.is(answer.status, 503);
    t.is(answer.text, 'mine');
  }
  t.is(origin.requests, 5);
  t.is((await proxy.cluster('app')).endpoints[0]?.state, 'available');
});

test('a request reaches an endpoint behind a Unix socket', async (t) => {
  const { temporaryFolder } = await import('../support/files.js');
  const path = `${temporaryFolder(t)}/app.sock`;
  const origin = await httpOrigin(t, (_, outgoing) => outgoing.end('over unix'));
  origin.server.close();
  const unix = origin.server.listen(path);
  await until('it listens', () => unix.listening && unix.address() === path);
  const proxy = await startSidecar(t, web({ routes: [{ to: `unix:${path}` }] }));
  t.is((await request(proxy.port())).text, 'over unix');
});
