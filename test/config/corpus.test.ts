// Does every good file mean what stands beside it, and is every mistake of a bad file told at its place?
//
// A bad file says in its first lines what is expected: `#! LINE:COLUMN FIELD CODE | SUGGESTION`.

import { readFileSync } from 'node:fs';
import test from 'ava';
import type { ConfigIssue } from '../../src/config/index.js';
import { parseShape } from '../../src/config/load.js';
import { parseConfig } from '../../src/index.js';
import { parsePath, valueAt } from '../../src/config/path.js';
import { corpus, refusalOf } from './support.js';

for (const { name, path, text } of corpus('good')) {
  test(`good: ${name} means its resources`, (t) => {
    // Another folder than its own, so that the file names in the resources are the same everywhere.
    const { compiled } = parseConfig(text, { file: `/etc/mesh/${name}` });
    const expected: unknown = JSON.parse(readFileSync(path.replace(/\.\w+$/, '.resources.json'), 'utf8'));
    t.deepEqual(JSON.parse(JSON.stringify({ settings: compiled.settings, ...compiled.resources })), expected);
  });

  test(`good: every piece of the resources of ${name} has a place in the file`, (t) => {
    const loaded = parseConfig(text, { file: name });
    const { resources } = loaded.compiled;
    for (const leaf of leaves(resources)) {
      const [issue] = loaded.explain([{ path: leaf, code: 'probe', message: 'probe' }]).issues;
      t.truthy(issue?.field, `${leaf} comes from the whole`);
      t.true((issue?.line ?? 0) > 0, `${leaf} has no line`);
    }
  });
}

/** The paths of all texts, numbers and truths. */
function leaves(value: unknown, path = ''): string[] {
  if (typeof value !== 'object' || value === null) return [path];
  return Object.entries(value).flatMap(([key, child]) =>
    leaves(child, Array.isArray(value) ? `${path}[${key}]` : path === '' ? key : `${path}.${key}`),
  );
}

for (const { name, text } of corpus('bad')) {
  test(`bad: ${name} is refused with all its mistakes`, (t) => {
    const error = refusalOf(t, () => parseShape(text, { file: name }));
    const expected = Array.from(text.matchAll(/^#! (.*)$/gm), ([, line = '']) =>
      line.replaceAll(/\s+/g, ' ').trim(),
    );
    t.true(expected.length > 0, 'the file says what is expected');
    t.deepEqual(error.issues.map(summary).toSorted(), expected.toSorted());
    t.true(error.issues.every(({ file, message }) => file === name && message !== ''));
  });
}

function summary({ line, column, field, code, suggestion }: ConfigIssue): string {
  const place = line === undefined ? '- -' : `${line}:${column}`;
  return [place, field, code, suggestion && `| ${suggestion}`].filter(Boolean).join(' ');
}

test('issues stand in the order of the file', (t) => {
  for (const { name, text } of corpus('bad')) {
    const { issues } = refusalOf(t, () => parseShape(text));
    const places = issues.map(({ line = 0, column = 0 }) => line * 10_000 + column);
    t.deepEqual(
      places,
      places.toSorted((a, b) => a - b),
      name,
    );
  }
});

test('what the core finds is shown where it was written', (t) => {
  const maximal = corpus('good').find(({ name }) => name === 'maximal.yaml');
  const text = maximal?.text ?? '';
  const loaded = parseConfig(text, { file: 'maximal.yaml' });
  const { resources } = loaded.compiled;
  const table = resources.routeTables.findIndex(({ name }) => name === 'web');
  const users = `routeTables[${table}].virtualHosts[0].routes[1]`;
  t.is(valueAt(resources, parsePath(`${users}.name`)), 'users');
  const anonymous = resources.clusters.findIndex(({ name }) => name === '127.0.0.1:9000');
  const cases: [resource: string, field: string, written: string][] = [
    [
      `${users}.match.headers[4].value`,
      'listeners[0].routes[1].match.headers.x-many[0]',
      '{ suffix: -beta }',
    ],
    [`${users}.match.path.value`, 'listeners[0].routes[1].match.path', "'/users/{id}'"],
    [`${users}.match.methods[1]`, 'listeners[0].routes[1].match.method[1]', 'HEAD'],
    [`${users}.filters.requestHeaders.set[0].name`, 'listeners[0].routes[1].setHeaders.x-env', 'test'],
    [
      `${users}.filters.responseHeaders.remove[0]`,
      'listeners[0].routes[1].response.removeHeaders[0]',
      'server',
    ],
    [`${users}.action.to[1].cluster`, 'listeners[0].routes[1].to[1]', 'api-next'],
    [`${users}.timeouts.streamIdle`, 'listeners[0].routes[1].timeout.streamIdle', '10s'],
    [
      `routeTables[${table}].virtualHosts[1].hosts[0]`,
      'listeners[0].routes[1].match.host[1]',
      "'*.shop.test'",
    ],
    ['listeners[0].tls.certificates[1].key', 'listeners[0].tls.certificates[1].key', '|'],
    ['listeners[0].routes', 'listeners[0].routes', '- name: exact'],
    ['clusters[0].tls.serverName', 'clusters.api.tls.serverName', 'api.internal'],
    ['clusters[2].tls.serverName', 'clusters.site.tls', 'true'],
    ['clusters[2].discovery.host', 'clusters.site.dns', 'site.internal:443'],
    ['clusters[0].balancer.ringSize', 'clusters.api.balance.ringSize', '4096'],
    [
      'endpoints[0].localities[1].endpoints[0].weight',
      'clusters.api.endpoints[2]',
      '{ address: 127.0.0.1:3003',
    ],
    [`clusters[${anonymous}].name`, 'listeners[0].routes[5].to', '127.0.0.1:9000'],
  ];
  const lines = text.split('\n');
  for (const [resource, field, written] of cases) {
    const issue = loaded.explain([{ path: resource, code: 'bad_value', message: 'no', expected: 'yes' }])
      .issues[0];
    t.is(issue?.field, field, resource);
    const rest = lines[(issue?.line ?? 0) - 1]?.slice((issue?.column ?? 0) - 1) ?? '';
    t.true(rest.startsWith(written), `${resource}: ${rest}`);
    t.is(issue?.expected, 'yes');
  }
});
