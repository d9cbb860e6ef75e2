// Is a configuration read whatever form it comes in, and is a hostile one refused before it costs anything?

import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { ConfigError } from '../../src/errors.js';
import type { Config } from '../../src/config/index.js';
import { renderIssue } from '../../src/config/issues.js';
import {
  LoadedConfig,
  checkConfig,
  createProxy,
  loadConfig,
  parseConfig,
  validateResources,
} from '../../src/index.js';
import { checkShape, parseShape, withMeaning } from '../../src/config/load.js';
import { checkMeshConfig } from '../../src/mesh/load.js';
import { pipe } from '../support/files.js';
import { temporaryFolder } from '../support/files.js';
import { refusalOf } from './support.js';

test('YAML, JSON and an object mean the same', (t) => {
  const config: Config = { listeners: [{ name: 'web', address: ':8080', to: 'localhost:3000' }] };
  const yaml = 'listeners:\n  - name: web\n    address: :8080\n    to: localhost:3000\n';
  const expected = checkConfig(config).toJson();
  t.is(parseConfig(yaml).toJson(), expected);
  t.is(parseConfig(JSON.stringify(config)).toJson(), expected);
  t.is(parseConfig(`\uFEFF${yaml.replaceAll('\n', '\r\n')}`).toJson(), expected);
});

test('equal texts have equal hashes, others not', (t) => {
  const hash = (text: string): string => parseConfig(text).hash;
  t.is(hash('admin: off'), hash('admin: off'));
  t.not(hash('admin: off'), hash('admin: off # really'));
});

test('an object can be changed afterwards without harm', (t) => {
  const config: Config = { listeners: [{ address: ':8080', to: 'localhost:3000' }] };
  const loaded = checkConfig(config);
  config.listeners?.splice(0);
  t.is(loaded.compiled.resources.listeners.length, 1);
});

test('an object is refused by field, without a place', (t) => {
  const wrong = { listeners: [{ address: ':8080', routes: [{ to: 'api', timeout: 2 }] }] };
  const error = refusalOf(t, () => checkShape(wrong as unknown as Config));
  t.deepEqual(error.issues, [
    {
      code: 'invalid',
      field: 'listeners[0].routes[0].timeout',
      message: 'expected a duration such as 250ms, 2s, 1.5s, 5m or 1h, at most 24h, received 2',
      expected: 'a duration such as 250ms, 2s, 1.5s, 5m or 1h, at most 24h',
      received: '2',
      suggestion: 'write 2s or 2ms',
    },
  ]);
  t.regex(error.message, /^listeners\[0\]\.routes\[0\]\.timeout: expected a duration/);
});

for (const [what, value] of [
  ['nothing', undefined],
  ['null', null],
  ['text', 'listeners'],
  ['a function', () => ({})],
  ['a list', []],
] as const) {
  test(`${what} is no configuration`, (t) => {
    const error = refusalOf(t, () => checkShape(value as unknown as Config));
    t.is(error.issues.length, 1);
  });
}

test('an object that holds itself is refused', (t) => {
  const circle: { listeners: unknown[] } = { listeners: [] };
  circle.listeners.push(circle);
  const error = refusalOf(t, () => checkShape(circle as Config));
  t.is(error.issues[0]?.message, 'expected at most 64 levels');
});

test('keys that every object has are unknown like any other', (t) => {
  const error = refusalOf(t, () => parseShape('constructor: 1\ntoString: 2\n__proto__: { admin: off }\n'));
  t.true(error.issues.some(({ field, code }) => field === 'constructor' && code === 'unknown_key'));
  t.is(({} as Config).admin, undefined);
});

test('a few lines that stand for a billion values are refused', (t) => {
  const levels = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i'];
  const bomb = levels.map((name, index) => {
    const item = index === 0 ? 'x' : `*${levels[index - 1]}`;
    return `${name}: &${name} [${Array.from({ length: 9 }, () => item).join(', ')}]`;
  });
  const error = refusalOf(t, () => parseShape(bomb.join('\n')));
  t.is(error.issues[0]?.message, 'expected at most 2,000,000 values, aliases followed');
});

