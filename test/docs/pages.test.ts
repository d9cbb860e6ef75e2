// Is the manual short, and is everything in it true: its links, its configurations, its code, its tables?

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test from 'ava';
import { checkValue } from '../../src/config/load.js';
import { isMesh, readDocument } from '../../src/config/origin.js';
import * as api from '../../src/index.js';
import { checkMeshValue } from '../../src/mesh/load.js';
import { node } from '../house/support.js';
import { httpOrigin } from '../support/http.js';
import { Ports, example, examples, page, pages } from './support.js';

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
  for (const path of ['README.md', ...pages]) {
    for (const { text } of examples(path).filter(({ language }) => language === 'yaml')) {
      const read = readDocument(text, path);
      const loaded = isMesh(read) ? checkMeshValue(read) : checkValue(read);
      t.deepEqual(api.validateResources(loaded.toJson()), [], path);
    }
  }
});

test('routing: requests take the routes that the table says', (t) => {
  const config = example('docs/routing.md', 'mesh.yaml');
  const resources = api.parseConfig(config).toJson();
  const rows = [
    ...page('docs/routing.md').matchAll(/^\| `(\w+) (\S+)(?: ([\w-]+): (\w+))?` \| `(\w+)` \|/gm),
  ];
  for (const [, method = '', url = '', header = '', value = '', route = ''] of rows) {
    const described: api.DescribedRequest = {
      url,
      ...(method === 'GRPC' ? { protocol: 'grpc' } : { method }),
      ...(header && { headers: { [header]: value } }),
    };
    t.is(api.routeRequest(resources, described).route?.name, route, `${method} ${url}`);
  }
  const names = [...config.matchAll(/\{ name: (\w+),/g)].map(([, name]) => name);
  t.deepEqual(new Set(rows.map((row) => row[5])), new Set(names), 'each route is taken by some request');
});

for (const [path, code, printed] of [
  ['docs/routing.md', example('docs/routing.md', 'ask'), example('docs/routing.md', 'printed')],
  ['docs/embedding.md', example('docs/embedding.md', 'embed'), example('docs/embedding.md', 'printed')],
] as const) {
  test(`the code of ${path} prints what stands below it`, async (t) => {
    const ports = new Ports({ 3000: (await httpOrigin(t)).port });
    const { code: exit, stdout, stderr } = await node(['--input-type=module', '-e', await ports.in(code)]);
    t.deepEqual([exit, stderr], [0, '']);
    t.is(ports.back(stdout), printed);
  });
}

test('the errors of the API are those of the page', (t) => {
  const rows = [...page('docs/errors.md').matchAll(/^\| `(\w+)`.* \| `(\w+Error)` \|/gm)].map(
    ([, , name = '']) => name,
  );
  const named = new Set(rows.filter((name) => name !== 'MeshError'));
  const classes = Object.keys(api).filter((name) => name.endsWith('Error') && name !== 'MeshError');
  t.deepEqual([...named].toSorted(), classes.toSorted());
});
