// Does a scrape of a registry leave the event loop to others, and lose nothing by that?

import test from 'ava';
import { Registry } from 'prom-client';
import { addTo } from '../../src/proxy/prometheus.js';
import { Exposition } from '../support/prometheus.js';

const BOUNDS = ['0.001', '0.01', '+Inf'];
const DURATION = 'mesh_request_duration_seconds';

/** What a proxy with so many used routes says of some families. */
function told(routes: number): string {
  const names = Array.from({ length: routes }, (_, index) => `r${index}`);
  // What looks like a bound within a name.
  const labels = [...names, String.raw`odd,le=\"1`].map((name) => `listener="web",route="${name}"`);
  const counted = ['total', 'active'].map((what) => {
    const lines = labels.map((each, at) => `mesh_requests_${what}{${each}} ${at}`);
    const type = what === 'total' ? 'counter' : 'gauge';
    return `# HELP mesh_requests_${what} Of a test.\n# TYPE mesh_requests_${what} ${type}\n${lines.join('\n')}\n`;
  });
  const series = labels.flatMap((each, at) => [
    ...BOUNDS.map((bound, more) => `${DURATION}_bucket{${each},le="${bound}"} ${at + more}`),
    `${DURATION}_sum{${each}} 0.5`,
    `${DURATION}_count{${each}} ${at + 2}`,
  ]);
  return `${counted.join('')}# HELP ${DURATION} Of a test.\n# TYPE ${DURATION} histogram\n${series.join('\n')}\n`;
}

interface Asked {
  get(): Promise<object>;
  getForPromString?(): Promise<object>;
}

/** Scrapes, and says in which turn of the event loop each family was given. */
async function scrape(registry: Registry): Promise<{ text: string; turns: Map<string, number> }> {
  const turns = new Map<string, number>();
  let turn = 0;
  let isOn = true;
  const next = (): void => {
    turn += 1;
    if (isOn) setImmediate(next);
  };
  setImmediate(next);
  for (const { name } of registry.getMetricsAsArray()) {
    const metric = registry.getSingleMetric(name) as unknown as Asked;
    for (const how of ['get', 'getForPromString'] as const) {
      const before = metric[how];
      if (before)
        metric[how] = async () => {
          const given = await before();
          turns.set(name, turn);
          return given;
        };
    }
  }
  const text = await registry.metrics();
  isOn = false;
  return { text, turns };
}

test('families with many samples are given one in a turn of the event loop, and all there is', async (t) => {
  const registry = new Registry();
  const text = told(1500);
  addTo(registry, {}, () => Promise.resolve(text));
  const { text: scraped, turns } = await scrape(registry);
  const large = ['mesh_requests_total', 'mesh_requests_active', DURATION].map((name) => turns.get(name));
  t.is(new Set(large).size, 3, String(large));
  const [own, found] = [new Exposition(text), new Exposition(scraped.replaceAll('\n\n', '\n'))];
  for (const [name, { samples }] of own.families)
    t.deepEqual(found.families.get(name)?.samples, samples, name);
});

test('where there is little it is given at once', async (t) => {
  const registry = new Registry();
  addTo(registry, {}, () => Promise.resolve(told(10)));
  const { turns } = await scrape(registry);
  t.true(turns.size > 10);
  t.is(new Set(turns.values()).size, 1);
});

test('labels that the samples of a series share are one object for text, and in each for others', async (t) => {
  const registry = new Registry();
  addTo(registry, {}, () => Promise.resolve(told(1)));
  registry.setDefaultLabels({ app: 'shop', route: 'never' });
  const text = await registry.getSingleMetricAsString(DURATION);
  t.regex(
    text,
    /^mesh_request_duration_seconds_bucket\{le="0\.01",app="shop",listener="web",route="r0"\} 1$/m,
  );
  t.regex(text, /^mesh_request_duration_seconds_sum\{app="shop",listener="web",route="odd,le=\\"1"\} 0\.5$/m);
  const json = (await registry.getMetricsAsJSON()) as unknown as { name: string; values: object[] }[];
  t.deepEqual(json.find(({ name }) => name === DURATION)?.values.slice(0, 4), [
    ...BOUNDS.map((le, at) => ({
      labels: { listener: 'web', route: 'r0', le, app: 'shop' },
      value: at,
      metricName: `${DURATION}_bucket`,
    })),
    {
      labels: { listener: 'web', route: 'r0', app: 'shop' },
      value: 0.5,
      metricName: `${DURATION}_sum`,
    },
  ]);
});

test('two proxies with the same series are added up', async (t) => {
  const registry = new Registry();
  for (let proxies = 0; proxies < 2; proxies += 1) addTo(registry, {}, () => Promise.resolve(told(1)));
  const scraped = new Exposition((await registry.metrics()).replaceAll('\n\n', '\n'));
  t.is(scraped.sum(`${DURATION}_bucket`, { route: 'r0', le: '+Inf' }), 4);
  t.is(scraped.families.get(DURATION)?.samples.length, 10);
});
