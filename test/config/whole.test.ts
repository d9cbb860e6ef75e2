// Is an application that loads a configuration told everything that is wrong with it, whoever finds it?

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { ConfigError } from '../../src/errors.js';
import {
  type Config,
  checkConfig,
  loadConfig,
  loadMesh,
  parseConfig,
  parseMesh,
  watchConfig,
} from '../../src/index.js';
import { must } from '../support/processes.js';
import { cleanEnvironment } from '../support/sidecar.js';
import { temporaryFolder } from '../support/files.js';
import { refusalOf } from './support.js';

/** A cluster that is not there, and nothing else. */
const SENSELESS = 'listeners:\n  - { address: ":1", to: nowhere }\n';
/** The same beside a mistake of shape. */
const BOTH = `${SENSELESS}  - { address: ":2", to: "localhost:1", idle: 1 }\n`;
const NOWHERE = { code: 'unknown_reference', field: 'listeners[0].to', line: 2, column: 26 };
const IDLE = { code: 'unknown_key', field: 'listeners[1].idle', line: 3 };
const MESH =
  'services: { web: { port: 1 } }\nroutes: { web: [{ to: web, setHeaders: { connection: close } }] }\n';

function file(t: ExecutionContext, text: string): string {
  const path = join(temporaryFolder(t), 'mesh.yaml');
  writeFileSync(path, text);
  return path;
}

async function refused(t: ExecutionContext, work: Promise<unknown>): Promise<ConfigError> {
  const error = await t.throwsAsync(work, { instanceOf: ConfigError });
  return error as ConfigError;
}

test('a file that makes no sense is refused when it is loaded, in its place', async (t) => {
  const error = await refused(t, loadConfig(file(t, SENSELESS)));
  t.is(error.issues.length, 1);
  t.like(error.issues[0], NOWHERE);
  t.regex(error.message, /mesh\.yaml:2:26: listeners\[0\]\.to: there is no cluster `nowhere`/);
});

test('what makes no sense is told beside what has no shape', async (t) => {
  for (const issues of [
    (await refused(t, loadConfig(file(t, BOTH)))).issues,
    refusalOf(t, () => parseConfig(BOTH)).issues,
  ]) {
    t.is(issues.length, 2);
    t.like(issues[0], NOWHERE);
    t.like(issues[1], IDLE);
  }
});

test('an object is looked at in the same way, and a file that is watched', async (t) => {
  const config: Config = { listeners: [{ address: ':1', to: 'nowhere' }] };
  t.is(refusalOf(t, () => checkConfig(config)).issues[0]?.field, 'listeners[0].to');
  const watcher = watchConfig(file(t, BOTH));
  t.teardown(() => watcher.stop());
  const { value } = await watcher.next();
  t.is(value?.error?.issues.length, 2);
});

test('an address that is no cluster’s name is told how to be written', (t) => {
  const written: [to: string, suggestion: string | undefined][] = [
    ['http://127.0.0.1:3000', 'write 127.0.0.1:3000'],
    ['http://localhost:3000/', 'write localhost:3000'],
    ['https://shop.test', 'write the name of a cluster with tls: true'],
    ['3000', 'write localhost:3000'],
    ['127.0.0.1', 'add a port: 127.0.0.1:8080'],
    ['/run/app.sock', 'write unix:/run/app.sock'],
    ['api', undefined],
  ];
  for (const [to, suggestion] of written) {
    const routes: Config = { listeners: [{ address: ':1', routes: [{ to: [{ cluster: to, weight: 1 }] }] }] };
    for (const config of [{ listeners: [{ address: ':1', to }] }, routes]) {
      const [issue] = refusalOf(t, () => checkConfig(config)).issues;
      t.is(issue?.code, 'unknown_reference', to);
      t.is(issue?.suggestion, suggestion, to);
    }
    const beside = { listeners: [{ address: ':1', to, idle: 1 }] } as unknown as Config;
    t.is(refusalOf(t, () => checkConfig(beside)).issues[1]?.suggestion, suggestion, to);
  }
});

test('what is right is taken, though the files that it names are not there', async (t) => {
  const text =
    'listeners:\n  - { address: ":1", tls: { certificate: a.crt, key: a.key }, routes: [{ respond: 204 }] }\n';
  t.is((await loadConfig(file(t, text))).compiled.resources.listeners.length, 1);
});

