// Does a sidecar that goes let each kind of work end, ask each kind of client to leave, and count what it had to cut?

import test from 'ava';
import type { ServerResponse } from 'node:http';
import { CODE, TYPE, code, opening, request as ask2 } from '../../src/attack/frames.js';
import { arrives, framesOf } from '../attacks/arrives.js';
import { linesOf } from '../support/access-log.js';
import { Authority } from '../support/certificates.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin, proxyStatus, request } from '../support/http.js';
import { type RawResponse, connect, tcpServer } from '../support/tcp.js';
import { until } from '../support/wait.js';
import { startWithAdmin } from './support.js';

const GET = 'GET / HTTP/1.1\r\nHost: a.test\r\n\r\n';

/** A server whose responses wait until the test ends them. */
async function holding(t: Parameters<typeof httpOrigin>[0]) {
  const held: ServerResponse[] = [];
  const origin = await httpOrigin(t, (_, response) => held.push(response));
  return { held, address: origin.address };
}

/** Waits until nobody listens at a port any more. */
const refuses = (t: Parameters<typeof connect>[0], port: number): Promise<boolean> =>
  until('nobody is let in', () =>
    connect(t, port).then(
      ({ socket }) => {
        socket.destroy();
        return false;
      },
      (error: NodeJS.ErrnoException) => error.code === 'ECONNREFUSED',
    ),
  );

test('lame duck: clients are asked to leave with each answer; then nobody is let in', async (t) => {
  const { held, address } = await holding(t);
  const { sidecar, admin } = await startWithAdmin(
    t,
    {
      listeners: [
        {
          name: 'web',
          address: '127.0.0.1:0',
          routes: [{ match: { path: '/held' }, to: address }, { respond: { status: 200, body: 'ok' } }],
        },
      ],
    },
    // Enough for all that is done meanwhile, on a machine that does something else for a while.
    { lameDuck: '8s' },
  );
  const port = sidecar.port('web');
  const kept = await connect(t, port);
  await kept.send(GET);
  t.is((await kept.response()).headers.get('connection'), undefined);
  const late = request(port, { path: '/held' });
  const two = await connect(t, port);
  await two.send(opening(), ask2(1));
  await arrives('an answer', two, ({ type }) => type === TYPE.data);
  await until('a request is under way', () => held.length === 1);

  const exit = sidecar.drain();
  await until('it drains', async () => (await admin.get('/ready')).status === 503);
  const leaves = async (peer: typeof kept): Promise<void> => {
    await peer.send(GET);
    const answer: RawResponse = await peer.response();
    t.is(answer.status, 200);
    t.is(answer.headers.get('connection'), 'close');
    t.is(await peer.readToEnd(), '');
  };
  await leaves(kept);
  await leaves(await connect(t, port));
  // Twice: what the client sends until it has heard is still taken.
  await until('two GOAWAY', () => framesOf(two).filter(({ type }) => type === TYPE.goaway).length === 2);
  const [first, second] = framesOf(two).filter(({ type }) => type === TYPE.goaway);
  t.deepEqual([first?.payload.readUInt32BE(0), second?.payload.readUInt32BE(0)], [2 ** 31 - 1, 1]);
  t.deepEqual([first && code(first), second && code(second)], [CODE.none, CODE.none]);

  await refuses(t, port);
  held[0]?.end('late');
  t.is((await late).text, 'late');
  t.deepEqual(await exit, { code: 0, signal: null });
});

test('who was in the queue when the drain began is served', async (t) => {
  const unix = `${temporaryFolder(t)}/web.sock`;
  const answer = { respond: { status: 200, body: 'ok' } };
  const { sidecar } = await startWithAdmin(t, {
    listeners: [
      { name: 'web', address: '127.0.0.1:0', routes: [answer] },
      { name: 'unix', address: `unix:${unix}`, routes: [answer] },
    ],
  });
  const port = sidecar.port('web');
  sidecar.process.signal('SIGSTOP');
  const answers = [request(port), request(0, { socketPath: unix })];
  const peer = await connect(t, port);
  await peer.send(GET);
  const exit = sidecar.drain();
  sidecar.process.signal('SIGCONT');
  t.is((await peer.response()).body, 'ok');
  for (const { text } of await Promise.all(answers)) t.is(text, 'ok');
  t.deepEqual(await exit, { code: 0, signal: null });
});

test('what a listener has under way that an update took out is waited for', async (t) => {
  const { held, address } = await holding(t);
  const keeper = { name: 'keeper', address: '127.0.0.1:0', routes: [{ to: address }] };
  const { sidecar, admin } = await startWithAdmin(t, {
    listeners: [keeper, { name: 'web', address: '127.0.0.1:0', routes: [{ to: address }] }],
  });
  const late = request(sidecar.port('web'));
  await until('it is under way', () => held.length === 1);
  await sidecar.reload({ listeners: [keeper] });
  const exit = sidecar.drain();
  await until('it drains', async () => (await admin.get('/ready')).status === 503);
  // Nothing else is to be waited for: it would have ended by now.
  await refuses(t, sidecar.port('keeper'));
  held[0]?.end('late');
  t.is((await late).text, 'late');
  t.deepEqual(await exit, { code: 0, signal: null });
});

