// Does TypeScript know the resources as Rust has them?
//
// Rust owns the resources. Their fields are read from its sources, and each must be known here, reached by some
// configuration, and documented with the default that stands there.

import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { docs } from '../../src/config/schema-kit.js';
import { schema } from '../../src/config/schema.js';
import { durationMs } from '../../src/config/formats.js';
import { checkShape } from '../../src/config/load.js';
import { parseConfig } from '../../src/index.js';
import { checkable, compileMesh, endpointsOf } from '../../src/mesh/compile.js';
import { corpus, root } from './support.js';

const folder = join(root, 'crates', 'model', 'src', 'resources');
const rust = readdirSync(folder)
  .map((name) => readFileSync(join(folder, name), 'utf8'))
  .join('\n');
const typescript = readFileSync(join(root, 'src', 'config', 'resources.ts'), 'utf8');

const camel = (name: string): string =>
  name.replaceAll(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

/** The fields of every `pub struct` with named fields, by their names in JSON. */
function rustStructs(): Map<string, string[]> {
  const structs = new Map<string, string[]>();
  for (const [, name = '', body = ''] of rust.matchAll(/^pub struct (\w+) \{\n([^}]*)^\}/gm)) {
    const fields = Array.from(
      body.matchAll(/((?:^ {4}#\[.*\]\n)*)^ {4}pub (\w+):/gm),
      ([, attributes = '', field = '']) => {
        const renamed = /rename = "(\w+)"/.exec(attributes)?.[1];
        return renamed ?? camel(field);
      },
    );
    structs.set(name, fields);
  }
  return structs;
}

/** The members of every interface of `resources.ts`. */
function interfaces(): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const [, name = '', body = ''] of typescript.matchAll(/^export interface (\w+) \{\n([^}]*)^\}/gm)) {
    found.set(
      name,
      Array.from(body.matchAll(/^ {2}(\w+)\??:/gm), ([, field = '']) => field),
    );
  }
  return found;
}

/** Where each struct stands in the resources; `*` is every item. */
const PLACES: Record<string, string> = {
  Resources: '',
  Listener: 'listeners.*',
  WorkloadPorts: 'listeners.*.workload',
  WorkloadPort: 'listeners.*.workload.ports.*',
  ServerTls: 'listeners.*.tls',
  CertificateAndKey: 'listeners.*.tls.certificates.*',
  ClientCertificates: 'listeners.*.tls.clientCertificates',
  SniRoute: 'listeners.*.sni.*',
  AccessLog: 'listeners.*.accessLog',
  ListenerLimits: 'listeners.*.limits',
  ListenerTimeouts: 'listeners.*.timeouts',
  RouteTable: 'routeTables.*',
  VirtualHost: 'routeTables.*.virtualHosts.*',
  Route: 'routeTables.*.virtualHosts.*.routes.*',
  RouteMatch: 'routeTables.*.virtualHosts.*.routes.*.match',
  ValueMatch: 'routeTables.*.virtualHosts.*.routes.*.match.headers.*',
  GrpcMatch: 'routeTables.*.virtualHosts.*.routes.*.match.grpc',
  Filters: 'routeTables.*.virtualHosts.*.routes.*.filters',
  HeaderEdits: 'routeTables.*.virtualHosts.*.routes.*.filters.responseHeaders',
  HeaderValue: 'routeTables.*.virtualHosts.*.routes.*.filters.requestHeaders.set.*',
  WeightedCluster: 'routeTables.*.virtualHosts.*.routes.*.action.to.*',
  Redirect: 'routeTables.*.virtualHosts.*.routes.*.action',
  Respond: 'routeTables.*.virtualHosts.*.routes.*.action',
  RouteTimeouts: 'routeTables.*.virtualHosts.*.routes.*.timeouts',
  Cluster: 'clusters.*',
  WorkloadTls: 'clusters.*.workload',
  ClientTls: 'clusters.*.tls',
  ClusterLimits: 'clusters.*.limits',
  ClusterTimeouts: 'clusters.*.timeouts',
  Endpoints: 'endpoints.*',
  Locality: 'endpoints.*.localities.*',
  Endpoint: 'endpoints.*.localities.*.endpoints.*',
};

/** The objects at a place. */
function objectsAt(value: unknown, place: string): object[] {
  let found: unknown[] = [value];
  for (const step of place.split('.').filter(Boolean)) {
    found = found.flatMap((item) => {
      if (typeof item !== 'object' || item === null) return [];
      return step === '*' ? Object.values(item) : [(item as Record<string, unknown>)[step]];
    });
  }
  return found.filter((item): item is object => typeof item === 'object' && item !== null);
}

test('the mirror has the structs and fields of the model', (t) => {
  const mirror = interfaces();
  for (const [name, fields] of rustStructs()) {
    t.deepEqual(mirror.get(name)?.toSorted(), fields.toSorted(), name);
  }
  t.deepEqual(Object.keys(PLACES).toSorted(), [...rustStructs().keys()].toSorted());
});

/** A mesh with a copy: what it has that no configuration has. */
function meshResources(): object {
  const mesh = compileMesh({ services: { web: { run: 'web' } } });
  return { ...checkable(mesh), endpoints: endpointsOf(mesh, () => [{ address: '127.0.0.1:1' }]) };
}

/** What a sidecar makes of its own settings, and nobody writes. */
const OWN =
  /^(Listener\.(workload|defaultPolicy|onDemand|leadsTo|transparent|opaquePorts|localOnly)|WorkloadPorts?\..*)$/;

