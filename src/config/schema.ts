/**
 * What may people write?
 *
 * One schema of the configuration: `Config` and its parts (`types.ts`), the JSON Schema for editors and the tables
 * in `docs/configuration.md` are all made from it (`generate.ts`). It knows shape only: which keys, which kinds of
 * values. What a configuration means (names that exist, certificates with keys, ports that clash) is checked once,
 * by the core, on the resources that `compile.ts` makes of it.
 *
 * Nothing here transforms a value: what is checked is what was written. Defaults are documentation; they are the
 * core's to apply.
 */

import { z } from 'zod';
import * as formats from './formats.js';
import {
  together,
  atMostOne,
  exactlyOne,
  bytes,
  duration,
  flag,
  hosts,
  list,
  map,
  may,
  must,
  oneOf,
  part,
  text,
  whole,
} from './schema-kit.js';
import { route, targets } from './schema-route.js';

// Listeners -------------------------------------------------------------------------------------------------------

const certificate = part(
  'Certificate',
  'A certificate chain and its key. Files are read again when they change.',
  {
    certificate: must(text(formats.pem), 'The chain, leaf first: a PEM file or PEM text.'),
    key: must(text(formats.pem), 'Its private key: PKCS#8, SEC1 or PKCS#1.'),
  },
);

const serverTls = part(
  'ServerTls',
  'TLS terminated by a listener.',
  {
    certificate: may(text(formats.pem), 'The chain, leaf first: a PEM file or PEM text.'),
    key: may(text(formats.pem), 'The key of `certificate`.'),
    certificates: may(
      list(certificate, '{ certificate, key }'),
      'Or several, chosen by the names in them; the first serves clients that name none of them.',
    ),
    clientCertificates: may(
      part('ClientCertificates', 'Client certificates asked for.', {
        roots: must(text(formats.pem), 'The roots that sign the clients.'),
        optional: may(flag(), 'Whether a client without a certificate is let in.', { default: false }),
      }),
      'Client certificates asked for. Absent: none.',
    ),
    minimumVersion: may(oneOf('1.2', '1.3'), 'The oldest version spoken, in quotes.', { default: '1.2' }),
    alpn: may(
      list(text(formats.name), 'protocols'),
      'Protocols offered by ALPN, in order: those that `protocol` speaks. None by default where no requests are read.',
      {
        default: ['h2', 'http/1.1'],
      },
    ),
  },
  exactlyOne('certificate', 'certificates'),
  together('certificate', 'key'),
);

const sniRoute = part('SniRoute', 'Where TLS streams of some server names go, unopened.', {
  hosts: must(
    hosts(),
    'Server names; the most specific wins. `*` takes every name, and clients that send none; what is no name in DNS only where it stands alone.',
  ),
  to: must(targets, 'The clusters or addresses that get the streams.'),
});

const accessLog = part('AccessLog', 'Lines for finished requests and streams, JSON, one a line.', {
  sample: may(
    z
      .number({ error: 'expected a share above 0, at most 1' })
      .gt(0, { error: 'expected a share above 0, at most 1' })
      .max(1, { error: 'expected a share above 0, at most 1' }),
    'The share that is written. Errors that the proxy answers are always written.',
    { default: 1 },
  ),
  path: may(text(formats.name), 'The file to append to.', { default: 'standard output' }),
});

const KIB = 1024;
const MIB = 1024 * KIB;

// The same ranges as the core's, of docs/limits.md; a test holds them equal.
const listenerLimits = part(
  'ListenerLimits',
  'Bounds of a listener. Reaching one is counted and answered, and never grows memory.',
  {
    connections: may(
      whole(1, 10_000_000),
      'Open connections, over all threads. Above it the accept queue waits.',
      {
        default: 65_536,
      },
    ),
    headerBytes: may(
      bytes(KIB, MIB),
      "Bytes of a request head: 431 above; of an HTTP/1 server's response head: 502 above.",
      { default: 65_536 },
    ),
    headerCount: may(whole(8, 4096), 'Header fields of a request: 431 above; of a response: 502 above.', {
      default: 128,
    }),
    streams: may(whole(1, 10_000), 'HTTP/2 streams open at once on a connection.', { default: 100 }),
    requestsPerConnection: may(whole(0), 'Requests on a connection before it is closed; 0: no bound.', {
      default: 0,
    }),
    requestBodyBytes: may(
      bytes(0, Number.MAX_SAFE_INTEGER),
      'Bytes of a request body; 0: no bound, bodies are streamed. 413 above.',
      { default: 0 },
    ),
    http2StreamWindowBytes: may(
      bytes(16 * KIB, MIB),
      'Bytes of a request that an HTTP/2 client may send ahead of the server behind, on each stream.',
      { default: 262_144 },
    ),
    proxyHeaderBytes: may(
      bytes(0),
      'Bytes of a header of the PROXY protocol (see `proxyProtocol`). The connection closes above.',
      { default: 4096 },
    ),
  },
);