test('an alias of itself, a deep nest and a long text are refused', (t) => {
  t.is(refusalOf(t, () => parseShape('a: &a [*a]')).issues[0]?.message, 'expected at most 64 levels');
  t.is(refusalOf(t, () => parseShape('['.repeat(50_000))).issues[0]?.message, 'expected at most 64 levels');
  const long = refusalOf(t, () => parseShape(`# ${'x'.repeat(8 * 1024 * 1024)}`));
  t.regex(long.issues[0]?.message ?? '', /^the text is too long/);
});

test('what is merged into itself is refused at its place', (t) => {
  const told = (text: string): string[] => refusalOf(t, () => parseConfig(text)).issues.map(renderIssue);
  for (const [text, line] of [
    ['a: &a\n  <<: *a', '2:3: *a merges'],
    ['a: &a\n  b: 1\n  <<: [*a]', '3:3: *a merges'],
    ['a: &a { b: &b { <<: *a }, <<: *b }', '1:17: *a merges'],
    ['a: &a { l: &l [*a], <<: *l }', '1:21: *l merges'],
    ['a: &a { b: { c: [{ <<: *a }] } }', '1:20: *a merges'],
    ['a: &a {}\nb: &a { <<: *a }', '2:9: *a merges'],
    ['&r\nclusters: { m: &m { <<: *r } }', '2:21: *r merges'],
  ] as const) {
    t.deepEqual(told(text), [`${line} keys and values into themselves`], text);
  }
  const { resources } = parseConfig(
    'clusters: { a: &a { dns: a.test:80 }, b: &b { <<: *a, dns: b.test:80 }, c: { <<: [*b, *a, *a] } }',
  ).compiled;
  t.deepEqual(
    resources.clusters.map(({ discovery }) => discovery?.kind === 'dns' && discovery.host),
    ['a.test', 'b.test', 'b.test'],
  );
});

test('a few merges that stand for a billion values are refused', (t) => {
  const levels = Array.from({ length: 40 }, (_, at) => `a${at + 1}: &a${at + 1} { <<: [*a${at}, *a${at}] }`);
  const error = refusalOf(t, () => parseShape(`a0: &a0 { k: 1 }\n${levels.join('\n')}`));
  t.deepEqual(
    error.issues.map(({ message }) => message),
    ['expected at most 2,000,000 values, merges followed'],
  );
});

test('listeners that are called alike have tables of short names', (t) => {
  const one = "{ address: ':80', to: 'a.test:1' }";
  const text = `routeTables: { ':80.routes2': [] }\nlisteners: [${Array.from({ length: 300 }, () => one).join()}]`;
  const tables = parseShape(text).compiled.resources.routeTables.map(({ name }) => name);
  t.deepEqual(tables.slice(0, 4), [':80.routes2', ':80', ':80.routes', ':80.routes3']);
  t.is(new Set(tables).size, 301);
  t.is(tables.at(-1), ':80.routes300');
});

test('more aliases than can be followed in time are refused', (t) => {
  const error = refusalOf(t, () => parseShape(`a: &a x\nb: [${'*a,'.repeat(10_001)}]`));
  t.is(error.issues[0]?.message, 'expected at most 10,000 aliases, found 10001');
});

test('no tag, and no version of YAML, makes a value that no schema looks into', (t) => {
  const told = (text: string): string[] => refusalOf(t, () => parseConfig(text)).issues.map(renderIssue);
  for (const tag of [
    'omap [ path: x ]',
    'set { path }',
    'timestamp 2001-01-01',
    'binary aGk=',
    'pairs [ a: b ]',
  ]) {
    const written = `!!${tag.split(' ')[0]}`;
    t.deepEqual(told(`listeners: [{ routes: [{ match: !!${tag}, to: 'a:1' }] }]`), [
      `1:33: expected a value without the tag ${written}`,
    ]);
    t.deepEqual(told(`!!${tag}`), [`1:1: expected a value without the tag ${written}`]);
  }
  t.deepEqual(told("listeners: [{ name: !web 'x' }]"), [
    '1:21: expected a value without the tag !web; write a value that starts with ! in quotes',
  ]);
  const older = '%YAML 1.1\n---\nlisteners: [{ address: ":1", routes: [{ match: 2001-01-01, to: "a:1" }] }]';
  t.deepEqual(told(older), [
    '3:48: listeners[0].routes[0].match: expected keys and values, received "2001-01-01"',
  ]);
});

