// Do the metrics say exactly what happened?

import test, { type ExecutionContext } from 'ava';
import http2 from 'node:http2';
import { once } from 'node:events';
import https from 'node:https';
import { readFileSync } from 'node:fs';
import { Authority } from '../support/certificates.js';
import { httpOrigin, keepAliveAgent, request } from '../support/http.js';
import { closedPort, connect, tcpServer } from '../support/tcp.js';
import type { Exposition } from '../support/prometheus.js';
import { startWithAdmin } from './support.js';

type Is = (name: string, labels: Record<string, string>, value: number) => void;

/** Asserts what the samples of a name add up to. */
function checker(t: ExecutionContext, metrics: Exposition): Is {
  return (name, labels, value) => {
    t.is(metrics.sum(name, labels), value, `${name} ${JSON.stringify(labels)}`);
  };
}

test('a known number of requests of every kind is counted, each once', async (t) => {
  const origin = await httpOrigin(t, (incoming, response) => {
    incoming.resume();
    incoming.on('end', () => {
      response.statusCode = Number(/status=(\d+)/.exec(incoming.url ?? '')?.[1] ?? 200);
      response.end('0123456789');
    });
  });
  const dead = `127.0.0.1:${await closedPort()}`;
  const { sidecar, admin } = await startWithAdmin(
    t,
    {
      listeners: [
        {
          name: 'web',
          address: '127.0.0.1:0',
          routes: [
            { name: 'dead', match: { path: '/dead' }, to: 'dead' },
            { name: 'gone', match: { path: '/gone' }, respond: { status: 410, body: 'gone' } },
            { name: 'app', match: { path: '/app/*' }, to: 'app' },
          ],
        },
      ],
      clusters: { app: { endpoints: [origin.address] }, dead: { endpoints: [dead] } },
    },
    { threads: 2 },
  );
  const port = sidecar.port('web');
  const agent = keepAliveAgent(t, { maxSockets: 1 });
  for (let n = 0; n < 10; n += 1)
    await request(port, { path: '/app/x', method: 'POST', body: 'abcde', agent });
  for (let n = 0; n < 4; n += 1) await request(port, { path: '/app/x?status=503', agent });
  for (let n = 0; n < 3; n += 1) await request(port, { path: '/nothing', agent });
  for (let n = 0; n < 2; n += 1) await request(port, { path: '/gone', agent });
  await request(port, { path: '/dead', agent });
  const bad = await connect(t, port);
  await bad.send('GET / HTTP/1.1\nHost: x\n\n');
  await bad.readToEnd();

  const m = await admin.metricsOnce(
    'everything has ended',
    (seen) => seen.sum('mesh_responses_total') === 21 && seen.sum('mesh_connections_active') === 1,
  );
  const is = checker(t, m);
  const app = { listener: 'web', route: 'app', cluster: 'app', protocol: 'http1' };
  is('mesh_requests_total', app, 14);
  is('mesh_responses_total', { ...app, class: '2xx', reason: 'none' }, 10);
  is('mesh_responses_total', { ...app, class: '5xx', reason: 'none' }, 4);
  is('mesh_request_failures_total', app, 4);
  is('mesh_received_bytes_total', app, 50);
  is('mesh_sent_bytes_total', app, 140);
  is('mesh_request_duration_seconds_count', app, 14);
  is('mesh_responses_total', { class: '4xx', reason: 'no_route' }, 3);
  is('mesh_responses_total', { route: 'gone', class: '4xx', reason: 'none' }, 2);
  is('mesh_responses_total', { route: 'dead', class: '5xx', reason: 'connect_refused' }, 1);
  is('mesh_responses_total', { class: '4xx', reason: 'bad_request' }, 1);
  is('mesh_requests_total', {}, 21);
  is('mesh_requests_active', {}, 0);
  is('mesh_connections_total', { listener: 'web' }, 2);
  is('mesh_connections_idle', { listener: 'web' }, 1);
  is('mesh_upstream_connections_total', { cluster: 'app' }, 1);
  is('mesh_upstream_connections_idle', { cluster: 'app' }, 1);
  is('mesh_upstream_pool_hits_total', { cluster: 'app' }, 13);
  is('mesh_upstream_pool_misses_total', { cluster: 'app' }, 1);
  is('mesh_endpoint_requests_total', { endpoint: origin.address }, 14);
  is('mesh_endpoint_state', { endpoint: origin.address, state: 'available' }, 1);
  // It is out for a second, which may be over by now.
  is('mesh_endpoint_state', { endpoint: dead }, 1);
  is('mesh_endpoint_ejections_total', { endpoint: dead }, 1);
  t.is(m.samples('mesh_thread_cpu_seconds_total').length, 2);
  t.is(m.samples('mesh_thread_imbalance_ratio').length, 1);
  for (const name of ['process_resident_memory_bytes', 'process_open_fds', 'process_start_time_seconds'])
    t.true(m.sum(name) > 0, name);
  t.true(m.families.has('process_cpu_seconds_total'));
  const borders = m
    .samples('mesh_request_duration_seconds_bucket', app)
    .map(({ labels }) => Number(labels['le']))
    .filter(Number.isFinite);
  t.deepEqual(
    borders.filter((border) => border < 0.001),
    [0.00005, 0.0001, 0.00025, 0.0005],
    'below a millisecond, from 50 us up',
  );
});

