// Do the endpoints of a mesh follow its copies, and do requests take the way its file says?

import test from 'ava';
import { type DescribedRequest, routeRequest } from '../../src/index.js';
import { checkable, compileMesh, endpointsOf } from '../../src/mesh/compile.js';
import { isMesh } from '../../src/config/origin.js';
import { checkMeshConfig } from '../../src/mesh/load.js';
import { environmentOf, placesOf } from '../../src/mesh/up/places.js';
import { readDocument } from '../../src/config/origin.js';
import { lifetime, lifetimeMs } from '../../src/mesh/formats.js';
import type { MeshShape } from '../../src/mesh/schema.js';
import type { MeshConfig, PolicyConfig } from '../../src/mesh/types.js';

const SHOP: MeshConfig = {
  services: {
    web: { run: 'node web.mjs' },
    basket: { run: 'node basket.mjs', port: 3000, ports: { grpc: 9000 } },
    billing: { address: '10.0.0.7:8443' },
  },
  routes: { basket: [{ match: { path: '/old/*' }, to: 'billing' }] },
};

test('a service is called by its names, with its port or none', (t) => {
  const { names } = compileMesh(SHOP);
  const table = (name: string): string | undefined => names.find((each) => each.name === name)?.routeTable;
  for (const host of ['basket', 'basket.default', 'basket.default.mesh.local']) {
    t.is(table(`${host}:80`), 'basket.default:3000');
    t.is(table(`${host}:3000`), 'basket.default:3000');
    t.is(table(`${host}:9000`), 'basket.default:9000');
  }
  t.is(table('web:80'), 'web.default:80');
  t.is(table('billing:8443'), 'billing.default:8443');
  t.is(table('billing:80'), 'billing.default:8443');
  for (const host of ['basket', 'basket.default', 'basket.default.mesh.local', 'billing'])
    t.truthy(table(`${host}:*`), 'it says that the host is of the mesh');
  t.is(names.length, new Set(names.map(({ name }) => name)).size);
});

test("a port that is 80 is that port, and not the service's own", (t) => {
  const { names } = compileMesh({ services: { a: { run: 'x', port: 3000, ports: { plain: 80 } } } });
  t.deepEqual(
    names.filter(({ name }) => name === 'a:80'),
    [{ name: 'a:80', routeTable: 'a.default:80' }],
  );
});

test('certificates live for a minute to 30 days, and nothing else for more than one', (t) => {
  t.deepEqual(
    ['1m', '24h', '168h', '720h', '721h', '30d', 'soon'].map((text) => [
      lifetimeMs(text),
      lifetime.advise?.(text),
    ]),
    [
      [60_000, undefined],
      [86_400_000, undefined],
      [604_800_000, undefined],
      [2_592_000_000, undefined],
      [undefined, undefined],
      [undefined, 'write 720h'],
      [undefined, undefined],
    ],
  );
  const { settings } = checkMeshConfig({
    mesh: { certificates: { ttl: '720h' } },
    services: { web: { port: 3000 } },
  }).compiled;
  t.is(settings.certificateTtlMs, 2_592_000_000);
});

test('endpoints come and go with the copies', (t) => {
  const mesh = compileMesh(SHOP);
  t.deepEqual(
    endpointsOf(mesh, () => []),
    [
      { cluster: 'web.default:80', localities: [] },
      { cluster: 'basket.default:3000', localities: [] },
      { cluster: 'basket.default:9000', localities: [] },
    ],
  );
  const identity = 'spiffe://mesh.local/ns/default/sa/basket';
  const [web, http, grpc] = endpointsOf(mesh, (service) =>
    service === 'basket' ? [{ address: '127.0.0.1:1' }, { address: '127.0.0.1:2', draining: true }] : [],
  );
  t.deepEqual(web?.localities, []);
  t.deepEqual(http?.localities, [
    {
      endpoints: [
        { address: '127.0.0.1:1', identity },
        { address: '127.0.0.1:2', health: 'draining', identity },
      ],
    },
  ]);
  t.deepEqual(grpc?.localities, http?.localities);
});

test('who goes by the policies of another service is no endpoint of one that has others', (t) => {
  const identity = 'spiffe://mesh.local/ns/default/sa/basket';
  const answering = (policy: PolicyConfig): (string | undefined)[] => {
    const mesh = compileMesh({
      services: { front: { port: 1 }, basket: { port: 2 } },
      policies: [policy],
    });
    const ports = endpointsOf(mesh, () => [
      { address: '127.0.0.1:1' },
      { address: '127.0.0.1:2', identity },
      { address: '127.0.0.1:3', identity: `${identity}-v2` },
    ]);
    return ports.map(({ localities }) =>
      localities?.flatMap(({ endpoints }) => endpoints.map(({ address }) => address.slice(-1))).join(''),
    );
  };
  t.deepEqual(answering({ to: 'front', deny: true }), ['13', '123']);
  t.deepEqual(answering({ to: 'front', allow: true }), ['13', '123']);
  for (const to of ['basket', '*', ['front', 'basket']])
    t.deepEqual(answering({ to, deny: true }), ['123', '123']);
  t.deepEqual(answering({ to: 'front', deny: true, audit: true }), ['123', '123'], 'nothing is enforced');
});