test('a number that is too large is told once', (t) => {
  const text = 'listeners: [{ address: ":1", to: "a:1", limits: { connections: 99999999999999999999 } }]';
  t.is(refusalOf(t, () => parseConfig(text)).issues.length, 1);
});

test('of a file with hundreds of mistakes a hundred are told', (t) => {
  const routes = Array.from({ length: 500 }, () => '      - { to: api, timeout: 1 }');
  const error = refusalOf(t, () =>
    parseShape(`listeners:\n  - address: :1\n    routes:\n${routes.join('\n')}\n`),
  );
  t.is(error.issues.length, 100);
});

test('a thousand routes that share one anchor are no bomb', (t) => {
  const routes = Array.from(
    { length: 1000 },
    (_, index) =>
      `      - { match: { path: /r${index} }, to: api, timeout: ${index === 0 ? '&slow 5s' : '*slow'} }`,
  );
  const text = `listeners:\n  - address: :1\n    routes:\n${routes.join('\n')}\nclusters: { api: { endpoints: [] } }\n`;
  const [table] = parseConfig(text).compiled.resources.routeTables;
  t.is(table?.virtualHosts[0]?.routes.length, 1000);
  t.deepEqual(table?.virtualHosts[0]?.routes.at(-1)?.timeouts, { request: '5s' });
});

test('an error shows its line with a caret below the place, and what to do', (t) => {
  const error = refusalOf(t, () =>
    parseShape('listeners:\n  - adress: :8080\n    to: x:1\n', { file: 'mesh.yaml' }),
  );
  t.is(
    error.pretty(),
    [
      'mesh.yaml:2:5: error: listeners[0].address: missing: expected an address such as 127.0.0.1:8080, [::1]:8080, localhost:8080, :8080 or unix:/run/app.sock',
      '  2 |   - adress: :8080',
      '    |     ^',
      'mesh.yaml:2:5: error: listeners[0].adress: unknown key adress',
      '  2 |   - adress: :8080',
      '    |     ^ did you mean address?',
    ].join('\n'),
  );
  t.regex(error.message, /^mesh\.yaml:2:5: listeners\[0\]\.address: missing.* \(and 1 more\)$/);
  t.true(error.pretty({ colour: true }).includes('\u001B[31merror\u001B[0m'));
});

test('a caret stands under its place after tabs and in a very long line', (t) => {
  const tabs = refusalOf(t, () => parseShape('{\n\t\t"threads": "two"\n}'));
  t.true(tabs.pretty().endsWith('  2 | \t\t"threads": "two"\n    | \t\t           ^'));
  const padding = Array.from({ length: 200 }, (_, index) => `"c${index}":{"dns":"a.test:80"}`).join();
  const long = refusalOf(t, () => parseShape(`{"clusters":{${padding}},"threads":"two"}`));
  const [, excerpt = '', caret = ''] = long.pretty().split('\n');
  t.true(excerpt.length < 120);
  t.is(excerpt.slice(caret.indexOf('^')).slice(0, 5), '"two"');
});

test('a key in the file does not get into an error', (t) => {
  const pem = '-----BEGIN PRIVATE KEY-----\\nc2VjcmV0\\n-----END PRIVATE KEY-----';
  const text = `listeners:\n  - { address: :1, to: x:1, tls: { key: "${pem}", certificat: a } }\nadmin: "${pem}"\n`;
  const error = refusalOf(t, () => parseShape(text));
  t.true(error.issues.length >= 2);
  t.false(error.pretty().includes('c2VjcmV0'));
  t.false(JSON.stringify(error.issues).includes('c2VjcmV0'));
});

test('relative file names start at the folder of the file, text and absolute names stay', async (t) => {
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, 'etc'));
  const file = join(folder, 'etc', 'mesh.yaml');
  writeFileSync(
    file,
    `listeners:
  - address: :1
    tls: { certificate: ../web.crt, key: /keys/web.key, clientCertificates: { roots: '-----BEGIN CERTIFICATE-----' } }
    to: app
    accessLog: { path: log/access.log }
clusters:
  app: { dns: app.test:1, tls: { roots: roots.crt } }
`,
  );
  const { resources } = (await loadConfig(file)).compiled;
  const [listener] = resources.listeners;
  t.deepEqual(listener?.tls?.certificates, [{ certificate: join(folder, 'web.crt'), key: '/keys/web.key' }]);
  t.is(listener?.tls?.clientCertificates?.roots, '-----BEGIN CERTIFICATE-----');
  t.is(listener?.accessLog?.path, join(folder, 'etc', 'log', 'access.log'));
  t.is(resources.clusters[0]?.tls?.roots, join(folder, 'etc', 'roots.crt'));
});

