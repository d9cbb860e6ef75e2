// Does an application see the proxy's numbers: as an object, as Prometheus' text, in its own registry?

import test from 'ava';
import { Counter, Gauge, Registry, type RegistryContentType } from 'prom-client';
import { OptionError } from '../../src/index.js';
import { httpOrigin, request } from '../support/http.js';
import { Exposition, type Sample } from '../support/prometheus.js';
import { until } from '../support/wait.js';
import { everythingTo, listening, makeProxy } from './support.js';

/** What is another a moment later. */
const MOVING = /^mesh_(thread_|endpoint_latency_)/;
const timeless = ({ name, labels }: Sample): Sample => ({ name, labels, value: 0 });

test('stats count what passed, by route, cluster, listener and endpoint', async (t) => {
  const origin = await httpOrigin(t, ({ url }, response) => {
    response.statusCode = url === '/bad' ? 500 : 200;
    response.end('body');
  });
  const { proxy, port } = await listening(t, {
    listeners: [
      {
        name: 'web',
        address: '127.0.0.1:0',
        routes: [
          { name: 'all', to: 'app' },
          { name: 'hello', match: { path: '/hello' }, respond: { status: 200, body: 'hello' } },
        ],
      },
    ],
    clusters: { app: { endpoints: [origin.address] } },
  });
  for (const path of ['/', '/', '/bad', '/hello']) await request(port, { path });
  const stats = await until('all are counted', async () => {
    const seen = await proxy.stats();
    return seen.routes.reduce((sum, { duration }) => sum + duration.count, 0) === 4 && seen;
  });
  const route = (name: string): object | undefined => stats.routes.find((each) => each.route === name);
  t.like(route('all'), {
    listener: 'web',
    cluster: 'app',
    protocol: 'http1',
    requests: 3,
    active: 0,
    failures: 1,
    responses: { '2xx': 2, '5xx': 1 },
  });
  t.like(route('hello'), { requests: 1, failures: 0, successRate: 1 });
  t.like(stats.clusters[0], { name: 'app' });
  t.like(stats.clusters[0]?.endpoints[0], { address: origin.address, state: 'available', requests: 3 });
  t.like(stats.listeners[0], { name: 'web', connections: 4 });
  t.is(stats.threads.length, 1);
  t.is(stats.panics, 0);
  t.true((stats.process.residentBytes ?? 0) > 0);
});

test("metrics are Prometheus' text, without those of the process: it is the application's", async (t) => {
  const origin = await httpOrigin(t);
  const { proxy, port } = await listening(t, everythingTo(origin.address));
  await request(port);
  const text = await proxy.metrics();
  t.regex(text, /^mesh_requests_total\{[^}]*listener="web"[^}]*\} 1$/m);
  t.notRegex(text, /^process_/m);
});

/** The samples of a family, without comments. */
function samples(text: string, name: string): string[] {
  return text.split('\n').filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
}