test('every field of the model is reached by a configuration, or by a mesh file', (t) => {
  const { resources } = parseConfig(
    corpus('good').find(({ name }) => name === 'maximal.yaml')?.text ?? '',
  ).compiled;
  const mesh = meshResources();
  for (const [name, fields] of rustStructs()) {
    const place = PLACES[name] ?? '';
    const reached = new Set([...objectsAt(resources, place), ...objectsAt(mesh, place)].flatMap(Object.keys));
    for (const field of fields.filter((each) => !OWN.test(`${name}.${each}`)))
      t.true(reached.has(field), `${name}.${field}`);
  }
});

test('every variant of the model is reached by a configuration', (t) => {
  const text = JSON.stringify(corpus('good').map((file) => parseConfig(file.text).compiled.resources));
  const words = new Set(
    Array.from(
      text.matchAll(/"(?:kind|health|direction|protocol|escapedSlashes|minimumVersion)":"([^"]+)"/g),
      ([, word]) => word,
    ),
  );
  // What is the default is reached by leaving the key out.
  const implied = new Set([
    'keep',
    'present',
    'endpoints',
    'reject',
    'healthy',
    'inbound',
    'outbound',
    'ewma',
    'roundRobin',
  ]);
  for (const [, name = '', body = ''] of rust.matchAll(/^pub enum (\w+) \{\n([^]*?)^\}/gm)) {
    if (['Address', 'HostPattern', 'TlsVersion', 'Trusted'].includes(name)) continue;
    for (const [, variant = ''] of body.matchAll(/^ {4}([A-Z]\w*)/gm)) {
      const word = variant.charAt(0).toLowerCase() + variant.slice(1);
      t.true(words.has(word) || implied.has(word), `${name}::${variant}`);
    }
  }
});

/** The shape below a documented part, through optional keys. */
function shapeOf(keys: readonly string[]): Record<string, unknown> {
  const unwrapped = (value: unknown): { shape?: Record<string, unknown>; def?: Record<string, unknown> } => {
    const { def } = value as {
      def: { type: string; innerType?: unknown; element?: unknown; valueType?: unknown };
    };
    const inner = def.innerType ?? def.element ?? def.valueType;
    return inner === undefined ? (value as { shape?: Record<string, unknown> }) : unwrapped(inner);
  };
  let shape: Record<string, unknown> = schema.shape;
  for (const key of keys) shape = unwrapped(shape[key]).shape ?? {};
  return shape;
}

for (const [struct, keys] of [
  ['ListenerLimits', ['listeners', 'limits']],
  ['ListenerTimeouts', ['listeners', 'timeouts']],
  ['ClusterLimits', ['clusters', 'limits']],
  ['ClusterTimeouts', ['clusters', 'timeouts']],
] as const) {
  test(`the defaults of ${struct} are documented as the model has them`, (t) => {
    const [, body = ''] =
      new RegExp(`impl Default for ${struct} \\{\\n[^]*?Self \\{\\n([^}]*)\\}`).exec(rust) ?? [];
    const defaults = Array.from(body.matchAll(/(\w+): ([^\n]*),\n/g), ([, field = '', value = '']) => [
      camel(field),
      value,
    ]);
    t.true(defaults.length > 0);
    const shape = shapeOf(keys);
    for (const [field = '', value = ''] of defaults) {
      const documented = docs.get(shape[field] as Parameters<typeof docs.get>[0])?.default;
      const seconds = /from_secs\((\d+)\)/.exec(value)?.[1];
      const milliseconds = /from_millis\((\d+)\)/.exec(value)?.[1];
      if (value.startsWith('Duration')) {
        t.is(durationMs(String(documented)), Number(milliseconds ?? 1000 * Number(seconds ?? 0)), field);
      } else {
        t.is(documented, Number(value.replaceAll('_', '')), field);
      }
    }
  });
}

test('the ranges of limits are those of docs/limits.md, and are told of a number that is in none', (t) => {
  const manual = readFileSync(join(root, 'docs', 'limits.md'), 'utf8');
  const UNITS: Record<string, number> = { '': 1, KiB: 1024, MiB: 1024 * 1024 };
  const row =
    /^\| `(listeners|clusters)\[\]\.limits\.(\w+)` \|[^|]*\| ([\d,]+) ?(KiB|MiB|), ([\d,]+) ?(KiB|MiB|) \|/gm;
  const rows = Array.from(
    manual.matchAll(row),
    ([, part = '', key = '', from = '', small = '', to = '', big = '']) => {
      const bound = (number: string, unit: string): number =>
        Number(number.replaceAll(',', '')) * (UNITS[unit] ?? Number.NaN);
      return { part, key, from: bound(from, small), to: bound(to, big) };
    },
  );
  t.is(rows.length, 10);
  for (const { part, key, from, to } of rows) {
    const limits = (number: number) =>
      part === 'listeners'
        ? { listeners: [{ address: ':0', to: '127.0.0.1:1', limits: { [key]: number } }] }
        : { clusters: { a: { endpoints: ['127.0.0.1:1'], limits: { [key]: number } } } };
    for (const number of [from, to]) t.notThrows(() => checkShape(limits(number)), key);
    const range = `expected a whole number, ${from.toLocaleString('en')} to ${to.toLocaleString('en')}, received`;
    for (const number of [from - 1, to + 1]) {
      const error = t.throws(() => checkShape(limits(number)), undefined, key);
      t.true(error?.message.includes(`limits.${key}: ${range} ${number}`), error?.message);
    }
  }
});
