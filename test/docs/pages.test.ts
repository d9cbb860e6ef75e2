// Is the manual short, and is everything in it true: its links, its configurations, its code, its tables?

import { existsSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test from 'ava';
import { checkValue } from '../../src/config/load.js';
import { isMesh, readDocument } from '../../src/config/origin.js';
import * as errors from '../../src/errors.js';
import { type DescribedRequest, parseConfig, routeRequest, validateResources } from '../../src/index.js';
import { checkMeshValue } from '../../src/mesh/load.js';
import { node } from '../house/support.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin } from '../support/http.js';
import { must, start } from '../support/processes.js';
import { cleanEnvironment, sidecarFile } from '../support/sidecar.js';
import { until } from '../support/wait.js';
import { Ports, blocks, page, pages } from './support.js';

const MOST_LINES = 150;
/** Made of the schemas, key by key. */
const REFERENCE = new Set([join('docs', 'configuration.md'), join('docs', 'mesh-file.md')]);

test('pages are short', (t) => {
  for (const path of pages.filter((each) => !REFERENCE.has(each))) {
    t.true(page(path).split('\n').length <= MOST_LINES, path);
  }
});

test('links lead somewhere, and the README leads to every page', (t) => {
  const linked = new Set<string>();
  for (const path of ['README.md', ...pages]) {
    for (const [, target = ''] of page(path).matchAll(/\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)/g)) {
      const file = join(dirname(path), target);
      t.true(existsSync(file), `${path} links to ${target}`);
      if (path === 'README.md') linked.add(file);
    }
  }
  for (const path of pages) t.true(linked.has(path), `the README does not link to ${path}`);
});

test('every configuration in it is good', (t) => {
  let seen = 0;
  for (const path of ['README.md', ...pages]) {
    for (const text of blocks(path, 'yaml')) {
      seen += 1;
      const read = readDocument(text, path);
      const loaded = isMesh(read) ? checkMeshValue(read) : checkValue(read);
      t.deepEqual(validateResources(loaded.toJson()), [], path);
    }
  }
  t.true(seen >= 3);
});

test('routing: requests take the routes that the table says', (t) => {
  const [config = ''] = blocks('docs/routing.md', 'yaml');
  const resources = parseConfig(config).toJson();
  const rows = [
    ...page('docs/routing.md').matchAll(/^\| `(\w+) (\S+)(?: ([\w-]+): (\w+))?` \| `(\w+)` \|/gm),
  ];
  for (const [, method = '', url = '', header = '', value = '', route = ''] of rows) {
    const described: DescribedRequest = {
      url,
      ...(method === 'GRPC' ? { protocol: 'grpc' } : { method }),
      ...(header && { headers: { [header]: value } }),
    };
    t.is(routeRequest(resources, described).route?.name, route, `${method} ${url}`);
  }
  const names = [...config.matchAll(/\{ name: (\w+),/g)].map(([, name]) => name);
  t.deepEqual(new Set(rows.map((row) => row[5])), new Set(names), 'each route is taken by some request');
});

for (const path of ['docs/routing.md', 'docs/embedding.md']) {
  test(`the code of ${path} prints what stands below it`, async (t) => {
    const ports = new Ports({ 3000: (await httpOrigin(t)).port });
    const codes = blocks(path, 'js');
    t.true(codes.length > 0);
    for (const [index, code] of codes.entries()) {
      const { code: exit, stdout, stderr } = await node(['--input-type=module', '-e', await ports.in(code)]);
      t.deepEqual([exit, stderr], [0, '']);
      t.is(ports.back(stdout), blocks(path, 'text')[index] ?? 'nothing stands below');
    }
  });
}

test('the errors of the API are those of the page', (t) => {
  const rows = [...page('docs/errors.md').matchAll(/^\| `(\w+)`.* \| `(\w+Error)` \|/gm)].map(
    ([, , name = '']) => name,
  );
  const classes = Object.keys(errors).filter((name) => name !== 'MeshError');
  t.deepEqual(rows.toSorted(), classes.toSorted());
});

test('sidecar: its commands run as they stand there', async (t) => {
  const [run = '', compiled = '', command = ''] = blocks('docs/sidecar.md', 'sh');
  const origin = await httpOrigin(t);
  const folder = temporaryFolder(t);
  writeFileSync(
    join(folder, 'mesh.yaml'),
    `listeners: [{ address: '127.0.0.1:0', to: ${origin.address} }]\n`,
  );
  const ports = new Ports({ 3000: origin.port });
  const options = { cwd: folder, env: { ...cleanEnvironment(), MESH_ADMIN: 'off' } };
  const words = (line: string): string[] => line.trim().split(/\s+/).slice(1);

  const one = start(t, sidecarFile(), words(await ports.in(run)), options);
  await one.said(/listens on/);
  t.is((await fetch(`http://127.0.0.1:${await ports.of('8080')}/`)).status, 200);
  await one.kill();

  const server =
    "import http from 'node:http'; http.createServer((_, r) => r.end('mine')).listen(PORT, '127.0.0.1');";
  const behind = new Ports();
  writeFileSync(join(folder, 'server.mjs'), server.replace('PORT', String(await behind.of('3000'))));
  const both = start(t, sidecarFile(), words(await behind.in(command)), options);
  await both.said(/listens on/);
  const url = `http://127.0.0.1:${await behind.of('8080')}/`;
  t.is(
    await until('the command answers', async () => (await (await fetch(url)).text()).match(/^mine$/)?.[0]),
    'mine',
  );
  await both.kill();

  const [compile = '', check = '', serve = ''] = compiled.trim().split('\n');
  t.is(compile, 'mesh compile mesh.yaml > resources.json');
  const main = join(process.cwd(), 'dist', 'cli', 'main.js');
  const resources = await must(process.execPath, [main, 'compile', 'mesh.yaml'], options);
  writeFileSync(join(folder, 'resources.json'), resources);
  await must(sidecarFile(), words(check), options);
  await start(t, sidecarFile(), words(serve), options).said(/listens on/);
});