const listenerTimeouts = part(
  'ListenerTimeouts',
  "Deadlines towards a listener's clients. `0s` switches one off.",
  {
    header: may(
      duration(),
      'To the end of the request head, from its first byte; also the wait for a first byte, and for a PROXY header. 408 after.',
      { default: '10s' },
    ),
    handshake: may(duration(), 'For a TLS handshake.', { default: '10s' }),
    request: may(
      duration(),
      "From the request's head to the response's end; a route's `timeout` says otherwise.",
      { default: '0s' },
    ),
    idle: may(duration(), 'A kept-alive connection without a request.', { default: '1m' }),
    streamIdle: may(duration(), 'A body or an HTTP/2 stream on which nothing moves.', { default: '1m' }),
    tcpIdle: may(duration(), 'A TCP stream or upgraded connection on which nothing moves.', {
      default: '1h',
    }),
    maxConnectionAge: may(
      duration(),
      'An HTTP connection takes no new request after this age; what goes on after `drain` more is cut, WebSockets and CONNECT too. TCP and passthrough stay.',
      { default: '0s' },
    ),
    drain: may(
      duration(),
      'How long streams may go on when a listener or the proxy is drained, or their connection is too old.',
      { default: '30s' },
    ),
  },
);

const routes = list(route, 'routes');

const listener = part(
  'Listener',
  'One socket that accepts connections. It needs `to`, or any of `routes`, `tcp` and `sni`.',
  {
    name: may(text(formats.name), 'Unique name, a metric label.', { default: 'the address' }),
    address: must(
      text(formats.address),
      'Where to listen: `IP:PORT`, `:PORT` (all addresses), `unix:PATH`. Port 0 takes a free one.',
    ),
    direction: may(oneOf('inbound', 'outbound', 'gateway'), 'Which way traffic flows through it.', {
      default: 'gateway',
    }),
    protocol: may(
      oneOf('auto', 'http1', 'http2', 'tcp', 'tlsPassthrough'),
      'What may be spoken, after TLS where it is terminated; `auto` detects it from the first bytes.',
      { default: 'auto' },
    ),
    tls: may(serverTls, 'TLS to terminate.'),
    to: may(targets, 'Everything goes there: HTTP, other streams, and TLS unopened unless `tls` is given.'),
    routes: may(
      z.union([text(formats.name), routes], {
        error: 'expected a list of routes, or the name of a route table',
      }),
      'Routes for HTTP requests, or the name of one of `routeTables`.',
    ),
    tcp: may(targets, 'Where streams go that are not HTTP. Absent: they are refused.'),
    sni: may(list(sniRoute, '{ hosts, to }'), 'TLS streams passed through unopened, chosen by server name.'),
    limits: may(listenerLimits, 'Bounds of what it may hold.'),
    timeouts: may(listenerTimeouts, 'Deadlines towards its clients.'),
    trustedNetworks: may(
      list(text(formats.trustedNetwork), 'networks such as 10.0.0.0/8'),
      'Networks whose `forwarded`, `x-forwarded-*` and `x-request-id` headers are believed; `unix`: those of whoever comes by a Unix socket.',
      { default: [] },
    ),
    proxyProtocol: may(
      flag(),
      'Whether connections from `trustedNetworks` begin with a header of the PROXY protocol (version 1 or 2), and are those of the client that it names. Others are taken as they are.',
      { default: false },
    ),
    via: may(text(formats.name), 'The pseudonym sent in `via`. Absent: no `via` is added.'),
    forwardProxy: may(
      flag(),
      'Whether absolute-form requests and CONNECT are served, for hosts the routes know. Absolute-form requests for `https` are passed on to clusters with `tls` alone.',
      { default: false },
    ),
    escapedSlashes: may(
      oneOf('reject', 'keep'),
      'What to do with `%2f` and `%5c` in a path: answer 400, or forward them as they are.',
      { default: 'reject' },
    ),
    accessLog: may(
      z.union([flag(), accessLog], { error: 'expected true, false or { sample, path }' }),
      'Whether finished requests are written down: `true`, or `{ sample: 0.1 }`.',
      { default: false },
    ),
  },
  atMostOne('to', 'routes'),
  atMostOne('to', 'tcp'),
  atMostOne('to', 'sni'),
);

