// What is told of a mesh, from what sidecars told.

import test from 'ava';
import type { SourceStatus } from '../../src/discovery/types.js';
import type { EdgeStatus, MeshStatus, SidecarStatus } from '../../src/mesh/admin/types.js';
import { check, edgesOf, matches, servicesOf } from '../../src/mesh/admin/views.js';

const idOf = (service: string): string => `spiffe://mesh.test/ns/shop/sa/${service}`;

function edge(more: Partial<EdgeStatus>): EdgeStatus {
  return {
    identity: idOf('web'),
    direction: 'outbound',
    peer: '',
    service: 'basket.shop',
    port: 3000,
    protocol: 'http1',
    mtls: true,
    requests: 10,
    failures: {},
    denied: 0,
    latencyNs: { p50: 1e6, p95: 2e6, p99: 3e6 },
    rate: 1,
    ...more,
  };
}

function sidecar(more: Partial<SidecarStatus>): SidecarStatus {
  return {
    name: 'basket-1',
    identity: idOf('basket'),
    address: '127.0.0.1:40000',
    inboundAddress: '127.0.0.1:4143',
    services: [],
    phase: 'ready',
    version: '0.1.0',
    pid: 1,
    sinceMs: 0,
    certificateNotAfterMs: 1_000_000,
    telemetryAtMs: 0,
    nacks: [],
    ...more,
  };
}

function status(edges: EdgeStatus[], sidecars: SidecarStatus[] = [sidecar({})]): MeshStatus {
  return { trustDomain: 'mesh.test', atMs: 1000, startedAtMs: 0, sidecars, edges, sources: [] };
}

test('a service is the sum of its callers; what was denied it says itself', (t) => {
  const rows = servicesOf(
    status([
      edge({ failures: { connect_refused: 1 } }),
      edge({ identity: idOf('till'), mtls: false, latencyNs: { p50: 5e6, p95: 6e6, p99: 7e6 }, rate: 2 }),
      edge({ direction: 'inbound', identity: idOf('basket'), port: 0, denied: 4, requests: 4 }),
    ]),
  );
  t.deepEqual(rows, [
    {
      to: 'basket.shop:3000',
      requests: 20,
      rate: 3,
      successRate: 0.95,
      mtls: 0.5,
      denied: 4,
      p50Ms: 5,
      p95Ms: 6,
      p99Ms: 7,
    },
  ]);
});

test('edges are told by caller and service, by short names too', (t) => {
  const both = status([edge({}), edge({ identity: idOf('till'), service: 'ledger.shop', port: 5432 })]);
  t.is(edgesOf(both).length, 2);
  t.deepEqual(
    edgesOf(both, 'web').map(({ from, to }) => [from, to]),
    [[idOf('web'), 'basket.shop:3000']],
  );
  t.is(edgesOf(both, undefined, 'ledger').length, 1);
  t.is(edgesOf(both, 'web', 'ledger').length, 0);
  for (const name of ['basket', 'basket.shop', 'basket:3000', 'basket.shop:3000']) {
    t.true(matches(name, 'basket.shop:3000'), name);
  }
  t.false(matches('ask', 'basket.shop:3000'));
});

test('what is wrong is told with how to mend it', (t) => {
  t.deepEqual(
    check(status([])).map(({ level }) => level),
    ['ok'],
  );
  t.like(check(status([], []))[0], { level: 'error', what: 'no sidecar is connected' });
  const nack = { resource: 'a.b.Cluster', name: 'x', version: '1', reason: 'bad' };
  const findings = check(
    status(
      [edge({ direction: 'inbound', identity: idOf('basket'), mtls: false })],
      [sidecar({ nacks: [nack] }), sidecar({ phase: 'connected' }), sidecar({ certificateNotAfterMs: 0 })],
    ),
  );
  t.deepEqual(
    findings.map(({ level, what }) => `${level}: ${what}`),
    [
      'error: basket-1 refuses Cluster x: bad',
      'warning: basket-1 is connected and not ready',
      "error: basket-1's certificate has ended",
      `warning: ${idOf('basket')} takes requests without TLS (10)`,
    ],
  );
});

test('a source that fails is told with how old what serves is', (t) => {
  const source: SourceStatus = {
    service: 'basket',
    name: 'file basket.yaml',
    state: 'live',
    endpoints: 2,
    saidAtMs: -59_000,
    failingSinceMs: null,
    restarts: 0,
    problem: null,
  };
  const failing = { ...source, state: 'failing', failingSinceMs: -9000, problem: 'no such file' } as const;
  const findings = check({
    ...status([]),
    sources: [source, failing, { ...failing, endpoints: 0, saidAtMs: null }, { ...source, state: 'waiting' }],
  });
  t.deepEqual(
    findings.map(({ level, what, mend = '' }) => `${level}: ${what}; ${mend}`),
    [
      'warning: basket: file basket.yaml fails for 10 s: no such file; the 2 endpoints it had serve on, as told 60 s ago',
      'error: basket: file basket.yaml fails for 10 s: no such file; nobody answers for it',
      'warning: basket: file basket.yaml has not said what there is; ',
    ],
  );
});