test('requests take the routes of a service, and what no route takes goes to the service', (t) => {
  const mesh = compileMesh(SHOP);
  const resources = checkable(mesh);
  const clusterFor = (table: string, request: DescribedRequest): string | undefined => {
    const [listener] = resources.listeners;
    if (listener) listener.routes = table;
    const { outcome } = routeRequest(resources, request);
    return outcome.kind === 'forward' ? outcome.clusters[0]?.cluster : undefined;
  };
  t.is(clusterFor('basket.default:3000', { url: 'http://basket/items' }), 'basket.default:3000');
  t.is(clusterFor('basket.default:3000', { url: 'http://basket.default/old/x' }), 'billing.default:8443');
  t.is(clusterFor('basket.default:9000', { url: 'http://basket:9000/old/x' }), 'basket.default:9000');
  t.is(clusterFor('basket.default:3000', { url: 'http://other/items' }), undefined);
});

test('a workload enforces the policies that name it and those for all, and whoever is no service the latter', (t) => {
  const { workloads } = compileMesh({
    ...SHOP,
    policies: [
      { to: 'basket', from: 'web', allow: true },
      { to: '*', deny: 'DELETE' },
    ],
  });
  t.deepEqual(
    workloads.map(({ name, policies }) => [name, policies.map((policy) => policy.name)]),
    [
      ['spiffe://mesh.local/ns/default/sa/web', ['policy-2']],
      ['spiffe://mesh.local/ns/default/sa/basket', ['policy-1', 'policy-2']],
      ['*', ['policy-2']],
    ],
  );
});

test('a workload is called by the ports of its service, and of those that it answers for', (t) => {
  const as = (service: string) => `spiffe://mesh.local/ns/default/sa/${service}`;
  const endpoints = ['basket', 'basket-v2'].map((service, n) => ({
    address: `127.0.0.1:${n + 1}`,
    identity: as(service),
  }));
  const portsOf = (policies: PolicyConfig[]) =>
    compileMesh({
      services: {
        front: { port: 1, discover: { endpoints } },
        basket: { port: 3, ports: { admin: 2 } },
        outside: { address: '127.0.0.1:9', port: 9 },
      },
      policies,
    }).workloads.map(({ name, ports }) => [name, ports]);
  t.deepEqual(portsOf([]), [
    [as('front'), [1]],
    [as('basket'), [1, 2, 3]],
    [as('basket-v2'), [1]],
    ['*', undefined],
  ]);
  // Nobody is sent there, so that nothing is to answer there.
  t.deepEqual(portsOf([{ to: 'front', deny: true }])[1], [as('basket'), [2, 3]]);
});

test('a file that names services is a mesh, one that names listeners a configuration', (t) => {
  t.true(isMesh(readDocument('services: {}')));
  t.true(isMesh(readDocument('{"mesh": {}}')));
  for (const text of ['listeners: []', 'services: {}\nlisteners: []', '[]', '', '1']) {
    t.false(isMesh(readDocument(text)), text);
  }
});

test('the documented types accept what the schema accepts, and nothing else', (t) => {
  // Checked by the compiler: each is assignable to the other.
  const toShape = (config: MeshConfig): MeshShape => config;
  const toConfig = (shape: MeshShape): MeshConfig => shape;
  t.deepEqual(toConfig(toShape({ services: {} })), { services: {} });
  t.is(checkMeshConfig(SHOP).compiled.services.length, 3);
});

test('a variable that the mesh gives a process can not be another one in env, but for the options of Node', (t) => {
  const mesh = compileMesh(SHOP);
  const [, service] = mesh.services;
  if (!service?.process) return t.fail();
  const copy = { service, process: service.process, number: 1 };
  const inherited = { env: {}, register: 'file:///register.js', control: ['127.0.0.1:4144'] };
  const given = environmentOf(copy, mesh, placesOf(copy, mesh, []), inherited);
  t.true(Object.keys(given).length > 10);
  for (const name of Object.keys(given)) {
    const check = () =>
      checkMeshConfig({
        services: { ...SHOP.services, basket: { ...SHOP.services['basket'], env: { [name]: '1' } } },
      });
    if (name === 'NODE_OPTIONS') t.notThrows(check);
    else
      t.throws(
        check,
        { message: new RegExp(`services\\.basket\\.env\\.${name}: ${name} is what the mesh tells it`) },
        name,
      );
  }
});