test('two listeners on one Unix socket are seen, however its path is written', (t) => {
  const twice = (one: string, other: string) => ({
    text: `listeners:\n  - { address: "unix:${one}", routes: [{ respond: 204 }] }\n  - { address: "unix:${other}", routes: [{ respond: 204 }] }\n`,
    file: '/run/shop/mesh.yaml',
  });
  for (const other of [
    'web.sock',
    './web.sock',
    '../shop/web.sock',
    '/run/shop/./web.sock',
    '/run//shop/web.sock',
  ]) {
    const { text, file: of } = twice('/run/shop/web.sock', other);
    const error = refusalOf(t, () => parseConfig(text, { file: of }));
    t.regex(
      error.message,
      /listeners\[1\]\.address: unix:\/run\/shop\/web\.sock is taken by the listener/,
      other,
    );
  }
  // A link may stand before a step back.
  const { text } = twice('/run/shop/web.sock', '/run/link/../shop/web.sock');
  t.is(parseConfig(text).compiled.resources.listeners.length, 2);
});

test('a mesh file, too', async (t) => {
  const loaded = await loadMesh(file(t, 'services: { web: { port: 3000 } }\n'));
  t.is(loaded.compiled.services.length, 1);
  const error = refusalOf(t, () => parseMesh(MESH));
  t.regex(error.message, /^2:\d+: routes\.web\[0\]\.setHeaders\.connection: `connection` can't be edited/);
});

test('a mesh file: no mistake hides another, of whatever kind', (t) => {
  const said = (text: string): string[] =>
    refusalOf(t, () => parseMesh(text)).issues.map(({ field, code }) => `${field} ${code}`);
  const text = `services:
  web: { run: node web.mjs }
  basket: { port: 3000, address: 10.0.0.7 }
  Depot: { runn: node depot.mjs, cpies: 2, port: 70000 }
routes:
  bask: [{ to: nix }]
  web: [{ match: { path: '~[' }, to: web }]
policies:
  - { to: web, allow: [items] }
  - { to: bsket, from: wb }
  - { to: [bsket, web], from: wb, deny: true }
`;
  t.deepEqual(said(text), [
    'services.basket.address invalid',
    'services.Depot invalid',
    'services.Depot.runn unknown_key',
    'services.Depot.cpies unknown_key',
    'services.Depot.port invalid',
    'routes.bask unknown_service',
    'routes.bask[0].to unknown_service',
    'routes.web[0].match.path bad_regex',
    'policies[0].allow[0] invalid',
    'policies[1] invalid',
    'policies[2].to[0] unknown_service',
    'policies[2].from unknown_service',
  ]);
  // The core's beside what does not fit together, too.
  t.deepEqual(said(text.replace(/^ {2}(basket|Depot|- \{ to: (web|bsket)).*\n/gm, '')), [
    'routes.bask unknown_service',
    'routes.bask[0].to unknown_service',
    'routes.web[0].match.path bad_regex',
    'policies[0].to[0] unknown_service',
    'policies[0].from unknown_service',
  ]);
});

test('a mesh file: nothing is told of what only lacks what was wrong', (t) => {
  const text = `services:
  web: { run: node web.mjs, port: x }
  basket: { ports: { GRPC: 9000, grpc: 9001 }, run: [] }
  Depot: { port: 3000 }
  far: { address: 10.0.0.7, tls: true }
  half: 5
routes:
  web: [{ to: 'basket:9000' }, { to: half }, { to: depot }]
  'web:80': [{ to: far }]
  'basket:9000': [{ to: depot }]
policies:
  - { to: [depot, half], from: Depot, allow: true }
  - { to: basket, ports: [9000], deny: true }
  - { to: [X], deny: true }
`;
  const { issues } = refusalOf(t, () => parseMesh(text));
  t.deepEqual(
    issues.map(({ field }) => field),
    [
      'services.web.port',
      'services.basket.ports.GRPC',
      'services.basket.run',
      'services.Depot',
      'services.far.address',
      'services.half',
      'policies[0].from',
      'policies[2].to[0]',
    ],
  );
});

test('without the native core the model in WebAssembly says the same', async (t) => {
  const source = `
    Object.defineProperty(process, 'arch', { value: 'abacus' });
    const { parseConfig, validateResources } = await import(${JSON.stringify(join(process.cwd(), 'dist/index.js'))});
    try { parseConfig(${JSON.stringify(BOTH)}); } catch ({ issues }) { console.log(JSON.stringify(issues)); }
    try { validateResources('{}'); } catch ({ code }) { console.log(code); }`;
  const said = await must(process.execPath, ['--input-type=module', '-e', source], {
    env: cleanEnvironment(),
  });
  const [issues = '', code] = said.trim().split('\n');
  t.deepEqual(JSON.parse(issues), refusalOf(t, () => parseConfig(BOTH)).issues);
  t.is(code, 'MESH_CORE_UNAVAILABLE');
});