test('a file that is not there, no file, or not UTF-8 is told in one line', async (t) => {
  const folder = temporaryFolder(t);
  const binary = join(folder, 'binary.yaml');
  writeFileSync(binary, Buffer.from([0xff, 0xfe, 0x00]));
  const secret = join(folder, 'secret.yaml');
  writeFileSync(secret, '');
  chmodSync(secret, 0);
  const expected: [file: string, message: string, suggestion?: string][] = [
    [join(folder, 'none.yaml'), 'there is no such file', `looked for in ${folder}`],
    [folder, 'expected a file, found a folder'],
    [binary, 'expected text in UTF-8'],
    ['/dev/null', 'expected a file, found a device'],
  ];
  // The superuser reads everything.
  if (process.getuid?.() !== 0) expected.push([secret, 'this user may not read the file']);
  for (const [file, message, suggestion] of expected) {
    const error = await t.throwsAsync(loadConfig(file), { instanceOf: ConfigError });
    const issue = {
      code: 'unreadable',
      field: '',
      file,
      message,
      ...(suggestion && { suggestion }),
    } as const;
    t.deepEqual((error as ConfigError).issues, [issue]);
  }
});

test('a pipe is read to its end, and no further than a configuration may go', async (t) => {
  const file = pipe(t);
  const loading = loadConfig(file);
  const writer = await open(file, 'w');
  await writer.write('threads: ');
  await writer.write('3\n');
  await writer.close();
  t.is((await loading).config.threads, 3);

  const endless = t.throwsAsync(loadConfig(file), { message: /has more than \d+ bytes: expected at most/ });
  const bytes = Buffer.alloc(2 ** 20, ' ');
  await t.throwsAsync(writeFile(file, Array<Buffer>(64).fill(bytes)), { code: 'EPIPE' });
  await endless;
});

test('what is loaded knows where it came from', async (t) => {
  const folder = temporaryFolder(t);
  const file = join(folder, 'mesh.yaml');
  writeFileSync(file, 'admin: off\nthreads: 3\nlameDuck: 1.5s\n');
  const loaded = await loadConfig(file);
  t.true(loaded instanceof LoadedConfig);
  t.is(loaded.file, file);
  t.deepEqual(loaded.compiled.settings, { admin: false, threads: 3, lameDuckMs: 1500 });
  t.is(loaded.explain([{ path: '', code: 'too_many', message: 'more' }]).issues[0]?.file, file);
});

test('paths of Unix sockets start at the folder of the file, wherever an address stands', async (t) => {
  const folder = temporaryFolder(t);
  const file = join(folder, 'mesh.yaml');
  writeFileSync(
    file,
    `admin: unix:admin.sock
listeners:
  - { address: unix:web.sock, to: unix:to.sock }
  - { name: tcp, address: 127.0.0.1:0, to: [{ cluster: app }] }
clusters:
  app: { endpoints: [unix:one.sock, { address: unix:/run/two.sock }, 127.0.0.1:1] }
`,
  );
  const { resources, settings } = (await loadConfig(file)).compiled;
  const placed = (name: string): string => `unix:${join(folder, name)}`;
  t.is(settings.admin, placed('admin.sock'));
  t.is(resources.listeners[0]?.address, placed('web.sock'));
  t.is(resources.listeners[0]?.name, 'unix:web.sock');
  t.deepEqual(
    resources.endpoints.map(({ cluster, localities }) => [
      cluster,
      localities.flatMap(({ endpoints }) => endpoints.map(({ address }) => address)),
    ]),
    [
      ['app', [placed('one.sock'), 'unix:/run/two.sock', '127.0.0.1:1']],
      ['unix:to.sock', [placed('to.sock')]],
    ],
  );
});

