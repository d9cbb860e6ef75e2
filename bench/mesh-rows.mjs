// What does a mesh cost? The rows that have a control plane beside them.

import { perHandshake, perRequest } from './lib/measure.mjs';
import { pairMemory, propagation, readiness, restMemory } from './lib/measure-mesh.mjs';

const two = { haproxy: 'two HAProxies', sidecar: 'two sidecars' };
const pairs = (shape) =>
  ['haproxy', 'sidecar'].map((name) => ({ id: name, peer: `${name}-pair`, shape, name: two[name] }));

const hop = (id, title, shape, load) => ({
  id,
  mesh: true,
  participants: pairs(shape),
  measure: perRequest(load),
  unit: 'us',
  lines: [{ title, figure: 'cost', subject: 'sidecar', baseline: 'haproxy', required: 1.1, goal: 0.9 }],
});

const only = (id, peer, shape, name) => ({ id, peer, shape, name });

export const meshRows = [
  hop('hop-h1', 'two proxies with mutual TLS between, HTTP/1 keep-alive, 100 B, 50 connections', 'h1', [
    'h1',
    '--connections',
    '50',
    '--path',
    '/b/100',
  ]),
  hop(
    'hop-grpc',
    'two proxies with mutual TLS between, gRPC unary, 100 B, 10 connections x 10 streams',
    'h2',
    ['grpc', '--connections', '10', '--streams', '10'],
  ),
  {
    id: 'mesh-handshake',
    mesh: true,
    participants: [
      only('haproxy', 'haproxy-inbound', 'h1', 'HAProxy'),
      only('sidecar', 'sidecar-inbound', 'h1', 'mesh-sidecar'),
    ],
    measure: perHandshake(['h1', '--connections', '20', '--tls', '--fresh']),
    unit: 'us',
    lines: [
      {
        // 1.3 times as many for each second of CPU are 1 / 1.3 of the time for each.
        title: 'new connection, full mutual TLS 1.3 handshake, one request',
        figure: 'cost',
        subject: 'sidecar',
        baseline: 'haproxy',
        required: 0.77,
        goal: 0.6,
      },
    ],
  },
  {
    id: 'mesh-rss',
    mesh: true,
    participants: [only('sidecar', 'sidecar-pair', 'h2', 'the larger of two sidecars')],
    measure: pairMemory,
    unit: 'MB',
    once: true,
    lines: [
      {
        title: 'RSS of a sidecar in a mesh, at rest',
        figure: 'rest',
        subject: 'sidecar',
        required: 10,
        goal: 7,
      },
      {
        title: 'RSS of a sidecar in a mesh, 1,000 requests/s by mutual TLS and HTTP/2',
        figure: 'loaded',
        subject: 'sidecar',
        required: 15,
        goal: 10,
      },
    ],
  },
  {
    id: 'mesh-services',
    mesh: true,
    participants: [
      only('few', 'workload', '10', '10 services'),
      only('many', 'workload', '5000', '5,000 services'),
      only('plain', 'workload', '400+400', '400 services, a plain listener for each'),
    ],
    measure: restMemory,
    unit: 'MB',
    once: true,
    subtract: 'few',
    lines: [
      {
        title: 'RSS of a sidecar with 5,000 services in the control plane, less that with 10',
        figure: 'rest',
        subject: 'many',
        required: 2,
        goal: 0.5,
      },
      {
        title: 'RSS of a sidecar with a plain listener for each of 400 services, less that with none',
        figure: 'rest',
        subject: 'plain',
        required: 4,
        goal: 2,
      },
    ],
  },
  {
    id: 'control-rss',
    mesh: true,
    participants: [only('control', 'control-plane', 'idle', 'control plane')],
    measure: restMemory,
    unit: 'MB',
    once: true,
    lines: [
      {
        title: 'RSS of a control plane at rest',
        figure: 'rest',
        subject: 'control',
        required: 120,
        goal: 80,
      },
    ],
  },
  {
    id: 'mesh-start',
    mesh: true,
    participants: [only('sidecar', 'workload', '0', 'mesh-sidecar')],
    measure: readiness,
    unit: 'ms',
    once: true,
    lines: [
      {
        title: 'a sidecar from its start until it is ready, beside a running control plane',
        figure: 'ready',
        subject: 'sidecar',
        required: 100,
        goal: 50,
      },
    ],
  },
  {
    id: 'mesh-restart',
    mesh: true,
    participants: [only('sidecar', 'restarted', '', 'mesh-sidecar')],
    measure: readiness,
    unit: 'ms',
    once: true,
    lines: [
      {
        title: 'a sidecar from its start until it is ready, with what it has kept and no control plane',
        figure: 'ready',
        subject: 'sidecar',
        required: 100,
        goal: 50,
      },
    ],
  },
  {
    id: 'mesh-change',
    mesh: true,
    participants: [only('thousand', 'subscribers', '1000', '1,000 subscribers')],
    measure: propagation,
    unit: 'ms',
    lines: [
      {
        title: 'a changed endpoint among 5,000 services x 10, until 1,000 subscribers have acknowledged it',
        figure: 'last',
        subject: 'thousand',
        required: 1000,
        goal: 300,
      },
    ],
  },
  {
    // A row of its own, since all participants of a row run at a time: it would be one of 1,001.
    id: 'mesh-change-one',
    mesh: true,
    participants: [only('one', 'subscribers', '1', 'one subscriber')],
    measure: propagation,
    unit: 'ms',
    lines: [
      {
        title: 'a changed endpoint among 5,000 services x 10, until one subscriber has acknowledged it',
        figure: 'last',
        subject: 'one',
        required: 50,
        goal: 10,
      },
    ],
  },
];