for (const [what, contentType, end] of [
  ['the default', Registry.PROMETHEUS_CONTENT_TYPE, /\n$/],
  ['OpenMetrics', Registry.OPENMETRICS_CONTENT_TYPE, /\n# EOF\n$/],
] as const) {
  test(`a registry of prom-client scrapes them, in ${what} format`, async (t) => {
    const origin = await httpOrigin(t);
    const { proxy, port } = await listening(t, everythingTo(origin.address));
    const registry = new Registry<RegistryContentType>();
    registry.setContentType(contentType);
    const own = new Counter({ name: 'app_things_total', help: 'Things.', registers: [registry] });
    own.inc();
    const remove = proxy.register(registry);

    for (let sent = 1; sent <= 2; sent += 1) {
      await request(port);
      // Twice, since a registry may change what it is given at the first scrape.
      const text = await registry.metrics();
      const labels = `listener="web",route="*",cluster="${origin.address}",protocol="http1"`;
      t.deepEqual(samples(text, 'mesh_requests_total'), [`mesh_requests_total{${labels}} ${sent}`]);
      t.deepEqual(samples(text, 'app_things_total'), ['app_things_total 1']);
      t.is(samples(text, 'mesh_connections_active').length, 1);
      const family = what === 'OpenMetrics' ? 'mesh_requests' : 'mesh_requests_total';
      t.true(text.includes(`# TYPE ${family} counter\n`), text);
      t.true(text.includes(`# HELP ${family} Requests, calls and streams that began.\n`));
      t.notRegex(text, /_total_total/);
      t.regex(text, end);
    }

    remove();
    t.deepEqual(samples(await registry.metrics(), 'mesh_requests_total'), []);
    t.deepEqual(samples(await registry.metrics(), 'app_things_total'), ['app_things_total 1']);
  });
}

test('a registry has every family, as the core tells it: help, type, labels and values', async (t) => {
  const origin = await httpOrigin(t);
  const { proxy, port } = await listening(t, everythingTo(origin.address));
  const registry = new Registry();
  proxy.register(registry);
  for (let n = 0; n < 3; n += 1) await request(port);
  await until('all is counted', async () => {
    const { routes, listeners } = await proxy.stats();
    return routes[0]?.active === 0 && listeners[0]?.active === 0;
  });
  const own = new Exposition(await proxy.metrics());
  const scraped = new Exposition((await registry.metrics()).replaceAll('\n\n', '\n'));
  t.deepEqual([...scraped.families.keys()], [...own.families.keys()]);
  for (const [name, { type, help, samples: told }] of own.families) {
    const found = scraped.families.get(name);
    t.deepEqual([found?.type, found?.help], [type, help], name);
    const still = (all: readonly Sample[]) => (MOVING.test(name) ? all.map(timeless) : all);
    t.deepEqual(still(found?.samples ?? []), still(told), name);
  }
  t.is(scraped.sum('mesh_request_duration_seconds_bucket', { le: '+Inf' }), 3);
});

test('a registry is scraped before, while and after the proxy listens', async (t) => {
  const registry = new Registry();
  const proxy = makeProxy(t, everythingTo('127.0.0.1:1'));
  proxy.register(registry);
  t.regex(await registry.metrics(), /# TYPE mesh_requests_total counter/);
  await proxy.listen();
  const [scraped] = await Promise.all([registry.metrics(), proxy.close()]);
  t.regex(scraped, /# TYPE mesh_requests_total counter/);
  t.regex(await registry.metrics(), /# TYPE mesh_requests_total counter/);
});

test('several proxies may share a registry: their numbers are added up', async (t) => {
  const origin = await httpOrigin(t);
  const registry = new Registry();
  const all = [];
  for (const name of ['web', 'web', 'other']) {
    const { proxy, port } = await listening(t, {
      listeners: [{ name, address: '127.0.0.1:0', routes: [{ name: 'all', to: origin.address }] }],
    });
    await request(port);
    all.push(proxy.register(registry));
  }
  const counts = async (): Promise<string[]> =>
    samples(await registry.metrics(), 'mesh_requests_total').map((line) =>
      line.replace(/^.*listener="(\w+)".*\} /, '$1 '),
    );
  t.deepEqual(await counts(), ['web 2', 'other 1']);
  all[0]?.();
  all[0]?.();
  t.deepEqual(await counts(), ['web 1', 'other 1']);
  all[1]?.();
  all[2]?.();
  t.is(await registry.metrics(), '\n');
});

test('a name that the registry has already is refused, and nothing of ours stays', async (t) => {
  const registry = new Registry();
  const gauge = new Gauge({ name: 'mesh_requests_active', help: 'Of somebody else.', registers: [registry] });
  const proxy = makeProxy(t, everythingTo('127.0.0.1:1'));
  t.throws(() => proxy.register(registry), {
    instanceOf: OptionError,
    code: 'MESH_OPTION_INVALID',
    message: /^registry: .*mesh_requests_active has already been registered/,
  });
  t.deepEqual(registry.getMetricsAsArray(), [gauge]);
  for (const none of [undefined, null, {}, 'registry'] as unknown as Registry[]) {
    t.throws(() => proxy.register(none), {
      instanceOf: OptionError,
      message: /^registry: expected a registry of prom-client, received /,
    });
  }
});

test('a registry may be cleared and reset, and a proxy registered twice counts once', async (t) => {
  const origin = await httpOrigin(t);
  const { proxy, port } = await listening(t, everythingTo(origin.address));
  await request(port);
  const registry = new Registry();
  const requests = async (): Promise<number> =>
    new Exposition((await registry.metrics()).replaceAll('\n\n', '\n')).sum('mesh_requests_total');
  const first = proxy.register(registry);
  registry.resetMetrics();
  t.is(await requests(), 1, 'the counters are the proxy’s');

  const second = proxy.register(registry);
  t.is(await requests(), 1);
  first();
  first();
  t.is(await requests(), 1, 'who registered it again still has it');
  second();
  t.is(registry.getMetricsAsArray().length, 0);

  const beforeClear = proxy.register(registry);
  registry.clear();
  t.is(registry.getMetricsAsArray().length, 0);
  const { proxy: other } = await listening(t, everythingTo(origin.address));
  const afterClear = other.register(registry);
  t.true(registry.getMetricsAsArray().length > 0);
  t.is(await requests(), 0, 'what was cleared stays out');
  beforeClear();
  t.true(registry.getMetricsAsArray().length > 0, 'it takes out what it has added, and no more');
  proxy.register(registry);
  t.is(await requests(), 1);
  registry.removeSingleMetric('mesh_requests_total');
  afterClear();
  proxy.register(registry);
  t.is(await requests(), 1, 'what was taken out is added again');
});