// Clusters --------------------------------------------------------------------------------------------------------

const endpointShape = {
  address: must(text(formats.server), 'Where it answers: `IP:PORT` or `unix:PATH`.'),
  weight: may(
    whole(1, 1000, 'health: draining takes it out'),
    'Share of traffic relative to its neighbours.',
    { default: 1 },
  ),
  health: may(
    oneOf('healthy', 'draining', 'unhealthy'),
    '`draining` finishes what it has, `unhealthy` takes nothing.',
    { default: 'healthy' },
  ),
  metadata: may(map(text(formats.text), 'names with texts'), 'Free labels, shown by tools.'),
};
const zone = may(text(formats.text), 'Where it stands, e.g. `eu-1/a`. Shown, not interpreted.');
const priority = may(whole(0), 'Lower is preferred; higher ones get what lower ones cannot carry.', {
  default: 0,
});

const endpoint = part('Endpoint', 'One server.', { ...endpointShape, zone, priority });
const localEndpoint = part('LocalEndpoint', 'One server of a locality.', endpointShape);
const endpointExpected = 'an address such as 127.0.0.1:3000, or { address, weight }';

const locality = part('Locality', 'Servers in one place, preferred or spared together.', {
  zone,
  priority,
  weight: may(whole(0), 'Share among localities of the same priority.', { default: 1 }),
  endpoints: must(
    list(
      z.union([text(formats.server), localEndpoint], { error: `expected ${endpointExpected}` }),
      'addresses',
    ),
    'The servers.',
  ),
});

export const clientTls = part('ClientTls', "TLS towards a cluster's servers.", {
  serverName: may(text(formats.name), 'The name sent as SNI and verified in the certificate.', {
    default: "the cluster's DNS name",
  }),
  roots: may(text(formats.pem), 'Roots to trust: a PEM file or PEM text.', { default: "the system's" }),
  certificate: may(text(formats.pem), 'The certificate chain to show when the server asks.'),
  key: may(text(formats.pem), 'The key of `certificate`.'),
});

const balancerKinds = ['ewma', 'leastRequest', 'roundRobin', 'random', 'ringHash', 'maglev'] as const;
const balancerError = `expected ${new Intl.ListFormat('en', { type: 'disjunction' }).format(balancerKinds)}`;
const balancer = z.discriminatedUnion(
  'kind',
  [
    part('PlainBalancer', 'A balancer without settings.', {
      kind: must(oneOf('ewma', 'leastRequest', 'roundRobin', 'random'), 'The balancer.'),
    }),
    part(
      'RingHash',
      'Consistent hashing on a ring; needs a `hashKey` in the route, and draws at random without one.',
      {
        kind: must(z.literal('ringHash'), 'The balancer.'),
        ringSize: may(whole(1024, 8_388_608), 'Points on the ring.', {
          default: '1,024 times the endpoints',
        }),
      },
    ),
    part(
      'Maglev',
      "Consistent hashing by Maglev's table; needs a `hashKey` in the route, and draws at random without one.",
      {
        kind: must(z.literal('maglev'), 'The balancer.'),
        tableSize: may(whole(2, 1_310_719), 'Slots of the table, a prime.', { default: 65_537 }),
      },
    ),
  ],
  { error: balancerError },
);

