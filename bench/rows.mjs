// What is measured, against whom, and how good must it be?
//
// A row has participants (a peer with a listener of some shape) and one or more lines in the table. A line compares
// the `subject` with the `baseline` in the same round as a ratio; without a baseline the figure itself counts.

import {
  idle,
  latency,
  memory,
  perBodyGigabyte,
  perHandshake,
  perRequest,
  perStreamGigabyte,
  systemCalls,
} from './lib/measure.mjs';
import { meshRows } from './mesh-rows.mjs';
import { ROUTES } from './peers/mesh.mjs';

/** Each named peer with a listener of this shape. */
const all = (shape, ...peers) => peers.map((peer) => ({ id: peer, peer, shape }));

const proxies = ['haproxy', 'nginx', 'http-proxy', 'sidecar', 'embedded'];
const native = ['haproxy', 'nginx', 'sidecar'];
const keepAlive = ['h1', '--connections', '50'];
const streams = ['--connections', '10', '--streams', '10'];
const versus = { figure: 'cost', subject: 'sidecar', baseline: 'haproxy' };

const routed = (title, id, shape, target) => ({
  id,
  participants: [
    { id: 'one-route', peer: 'sidecar', shape: 'h1' },
    { id: 'many-routes', peer: 'sidecar', shape },
  ],
  measure: perRequest([...keepAlive, ...target, '--variants', String(ROUTES)]),
  unit: 'us',
  lines: [{ title, figure: 'cost', subject: 'many-routes', baseline: 'one-route', required: 1.1, goal: 1.0 }],
});

const h1 = (id, title, path) => ({
  id,
  participants: all('h1', ...proxies),
  measure: perRequest([...keepAlive, '--path', path]),
  unit: 'us',
  lines: [{ title, ...versus, required: 0.95, goal: 0.88 }],
});

export const rows = [
  h1('h1-100', 'HTTP/1 keep-alive, 100 B, 50 connections', '/b/100'),
  h1('h1-10k', 'HTTP/1 keep-alive, 10 KiB, 50 connections', '/b/10240'),
  {
    id: 'tls',
    participants: all('tls', 'haproxy', 'nginx', 'http-proxy', 'sidecar'),
    measure: perRequest([...keepAlive, '--tls']),
    unit: 'us',
    lines: [
      { title: 'TLS 1.3, HTTP/1 keep-alive, 100 B, 50 connections', ...versus, required: 0.95, goal: 0.85 },
    ],
  },
  {
    id: 'h2-h1',
    participants: all('h2-h1', ...native),
    measure: perRequest(['h2', ...streams]),
    unit: 'us',
    lines: [
      { title: 'HTTP/2 to HTTP/1, 100 B, 10 connections x 10 streams', ...versus, required: 1.15, goal: 0.9 },
    ],
  },
  {
    id: 'h2-h2',
    participants: all('h2-h2', 'haproxy', 'sidecar'),
    measure: perRequest(['h2', ...streams]),
    unit: 'us',
    lines: [
      { title: 'HTTP/2 to HTTP/2, 100 B, 10 connections x 10 streams', ...versus, required: 0.95, goal: 0.8 },
    ],
  },
  {
    id: 'grpc',
    participants: all('h2-h2', ...native),
    measure: perRequest(['grpc', ...streams]),
    unit: 'us',
    lines: [
      { title: 'gRPC unary, 100 B, 10 connections x 10 streams', ...versus, required: 0.95, goal: 0.8 },
    ],
  },
  {
    id: 'handshake',
    participants: all('tls', 'haproxy', 'nginx', 'http-proxy', 'sidecar'),
    measure: perHandshake(['h1', '--connections', '20', '--tls', '--fresh']),
    unit: 'us',
    lines: [
      { title: 'new connection, full TLS 1.3 handshake, one request', ...versus, required: 0.55, goal: 0.42 },
    ],
  },
  {
    id: 'tcp',
    participants: [
      ...all('tcp', ...native),
      { id: 'haproxy-splice', peer: 'haproxy', shape: 'tcp-splice', name: 'HAProxy, option splice-auto' },
    ],
    measure: perStreamGigabyte(4),
    unit: 's/GB',
    lines: [
      { title: 'TCP bulk, half up and half down, 4 connections', ...versus, required: 0.6, goal: 0.35 },
    ],
  },
  {
    id: 'body-1m',
    participants: all('h1', 'haproxy', 'nginx', 'http-proxy', 'sidecar'),
    measure: perBodyGigabyte(['h1', '--connections', '10', '--path', '/b/1048576']),
    unit: 's/GB',
    lines: [{ title: 'HTTP/1 bodies of 1 MiB, 10 connections', ...versus, required: 0.8, goal: 0.5 }],
  },
  routed('10,000 routes by prefix', 'routes-prefix', 'routes-prefix', ['--path', '/p{n}/b/100']),
  routed('10,000 routes by host', 'routes-host', 'routes-host', ['--host', 'h{n}.bench.test']),
  {
    id: 'embedded',
    participants: all('h1', 'sidecar', 'embedded'),
    measure: perRequest(keepAlive),
    unit: 'us',
    lines: [
      {
        title: 'embedded in Node, HTTP/1 keep-alive, 100 B',
        figure: 'cost',
        subject: 'embedded',
        baseline: 'sidecar',
        required: 1.1,
        goal: 1.0,
      },
    ],
  },
  {
    id: 'rss',
    participants: all('h1', ...native),
    measure: memory,
    unit: 'MB',
    once: true,
    lines: [
      { title: 'RSS at rest', figure: 'rest', subject: 'sidecar', required: 7, goal: 4 },
      {
        title: 'RSS after 100,000 requests, 50 connections',
        figure: 'after',
        subject: 'sidecar',
        required: 10,
        goal: 6,
      },
    ],
  },
  {
    id: 'idle',
    participants: all('h1', ...native),
    measure: idle,
    unit: 'B',
    once: true,
    lines: [
      {
        title: 'idle keep-alive connection, user memory',
        figure: 'user',
        subject: 'sidecar',
        required: 1500,
        goal: 500,
      },
    ],
  },
  {
    id: 'syscalls',
    participants: all('h1', ...native),
    measure: systemCalls,
    unit: 'calls',
    programs: ['strace'],
    lines: [
      {
        title: 'system calls a request, HTTP/1, 50 busy connections',
        figure: 'calls',
        subject: 'sidecar',
        required: 4.1,
        goal: 4,
      },
    ],
  },
  {
    id: 'latency',
    participants: [{ id: 'direct', name: 'no proxy', shape: 'h1' }, ...all('h1', ...native)],
    measure: latency(1000),
    // A neighbour on the machine takes some of the turns, and their median knows nothing of it.
    turns: 10,
    unit: 'us',
    subtract: 'direct',
    lines: ['p50', 'p99'].map((figure) => ({
      title: `added latency at 1,000 requests/s, ${figure}`,
      figure,
      subject: 'sidecar',
      baseline: 'haproxy',
      required: 1.1,
      goal: 1.0,
    })),
  },
  ...meshRows,
];
