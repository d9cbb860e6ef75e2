// Is an option that makes no sense refused, and told what would make sense?

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import test from 'ava';
import { checkShape } from '../../src/config/load.js';
import {
  type Config,
  type DrainOptions,
  MeshError,
  OptionError,
  type ProxyOptions,
  type WatchOptions,
  createProxy,
  loadConfig,
  loadMesh,
  parseConfig,
  parseMesh,
  watchConfig,
} from '../../src/index.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin, request } from '../support/http.js';
import { until, within } from '../support/wait.js';
import { everythingTo, listening, makeProxy } from './support.js';

const CONFIG = everythingTo('127.0.0.1:1');

/** What is refused, as no compiler would let it pass. */
const REFUSED: [options: unknown, message: RegExp][] = [
  [{ lameDuckMs: '3s' }, /^lameDuckMs: expected a number of milliseconds, 0 or more, received 3s$/],
  [{ lameDuckMs: -5 }, /^lameDuckMs: .*, received -5$/],
  [{ lameDuckMs: Number.NaN }, /^lameDuckMs: expected .*, received NaN$/],
  [{ thread: 2 }, /^options: expected one of logger, .*, received thread; did you mean threads\?$/],
  [{ somethingElse: 2 }, /^options: expected one of logger, .*, received somethingElse$/],
  [{ threads: '2' }, /^threads: expected a whole number, 1 to 256, received 2$/],
  [{ threads: null }, /^threads: .*, received null$/],
  [{ admin: true }, /^admin: expected .*, or false, received true$/],
  [{ admin: null }, /^admin: .*, received null$/],
  [{ signal: {} }, /^signal: expected an AbortSignal, received \{\}$/],
  [{ dnsServers: '10.0.0.53' }, /^dnsServers: expected a list of name servers, received 10\.0\.0\.53$/],
  [{ dnsServers: [53] }, /^dnsServers: expected .*, received 53$/],
  [
    { logger: {} },
    /^logger: expected a logger with the methods debug, info, warn, and error, received \{\}$/,
  ],
  [{ logger: () => {} }, /^logger: expected /],
  [null, /^options: expected an object, received null$/],
  ['threads', /^options: expected an object, received threads$/],
];

for (const [options, message] of REFUSED) {
  test(`of a proxy: ${message.source}`, (t) => {
    const error = t.throws(() => createProxy(CONFIG, options as ProxyOptions), { instanceOf: OptionError });
    t.is(error?.code, 'MESH_OPTION_INVALID');
    t.regex(error?.message ?? '', message);
  });
}

test('what is undefined is absent, and a logger may be a function with methods', async (t) => {
  const logger = Object.assign(() => {}, { debug() {}, info() {}, warn() {}, error() {} });
  const options = { admin: undefined, lameDuckMs: undefined, threads: undefined, dnsServers: undefined };
  const proxy = createProxy(CONFIG, { ...options, signal: undefined, logger } as unknown as ProxyOptions);
  await proxy.listen();
  await proxy.close();
  t.false(proxy.listening);
});

test('of listen() and drain(): nothing has begun, and work in flight goes on', async (t) => {
  let answer = (): void => {};
  const origin = await httpOrigin(t, (_, response) => {
    answer = () => response.end('whole');
  });
  const idle = makeProxy(t, CONFIG);
  await t.throwsAsync(idle.listen({ signal: {} as AbortSignal }), { instanceOf: OptionError });
  await t.throwsAsync(idle.listen({ timeout: 1 } as object), { instanceOf: OptionError });
  t.false(idle.listening);

  const { proxy, port } = await listening(t, everythingTo(origin.address));
  const underWay = request(port);
  await until('a request is under way', () => origin.requests === 1);
  for (const options of [
    { timeoutMs: '5s' },
    { timeoutMs: null },
    { lameDuckMs: Number.NaN },
    { lameDuckMs: -5 },
    { timeoutMs: -1 },
    { timeoutMs: -Infinity },
    { timeout: 5 },
  ]) {
    await t.throwsAsync(proxy.drain(options as DrainOptions), { instanceOf: OptionError });
  }
  t.true(proxy.listening);
  answer();
  t.is((await underWay).text, 'whole');
  await within('the end of the drain', proxy.drain({ timeoutMs: Infinity, lameDuckMs: 0 }));
});

