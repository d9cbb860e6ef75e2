// What is told of a mesh, from what sidecars told.

import test from 'ava';
import { statOf, unknownNames } from '../../src/mesh/admin/named.js';
import { edgesOf, matches, servicesOf } from '../../src/mesh/admin/views.js';
import { edge, status } from './status.js';
import { idOf } from './support.js';

test('a service is the sum of its callers; what was denied it says itself', (t) => {
  const rows = servicesOf(
    status([
      edge({ failures: { connect_refused: 1 } }),
      edge({
        identity: idOf('till'),
        mtls: false,
        timesNs: [
          [1e6, 9],
          [200e6, 1],
        ],
        rate: 2,
      }),
      edge({ direction: 'inbound', identity: idOf('basket'), port: 0, denied: 4, requests: 4 }),
      edge({
        direction: 'inbound',
        identity: idOf('basket'),
        port: 3001,
        denied: 1,
        audited: 2,
        requests: 4,
      }),
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
      audited: 0,
      // Of all calls together: the one that was slow is not what calls take.
      p50Ms: 1,
      p95Ms: 3,
      p99Ms: 200,
    },
    {
      to: 'basket.shop:3001',
      requests: 4,
      rate: 1,
      successRate: 1,
      mtls: 1,
      // Whoever was denied without a port that there is may have meant any.
      denied: 5,
      audited: 2,
      p50Ms: 1,
      p95Ms: 3,
      p99Ms: 3,
    },
  ]);
});

test('callers without a sidecar are told by whom they call, and count against mTLS', (t) => {
  const own = { direction: 'inbound', identity: idOf('basket') } as const;
  const told = status([
    edge({}),
    edge({ ...own, peer: idOf('web'), denied: 1, requests: 6 }),
    edge({ ...own, peer: '', mtls: false, requests: 2, denied: 2, failures: { denied: 2 } }),
    edge({ ...own, peer: idOf('gateway'), requests: 4 }),
    edge({ ...own, service: 'ledger.shop', peer: '', mtls: false, requests: 3 }),
  ]);
  const edges = edgesOf(told).map(({ from, to, requests, mtls, denied }) => [
    from,
    to,
    requests,
    mtls,
    denied,
  ]);
  t.deepEqual(edges, [
    ['', 'basket.shop:3000', 2, 0, 2],
    ['', 'ledger.shop:3000', 3, 0, 0],
    [idOf('gateway'), 'basket.shop:3000', 4, 1, 0],
    [idOf('web'), 'basket.shop:3000', 10, 1, 1],
  ]);
  const called = new Map(edgesOf(told).map(({ to, toIdentity }) => [to, toIdentity]));
  t.deepEqual(
    [...called],
    [
      ['basket.shop:3000', idOf('basket')],
      ['ledger.shop:3000', idOf('basket')],
    ],
  );
  t.is(edgesOf(status([edge({})]))[0]?.toIdentity, '');
  const services = servicesOf(told).map(({ to, requests, mtls, denied }) => [to, requests, mtls, denied]);
  t.deepEqual(services, [
    ['basket.shop:3000', 10, 10 / 12, 3],
    ['ledger.shop:3000', 3, 0, 0],
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

test('whoever is asked about by name and was not called has done nothing, which is told', (t) => {
  const told = status([edge({})]);
  const rows = (asked: Parameters<typeof statOf>[1]) =>
    statOf(told, asked).map(({ from, to, requests }) => [
      ...(from === undefined ? [] : [from]),
      to,
      requests,
    ]);
  t.deepEqual(rows({}), [['basket.shop:3000', 10]]);
  t.deepEqual(rows({ to: 'web' }), [['web.shop:80', 0]]);
  t.deepEqual(rows({ to: 'basket' }), [
    ['basket.shop:3000', 10],
    ['basket.shop:9000', 0],
  ]);
  t.deepEqual(rows({ from: 'web', to: 'basket' }), [[idOf('web'), 'basket.shop:3000', 10]]);
  t.deepEqual(rows({ from: 'basket', to: 'web' }), [[idOf('basket', 'shop'), 'web.shop:80', 0]]);
  t.deepEqual(rows({ from: 'basket' }), []);
});

test('whoever is not there is told of, with who may be meant', (t) => {
  const told = status([edge({}), edge({ direction: 'inbound', peer: idOf('gateway'), service: 'old.shop' })]);
  const unknown = (asked: Parameters<typeof statOf>[1]): string[] => unknownNames(told, asked);
  // Of the file, of a sidecar, of what was called before the file became another, and who has no sidecar.
  for (const to of ['web', 'basket.shop:9000', 'basket:3000', 'old']) t.deepEqual(unknown({ to }), []);
  for (const from of ['web', 'basket', idOf('web'), 'gateway', '']) t.deepEqual(unknown({ from }), []);
  t.deepEqual(unknown({ from: 'nosuch', to: 'baskte' }), [
    'there is no service nosuch; there are: basket, gateway, web',
    'there is no service baskte; did you mean basket?',
  ]);
  t.deepEqual(unknown({ to: 'basket:3001' }), ['there is no service basket:3001; did you mean basket:3000?']);
  const nobody = { ...told, declared: [], sidecars: [], edges: [] };
  t.deepEqual(unknownNames(nobody, { to: 'web' }), ['there is no service web; there are: none']);
});