test('HTTP/2, TLS and streams of bytes are told apart', async (t) => {
  const authority = await Authority.create(t);
  const own = await authority.sign({ names: ['web.test'] });
  const origin = await httpOrigin(t, (_, response) => response.end('ok'));
  const bytes = await tcpServer(t, async (peer) => {
    await peer.readUntil('!');
    await peer.send('answer');
    peer.end();
  });
  const { sidecar, admin } = await startWithAdmin(t, {
    listeners: [
      { name: 'tls', address: '127.0.0.1:0', tls: own, routes: [{ to: 'app' }] },
      { name: 'plain', address: '127.0.0.1:0', routes: [{ to: 'app' }] },
      { name: 'tcp', address: '127.0.0.1:0', protocol: 'tcp', to: bytes.address },
    ],
    clusters: { app: { endpoints: [origin.address] } },
  });
  await new Promise<void>((resolve, reject) => {
    const options = { port: sidecar.port('tls'), servername: 'web.test', agent: false as const };
    https
      .get({ ...options, ca: readFileSync(authority.root) }, (response) => {
        response.resume();
        response.on('end', resolve);
      })
      .on('error', reject);
  });
  const clear = await connect(t, sidecar.port('tls'));
  await clear.send('GET / HTTP/1.1\r\n\r\n');
  await clear.readToEnd();
  const session = http2.connect(sidecar.url('plain'));
  for (let n = 0; n < 3; n += 1) {
    const stream = session.request({ ':path': '/' });
    stream.resume();
    await once(stream, 'end');
  }
  const tunnel = await connect(t, sidecar.port('tcp'));
  await tunnel.send('hello!');
  t.is(await tunnel.readToEnd(), 'answer');
  tunnel.end();
  const m = await admin.metricsOnce(
    'everything has ended',
    (seen) =>
      seen.sum('mesh_requests_total') === 5 &&
      seen.sum('mesh_requests_active') === 0 &&
      seen.sum('mesh_connections_idle', { listener: 'plain' }) === 1 &&
      seen.sum('mesh_tls_handshakes_total') === 2,
  );
  session.close();
  const is = checker(t, m);
  is('mesh_tls_handshakes_total', { listener: 'tls', result: 'success' }, 1);
  is('mesh_tls_handshakes_total', { listener: 'tls', result: 'failure' }, 1);
  is('mesh_tls_handshake_duration_seconds_count', { listener: 'tls' }, 1);
  is('mesh_requests_total', { listener: 'plain', protocol: 'http2' }, 3);
  is('mesh_requests_total', { listener: 'tcp', protocol: 'tcp' }, 1);
  is('mesh_received_bytes_total', { listener: 'tcp' }, 6);
  is('mesh_sent_bytes_total', { listener: 'tcp' }, 6);
  is('mesh_connections_detected_total', { listener: 'plain', protocol: 'http2' }, 1);
});

test('scrapes while traffic flows lose nothing, and no counter goes back', async (t) => {
  const origin = await httpOrigin(t, (_, response) => response.end('x'));
  const { sidecar, admin } = await startWithAdmin(
    t,
    { listeners: [{ name: 'web', address: '127.0.0.1:0', routes: [{ to: origin.address }] }] },
    { threads: 2 },
  );
  const requests = 400;
  const state = { done: false };
  const traffic = Promise.all(
    Array.from({ length: 4 }, async () => {
      const agent = keepAliveAgent(t, { maxSockets: 1 });
      for (let n = 0; n < requests / 4; n += 1) await request(sidecar.port('web'), { agent });
    }),
  ).finally(() => {
    state.done = true;
  });
  let before = 0;
  let scrapes = 0;
  while (!state.done) {
    const m = await admin.metrics();
    const ended = m.sum('mesh_request_duration_seconds_count');
    t.true(ended >= before);
    t.true(m.sum('mesh_requests_total') >= ended);
    before = ended;
    scrapes += 1;
  }
  await traffic;
  t.true(scrapes > 0);
  const m = await admin.metricsOnce(
    'all are counted',
    (seen) => seen.sum('mesh_responses_total') >= requests,
  );
  const is = checker(t, m);
  is('mesh_requests_total', {}, requests);
  is('mesh_responses_total', { class: '2xx' }, requests);
  is('mesh_sent_bytes_total', {}, requests);
});

test('routes that are gone are forgotten after a scrape', async (t) => {
  const routes = (name: string) => ({
    listeners: [
      {
        name: 'web',
        address: '127.0.0.1:0',
        routes: [{ name, match: { path: '/*' }, respond: { status: 200 } }],
      },
    ],
  });
  const { sidecar, admin } = await startWithAdmin(t, routes('old'));
  await request(sidecar.port('web'));
  await sidecar.reload(routes('new'));
  await request(sidecar.port('web'));
  const m = await admin.metricsOnce('the old one is forgotten', (seen) => {
    const both = seen.samples('mesh_requests_total').map(({ labels }) => labels['route']);
    return both.length === 1 && both[0] === 'new';
  });
  checker(t, m)('mesh_requests_total', { route: 'new' }, 1);
});