const clusterLimits = part('ClusterLimits', 'Bounds of a cluster, over all threads.', {
  connections: may(whole(1, 1_000_000), 'Open connections.', { default: 1024 }),
  pendingRequests: may(whole(1, 1_000_000), 'Requests waiting for a connection. More get 503.', {
    default: 1024,
  }),
  requests: may(whole(1, 10_000_000), 'Requests in flight.', { default: 16_384 }),
  idleConnections: may(whole(0, 100_000), 'Idle connections kept for each endpoint and thread.', {
    default: 100,
  }),
  streamsPerConnection: may(whole(1, 10_000), 'HTTP/2 streams on one connection before another is opened.', {
    default: 100,
  }),
});

const clusterTimeouts = part(
  'ClusterTimeouts',
  "Deadlines towards a cluster's servers. `0s` switches one off.",
  {
    connect: may(duration(), 'To connect, TLS included, for one try.', { default: '2s' }),
    idle: may(duration(), 'An unused pooled connection is closed after this.', { default: '30s' }),
    maxConnectionAge: may(duration(), 'A pooled connection takes no new request after this age.', {
      default: '0s',
    }),
  },
);

const cluster = part(
  'Cluster',
  'A group of servers that answer alike: a list, or a name to look up.',
  {
    endpoints: may(
      list(z.union([text(formats.server), endpoint], { error: `expected ${endpointExpected}` }), 'addresses'),
      'The servers: addresses, or `{ address, weight, zone, priority }`.',
      { examples: [['127.0.0.1:3001', '127.0.0.1:3002']] },
    ),
    localities: may(
      list(locality, '{ zone, endpoints }'),
      'Or: the servers grouped by place, with a share for each place.',
    ),
    dns: may(text(formats.dnsName), 'Or: A and AAAA records, looked up again when their TTL ends.'),
    srv: may(text(formats.srvName), 'Or: SRV records, with their targets, ports, priorities and weights.'),
    protocol: may(
      oneOf('auto', 'http1', 'http2'),
      'What is spoken to them. `auto`: over TLS what the server chooses by ALPN, else HTTP/1.1, and HTTP/2 for gRPC. A server of HTTP/2 alone without TLS needs `http2`.',
      { default: 'auto' },
    ),
    tls: may(
      z.union([flag(), clientTls], {
        error: 'expected true, false or { serverName, roots, certificate, key }',
      }),
      'TLS to originate: `true`, or `{ serverName, roots }`.',
      { default: false },
    ),
    balance: may(
      z.union([oneOf(...balancerKinds), balancer], { error: balancerError }),
      'How one is chosen; `ringHash` and `maglev` need a `hashKey` in each route that leads here, and draw at random for one without.',
      { default: 'ewma' },
    ),
    slowStart: may(duration(), "Over how long a new endpoint's share grows to full.", { default: '0s' }),
    limits: may(clusterLimits, 'Bounds of what it may hold.'),
    timeouts: may(clusterTimeouts, 'Deadlines towards its servers.'),
  },
  atMostOne('endpoints', 'localities', 'dns', 'srv'),
);

// The whole -------------------------------------------------------------------------------------------------------

/** The configuration that people write, as YAML, JSON or a TypeScript object. */
export const schema = part('Config', 'A configuration of the proxy.', {
  $schema: may(text(formats.text), 'The JSON Schema, for editors.'),
  listeners: may(list(listener, 'listeners'), 'Where connections are accepted.', { default: [] }),
  routeTables: may(
    map(routes, 'names with lists of routes'),
    'Routes that several listeners share, by name.',
    { default: {} },
  ),
  clusters: may(map(cluster, 'names with clusters'), 'Where requests may go, by name.', { default: {} }),
  admin: may(
    z.union([z.literal(false), text(formats.admin)], { error: `expected ${formats.admin.expected}` }),
    'Where health, metrics and statistics are served, or `off`; fixed at start.',
    { default: '127.0.0.1:4191; off when embedded' },
  ),
  threads: may(whole(1, 256), 'Data threads; fixed at start.', { default: 'CPU quota, at most 4' }),
  lameDuck: may(duration(), 'How long new connections are still served once a drain begins.', {
    default: '3s; 0s when embedded',
  }),
});

/** The inferred shape; the documented one is `Config` in `types.ts`, and a test holds them equal. */
export type ConfigShape = z.input<typeof schema>;