test('a configuration that is awaited nowhere, or is no plain object, is refused', (t) => {
  const refused: [config: unknown, message: RegExp][] = [
    [Promise.resolve(CONFIG), /expected keys and values, received a promise; write await before it/],
    [new Map(), /expected keys and values, received an object of the class Map/],
    [
      { listeners: [new Date()] },
      /^listeners\[0\]: expected keys and values, received an object of the class Date/,
    ],
    [
      { clusters: { a: { endpoints: [{ address: '127.0.0.1:1', weight: new Date() }] } } },
      /^clusters\.a\.endpoints\[0\]\.weight: expected a whole number, 1 to 1,000, received an object of the class Date$/,
    ],
    [
      { listeners: [{ address: ':0', to: '127.0.0.1:1', limits: { connections: 5n } }] },
      /limits\.connections: expected a whole number, 1 to 10,000,000, received the BigInt 5n; write 5$/,
    ],
    [
      { listeners: [], clusters: Promise.resolve({}) },
      /^clusters: expected names with clusters, received a promise; write await before it$/,
    ],
    [{ listener: new Map() }, /unknown key listener/],
  ];
  for (const [config, message] of refused) {
    const error = t.throws(() => createProxy(config as Config), { instanceOf: MeshError });
    t.is(error?.code, 'MESH_CONFIG_INVALID');
    t.regex(error?.message ?? '', message);
  }
  const bare = Object.assign(Object.create(null) as object, CONFIG);
  t.notThrows(() => createProxy(bare, { threads: 1 }));
});

test('a configuration that another copy of the package has loaded is one', async (t) => {
  const copy = (await import(new URL('../../src/config/load.js?copy', import.meta.url).href)) as {
    checkShape: typeof checkShape;
  };
  t.not(copy.checkShape, checkShape);
  const proxy = createProxy(copy.checkShape(CONFIG), { threads: 1 });
  t.is((await proxy.listen()).addresses.length, 1);
  await proxy.close();
});

test('of what loads a configuration or a mesh file: neither a file nor a text', async (t) => {
  const said = async (call: () => unknown): Promise<string | undefined> => {
    const error = await t.throwsAsync(async () => await call(), { instanceOf: OptionError });
    return error?.message;
  };
  for (const load of [loadConfig, loadMesh, watchConfig] as ((file: unknown) => unknown)[]) {
    for (const file of [undefined, 5, '', new URL('https://shop.test/mesh.yaml')]) {
      t.regex(
        (await said(() => load(file))) ?? '',
        /^file: expected the path of a file, or its URL, received /,
      );
    }
  }
  for (const parse of [parseConfig, parseMesh] as ((text: unknown, options?: unknown) => unknown)[]) {
    for (const text of [undefined, Buffer.from('listeners: []')]) {
      t.regex((await said(() => parse(text))) ?? '', /^text: expected a text, YAML or JSON, received /);
    }
    t.is(await said(() => parse('', { file: 5 })), 'file: expected the path of a file, received 5');
    t.is(await said(() => parse('', 'mesh.yaml')), 'options: expected an object, received mesh.yaml');
  }
});

test('of watchConfig(): nothing is watched, and no timer runs that would wait for nothing', (t) => {
  const refused: [options: unknown, message: RegExp][] = [
    [null, /^options: expected an object, received null$/],
    [{ interval: 5 }, /^options: expected one of since, signal, debounceMs, pollMs, received interval$/],
    [{ signal: {} }, /^signal: expected an AbortSignal, received \{\}$/],
    [{ since: CONFIG }, /^since: expected a configuration that was loaded, received /],
    [{ pollMs: Number.NaN }, /^pollMs: expected a number of milliseconds, 1 to 2147483647, received NaN$/],
    [{ pollMs: Infinity }, /^pollMs: .*, received Infinity$/],
    [{ pollMs: 0 }, /^pollMs: .*, received 0$/],
    [{ debounceMs: '100' }, /^debounceMs: expected a number of milliseconds, 0 to 2147483647, received 100$/],
  ];
  const timers = (): number => process.getActiveResourcesInfo().filter((each) => each === 'Timeout').length;
  const before = timers();
  for (const [options, message] of refused) {
    const error = t.throws(() => watchConfig('mesh.yaml', options as WatchOptions), {
      instanceOf: OptionError,
    });
    t.regex(error?.message ?? '', message);
  }
  t.is(timers(), before);
});

test('a file may be named by its URL, as one beside a module is', async (t) => {
  const file = join(temporaryFolder(t), 'a b.yaml');
  writeFileSync(file, 'listeners: [{ address: ":1", to: "localhost:2" }]\n');
  t.is((await loadConfig(pathToFileURL(file))).file, (await loadConfig(file)).file);
});