test('a stream of bytes goes on both ways until it ends by itself', async (t) => {
  const server = await tcpServer(t);
  const { sidecar, admin } = await startWithAdmin(t, {
    listeners: [{ name: 'tcp', address: '127.0.0.1:0', protocol: 'tcp', to: server.address }],
  });
  const client = await connect(t, sidecar.port('tcp'));
  await client.send('before');
  const behind = await server.accepted();
  await behind.read(6);
  const exit = sidecar.drain();
  await until('it drains', async () => (await admin.get('/ready')).status === 503);
  await client.send('after');
  t.is((await behind.read(5)).toString(), 'after');
  behind.end('bye');
  t.is(await client.readToEnd(), 'bye');
  client.end();
  t.is(await behind.readToEnd(), '');
  t.deepEqual(await exit, { code: 0, signal: null });
});

test('at the deadline what is left is answered, reset or cut, counted and written down', async (t) => {
  const { held, address } = await holding(t);
  const server = await tcpServer(t);
  const path = `${temporaryFolder(t)}/access.log`;
  const hasty = { address: '127.0.0.1:0', timeouts: { drain: '500ms' }, accessLog: { path } };
  const { sidecar, admin } = await startWithAdmin(t, {
    listeners: [
      { ...hasty, name: 'one', routes: [{ to: address }] },
      { ...hasty, name: 'two', routes: [{ to: address }] },
      { ...hasty, name: 'tcp', protocol: 'tcp', to: server.address },
      // It keeps the process, so that there is somebody to ask.
      { name: 'keeper', address: '127.0.0.1:0', routes: [{ to: address }] },
    ],
  });
  const keeper = request(sidecar.port('keeper'));
  await until('the keeper is under way', () => held.length === 1);
  const one = await connect(t, sidecar.port('one'));
  await one.send(GET);
  const two = await connect(t, sidecar.port('two'));
  await two.send(opening(), ask2(1));
  await until('all are under way', () => held.length === 3);
  const stream = await connect(t, sidecar.port('tcp'));
  await stream.send('hello');
  const behind = await server.accepted();
  await behind.read(5);

  const exit = sidecar.drain();
  const answer = await one.response();
  t.is(answer.status, 503);
  t.deepEqual(proxyStatus(answer.headers), { error: 'destination_unavailable', details: 'draining' });
  t.is(answer.headers.get('connection'), 'close');
  t.is(await one.readToEnd(), '');
  one.end();
  await arrives('an answer', two, ({ type, stream: number }) => type === TYPE.headers && number === 1);
  await two.gone();
  two.end();
  await until('the stream is cut', () => stream.closed && behind.closed);
  t.is(stream.error?.code, 'ECONNRESET');
  t.is(behind.error?.code, 'ECONNRESET');

  const reason = 'draining';
  const metrics = await admin.metricsOnce(
    'all are counted',
    (seen) => seen.sum('mesh_connections_closed_total', { reason }) === 3,
  );
  for (const listener of ['one', 'two', 'tcp']) {
    t.is(metrics.sum('mesh_connections_closed_total', { listener, reason }), 1, listener);
    t.is(metrics.sum('mesh_responses_total', { listener, reason }), 1, listener);
  }
  const lines = await until('all are written down', () => {
    const found = linesOf(path);
    return found.length >= 3 && found;
  });
  t.deepEqual(lines.map((line) => [line['listener'], line['reason']]).toSorted(), [
    ['one', reason],
    ['tcp', reason],
    ['two', reason],
  ]);
  held[0]?.end('kept');
  t.is((await keeper).text, 'kept');
  t.deepEqual(await exit, { code: 0, signal: null });
});

test('who waits for a handshake or for room at the deadline is cut by the drain, and not by another limit', async (t) => {
  const { held, address } = await holding(t);
  const authority = await Authority.create(t, 'servers');
  const tls = await authority.sign({ names: ['a.test'] });
  const hasty = { address: '127.0.0.1:0', timeouts: { drain: '500ms', request: '0s' } } as const;
  const { sidecar, admin } = await startWithAdmin(t, {
    listeners: [
      { ...hasty, name: 'tls', tls, routes: [{ to: address }] },
      { ...hasty, name: 'http2', routes: [{ to: 'narrow' }] },
      // It keeps the process, so that there is somebody to ask.
      { name: 'keeper', address: '127.0.0.1:0', routes: [{ to: address }] },
    ],
    clusters: {
      narrow: {
        endpoints: [address],
        protocol: 'http1',
        timeouts: { connect: '1h' },
        limits: { connections: 1 },
      },
    },
  });
  const keeper = request(sidecar.port('keeper'));
  await until('the keeper is under way', () => held.length === 1);
  const silent = await connect(t, sidecar.port('tls'));
  const queued = await connect(t, sidecar.port('http2'));
  await queued.send(opening(), ask2(1), ask2(3));
  await admin.metricsOnce(
    'all wait',
    (seen) =>
      seen.sum('mesh_upstream_requests_pending', { cluster: 'narrow' }) === 1 &&
      seen.sum('mesh_connections_active', { listener: 'tls' }) === 1,
  );

  const exit = sidecar.drain();
  await silent.gone();
  await queued.gone();
  silent.end();
  queued.end();
  const reason = 'draining';
  await admin.metricsOnce(
    'all are counted',
    (seen) =>
      seen.sum('mesh_connections_closed_total', { reason }) === 2 &&
      seen.sum('mesh_responses_total', { listener: 'http2', reason }) === 2,
  );
  held[0]?.end('kept');
  t.is((await keeper).text, 'kept');
  t.deepEqual(await exit, { code: 0, signal: null });
});