test('a Unix socket whose path is too long with its folder is refused at its place', async (t) => {
  const file = join(temporaryFolder(t), 'mesh.yaml');
  const name = 'n'.repeat(100);
  writeFileSync(file, `listeners: []\nadmin: unix:${name}\n`);
  const error = await t.throwsAsync(loadConfig(file), { instanceOf: ConfigError });
  t.like(error?.issues[0], { field: 'admin', line: 2, code: 'invalid' });
  writeFileSync(file, `listeners: [{ address: 'unix:${name}', to: '127.0.0.1:1' }]\n`);
  const loaded = parseShape(readFileSync(file, 'utf8'), { file });
  const [issue] = loaded.explain(validateResources(loaded.toJson())).issues;
  t.like(issue, { field: 'listeners[0].address', line: 1 });
});

test('a name that would vanish is refused', (t) => {
  for (const text of ['clusters: { __proto__: { endpoints: [] } }', '{"routeTables": {"__proto__": []}}']) {
    const error = refusalOf(t, () => parseShape(text));
    t.regex(error.issues[0]?.field ?? '', /\.__proto__$/);
    t.is(error.issues[0]?.line, 1);
  }
  const clusters = JSON.parse('{ "__proto__": {} }') as Config['clusters'];
  refusalOf(t, () => checkShape({ listeners: [], ...(clusters && { clusters }) }));
});

/** Every mistake of a text, as its line and field. */
function allMistakes(t: ExecutionContext, text: string): string[] {
  const error = withMeaning(
    refusalOf(t, () => parseShape(text)),
    validateResources,
  );
  if (!(error instanceof ConfigError)) throw new Error('it is no refusal');
  return error.issues.map(({ line, field }) => `${line} ${field}`);
}

test('a mistake of shape hides none of meaning, and each stands where it was written', (t) => {
  const text = `listeners:
  - { name: bad, adress: ':1', to: app }
  - name: web
    address: 127.0.0.1:0
    routes:
      - { to: app, timeout: soon }
      - { to: nowhere }
      - { match: { path: '/a' }, to: late }
      - { to: app, retries: { attempts: 1, on: [sometimes] } }
clusters:
  app: { endpoints: [127.0.0.1:1, 127.0.0.1] }
  late: { dns: late.test }
threads: many
`;
  t.deepEqual(allMistakes(t, text), [
    '2 listeners[0].address',
    '2 listeners[0].adress',
    '6 listeners[1].routes[0].timeout',
    '7 listeners[1].routes[1].to',
    '9 listeners[1].routes[3].retries',
    '11 clusters.app.endpoints[1]',
    '12 clusters.late.dns',
    '13 threads',
  ]);
});

test('what only follows from a part that was refused is not told', (t) => {
  const listeners = "listeners: [{ name: web, address: ':0', to: app }]\n";
  t.deepEqual(allMistakes(t, `${listeners}clusters: { app: none }\n`), ['2 clusters.app']);
  t.deepEqual(allMistakes(t, `${listeners}clusters: none\n`), ['2 clusters']);
  t.deepEqual(allMistakes(t, `${listeners}thread: 1\n`), ['1 listeners[0].to', '2 thread']);
  t.deepEqual(allMistakes(t, '[1]\n'), ['1 ']);
});

test('an object is told all its mistakes at once as well', (t) => {
  const config = { listeners: [{ address: ':0', to: 'nowhere' }], thread: 1 } as Config;
  const error = t.throws(() => createProxy(config), { instanceOf: ConfigError });
  t.deepEqual(error?.issues.map(({ field }) => field).toSorted(), ['listeners[0].to', 'thread']);
});

test('a weight of 0 is no way to take an endpoint out: which one there is', (t) => {
  const endpoints = [{ address: '127.0.0.1:1', weight: 0 }];
  t.throws(() => checkShape({ clusters: { a: { endpoints } } }), {
    message: /weight: expected a whole number, 1 to 1,000, received 0; health: draining takes it out$/,
  });
  t.throws(() => checkShape({ clusters: { a: { endpoints: [{ address: '127.0.0.1:1', weight: 1001 }] } } }), {
    message: /weight: expected a whole number, 1 to 1,000, received 1001$/,
  });
  t.throws(() => checkMeshConfig({ services: { a: { discover: { endpoints } } } }), {
    message: /weight: expected a whole number, 1 to [\d,]+, received 0; draining: true takes it out$/,
  });
});
