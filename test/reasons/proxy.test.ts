// What the proxy decides: is each reason said, counted and written down?

import net from 'node:net';
import type { ExecutionContext } from 'ava';
import { block, CODE, FLAG, TYPE, frame, opening, PREFACE, u32 } from '../../src/attack/frames.js';
import { arrives } from '../attacks/arrives.js';
import { httpOrigin, keepAliveAgent, request } from '../support/http.js';
import { web } from '../support/sidecar.js';
import { connect, tcpServer } from '../support/tcp.js';
import { check } from './support.js';

/** Names that may wait for an answer: `MAX_PENDING` of the core. */
const MAX_PENDING = 256;
const DESCRIPTORS = 60;

/** A listener that asks who each name is, where nobody ever answers. */
const asking = (path: string) => ({
  resources: {
    listeners: [
      {
        name: 'web',
        address: '127.0.0.1:0',
        onDemand: true,
        limits: { streams: MAX_PENDING },
        accessLog: { sample: 1, path },
      },
    ],
    routeTables: [],
    clusters: [],
    endpoints: [],
  },
});

/** A server that says of its HTTP/2 that no stream may be open, once it is asked something. */
const fullServer = (t: ExecutionContext) =>
  tcpServer(t, async (peer) => {
    await peer.read(PREFACE.length);
    const { stream } = await arrives('a request', peer, ({ type }) => type === TYPE.headers);
    const none = frame(TYPE.settings, 0, 0, Buffer.concat([Buffer.of(0, 3), u32(0)]));
    const heard = frame(TYPE.settings, FLAG.ack, 0);
    await peer.send(Buffer.concat([none, heard, frame(TYPE.reset, 0, stream, u32(CODE.refused))]));
  });

/** A listener that reads requests, and may take bytes elsewhere. */
const bytesTo = (cluster: string | undefined, path: string) =>
  web(
    {
      proxyProtocol: true,
      trustedNetworks: ['127.0.0.1/32'],
      routes: [{ respond: 200 }],
      ...(cluster !== undefined && { tcp: cluster }),
      accessLog: { path },
    },
    { clusters: { [cluster ?? 'stays']: { endpoints: ['127.0.0.1:1'] } } },
  );

check('proxy', [
  {
    reason: 'no_route',
    when: 'an update takes the target of a stream that is about to be routed',
    work: (path) => bytesTo('goes', path),
    cause: async ({ t, sidecar, admin, log }) => {
      const peer = await connect(t, sidecar.port('web'));
      // In one piece: who says nothing at first is taken to a server, and this may still become a request.
      await peer.send('PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nG');
      await admin.metricsOnce(
        'the stream is there',
        (metrics) => metrics.sum('mesh_connections_active', { listener: 'web' }) === 1,
      );
      await sidecar.reload(bytesTo(undefined, log));
      await peer.send('\0');
      await peer.gone();
      return undefined;
    },
    counted: ['connections_closed'],
  },
  {
    reason: 'overloaded',
    when: 'there is no descriptor left for a connection to a server',
    work: async (path, t) => {
      const origin = await httpOrigin(t);
      return web({
        routes: [{ match: { path: '/ready' }, respond: 200 }, { to: origin.address }],
        accessLog: { path },
      });
    },
    options: { descriptors: DESCRIPTORS },
    cause: async ({ t, sidecar, admin }) => {
      const port = sidecar.port('web');
      const agent = keepAliveAgent(t, { maxSockets: 1 });
      t.is((await request(port, { agent, path: '/ready' })).status, 200);
      const clients = Array.from({ length: DESCRIPTORS }, () =>
        net.connect(port, '127.0.0.1').on('error', () => {}),
      );
      t.teardown(() => clients.forEach((client) => client.destroy()));
      await admin.metricsOnce(
        'clients have all descriptors',
        (metrics) => metrics.sum('mesh_limit_hits_total', { limit: 'file_descriptors' }) > 0,
      );
      return request(port, { agent });
    },
    answer: [503, 'connection_limit_reached'],
    counted: ['responses', 'upstream_connect_failures'],
  },
  {
    reason: 'name_limit',
    when: 'more names than may wait for an answer',
    work: asking,
    cause: async ({ t, sidecar }) => {
      const peer = await connect(t, sidecar.port('web'));
      const ask = (host: string, stream: number) =>
        frame(
          TYPE.headers,
          FLAG.endStream | FLAG.endHeaders,
          stream,
          block([
            [':method', 'GET'],
            [':scheme', 'http'],
            [':authority', host],
            [':path', '/'],
          ]),
        );
      const names = Array.from({ length: MAX_PENDING }, (_, n) => ask(`n${n}.test`, 2 * n + 1));
      const ping = frame(TYPE.ping, 0, 0, '12345678');
      await peer.send(opening(), Buffer.concat([...names, ping]));
      // Answered in its turn: all names are asked for by then.
      await arrives('the answer to a PING', peer, ({ type }) => type === TYPE.ping);
      return request(sidecar.port('web'), { headers: { host: 'one-more.test' } });
    },
    answer: [503, 'connection_limit_reached'],
    counted: ['responses'],
  },
  {
    reason: 'name_timeout',
    when: 'nobody says who it is',
    work: asking,
    cause: ({ sidecar }) => request(sidecar.port('web'), { headers: { host: 'nobody.test' } }),
    answer: [503, 'dns_timeout'],
    counted: ['responses'],
  },
  {
    reason: 'upstream_full',
    when: 'the only server lets no stream be open',
    work: async (path, t) => {
      const { address } = await fullServer(t);
      return web(
        { routes: [{ to: 'app' }], accessLog: { path } },
        { clusters: { app: { endpoints: [address], protocol: 'http2', timeouts: { connect: '300ms' } } } },
      );
    },
    cause: ({ sidecar }) => request(sidecar.port('web')),
    answer: [503, 'destination_unavailable'],
    counted: ['responses'],
  },
]);
