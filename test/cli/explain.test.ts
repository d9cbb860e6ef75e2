// Does `mesh explain` say which way a request takes, and why, to people, pipes and programs?

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import type { Core } from '../../src/cli/io.js';
import { type Ended, FakeWorld } from './world.js';

/** A world with the real core. */
class RealWorld extends FakeWorld {
  override loadCore(): Promise<Core> {
    return import('../../src/index.js');
  }
}

const folder = mkdtempSync(join(tmpdir(), 'mesh-explain-'));
const file = join(folder, 'mesh.yaml');
writeFileSync(
  file,
  `listeners:
  - name: web
    address: 127.0.0.1:8080
    routes:
      - name: beta
        match: { host: shop.test, path: /api/*, method: GET, headers: { x-beta: '1' } }
        to: next
      - name: api
        match: { host: shop.test, path: /api/*, method: [GET, POST] }
        to: [{ cluster: site, weight: 95 }, { cluster: next, weight: 5 }]
        timeout: 2s
      - match: { host: shop.test, path: /old }
        redirect: { path: /new }
      - match: { host: shop.test, grpc: shop.v1.Basket }
        to: site
      - match: { host: shop.test, path: /teapot }
        respond: { status: 418, body: 'no coffee' }
  - name: data
    address: 127.0.0.1:5432
    to: 127.0.0.1:5433
clusters:
  site: { endpoints: ['127.0.0.1:3000'] }
  next: { endpoints: ['127.0.0.1:3001'] }
`,
);
test.after.always(() => rmSync(folder, { recursive: true, force: true }));

const explain = (...args: string[]): Promise<Ended> =>
  new RealWorld().run('explain', '-c', file, ...args).then((ended) => ({
    ...ended,
    stdout: ended.stdout.replaceAll(file, 'mesh.yaml'),
  }));

test('in a pipe: what and where, parted by tabs', async (t) => {
  t.deepEqual(await explain('http://shop.test:8080/api/items?page=2'), {
    code: 0,
    stderr: '',
    stdout: `listener\tweb on 127.0.0.1:8080 (mesh.yaml:2:5)
route\tapi (mesh.yaml:8:9)
takes\thost shop.test, path /api/*, method GET or POST
forward\tsite 95 %, next 5 %
sends\tshop.test:8080 /api/items?page=2
within\t2s
passed over\tbeta (mesh.yaml:5:9): the header \`x-beta\` is not \`1\`
`,
  });
});

test('to a terminal: aligned', async (t) => {
  const world = new RealWorld();
  world.isTTY = true;
  Object.assign(world.env, { NO_COLOR: '1' });
  const { stdout } = await world.run('explain', '-c', file, 'http://shop.test:8080/teapot');
  t.true(stdout.includes('\ntakes     host shop.test, path /teapot\n'), stdout);
  t.true(stdout.endsWith('\nrespond   418 text/plain; charset=utf-8, 9 bytes\n'), stdout);
});

test('what is passed over says why', async (t) => {
  const { code, stdout } = await explain('http://shop.test:8080/api', '-X', 'PUT');
  t.is(code, 1);
  t.is(
    stdout,
    `listener\tweb on 127.0.0.1:8080 (mesh.yaml:2:5)
refused\t404 no_route: ${stdout.match(/no_route: (.*)/)?.[1]}
passed over\tbeta (mesh.yaml:5:9): the method is not GET
passed over\tapi (mesh.yaml:8:9): the method is not GET or POST
`,
  );
});

for (const [args, code, said] of [
  [['http://shop.test:8080/api/x', '-H', 'X-Beta: 1'], 0, /^route\tbeta .*\n.*\nforward\tnext$/m],
  [['http://x.test:8080/api/x', '-H', 'Host: shop.test', '-H', 'x-beta:1'], 0, /^route\tbeta /m],
  [
    ['/old?a=b', '--listener', 'web', '-H', 'host: shop.test'],
    0,
    /^redirect\t302 http:\/\/shop\.test\/new\?a=b$/m,
  ],
  [
    ['http://shop.test:8080/shop.v1.Basket/Get', '--protocol', 'grpc'],
    0,
    /^takes\t.*gRPC shop\.v1\.Basket\/\*$/m,
  ],
  [
    ['http://shop.test:8080/nothing', '--protocol', 'grpc'],
    1,
    /^refused\t404 no_route \(grpc-status 12\): /m,
  ],
  [['http://shop.test:8080/api/%2fetc'], 1, /^refused\t400 bad_request: path_escaped_slash$/m],
  [['tcp://db.test:5432'], 0, /^listener\tdata .*\nstream\t127\.0\.0\.1:5433$/m],
  [['tls://shop.test:8080', '--sni', 'shop.test'], 1, /^refused\t\d+ tls_not_configured: /m],
  [['http://shop.test/api'], 64, /^unclear\tname the listener; there are web, data$/m],
  [['ftp://shop.test/'], 64, /^unclear\t`ftp` is not a scheme/m],
] as const) {
  test(`explain ${args.join(' ')}`, async (t) => {
    const ended = await explain(...args);
    t.regex(ended.stdout, said);
    t.deepEqual([ended.code, ended.stderr], [code, '']);
  });
}

test('-o json: the decision, with the places where its parts were written', async (t) => {
  const { code, stdout } = await explain('http://shop.test:8080/api', '-o', 'json');
  t.is(code, 0);
  const route = 'listeners[0].routes[1]';
  t.deepEqual(JSON.parse(stdout), {
    listener: { name: 'web', place: { file: 'mesh.yaml', line: 2, column: 5, field: 'listeners[0]' } },
    route: {
      name: 'api',
      table: 'web',
      hosts: ['shop.test'],
      path: 'routeTables[0].virtualHosts[0].routes[1]',
      place: { file: 'mesh.yaml', line: 8, column: 9, field: route },
    },
    passedOver: [
      {
        name: 'beta',
        path: 'routeTables[0].virtualHosts[0].routes[0]',
        why: 'the header `x-beta` is not `1`',
        place: { file: 'mesh.yaml', line: 5, column: 9, field: 'listeners[0].routes[0]' },
      },
    ],
    outcome: {
      kind: 'forward',
      clusters: [
        { cluster: 'site', percent: 95 },
        { cluster: 'next', percent: 5 },
      ],
      path: '/api',
      host: 'shop.test:8080',
      timeout: '2s',
    },
  });
});

test('wrong usage and wrong configurations are 64', async (t) => {
  const bad = join('test', 'config', 'corpus', 'bad', 'missing.yaml');
  const world = (): RealWorld => new RealWorld();
  for (const [ended, said] of [
    [await explain('/', '-H', 'nonsense'), /--header: expected 'name: value', received "nonsense"/],
    [await explain(), /missing required argument 'url'/],
    [await world().run('explain', '/'), /required option '-c, --config <file>'/],
    [await world().run('explain', '-c', bad, '/'), /missing\.yaml:3:5: error: /],
  ] as const) {
    t.is(ended.code, 64);
    t.regex(ended.stderr, said);
  }
});
