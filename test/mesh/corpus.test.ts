// Does every good mesh file mean what stands beside it, and is every mistake of a bad one told at its place?
//
// A bad file says in its last lines what is expected: `#! LINE:COLUMN FIELD CODE | SUGGESTION`.

import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { type ConfigIssue, validateResources } from '../../src/index.js';
import { checkable, endpointsOf } from '../../src/mesh/compile.js';
import { type LoadedMesh, parseMesh } from '../../src/mesh/load.js';
import { ConfigError } from '../../src/errors.js';

const at = (...path: string[]): string => join(process.cwd(), 'test', 'mesh', 'corpus', ...path);

const files = (half: string): { name: string; text: string }[] =>
  readdirSync(at(half))
    .filter((name) => name.endsWith('.yaml'))
    .map((name) => ({ name, text: readFileSync(at(half, name), 'utf8') }));

/** What a file means, in plain values. */
function meaning(loaded: LoadedMesh): unknown {
  const { settings, services, routeTables, clusters, endpoints, names, workloads } = loaded.compiled;
  return { settings, services, names, routeTables, clusters, endpoints, workloads };
}

for (const { name, text } of files('good')) {
  test(`good: ${name} means what stands beside it, and the core takes it`, (t) => {
    const loaded = parseMesh(text, { file: `/etc/mesh/${name}` });
    const beside = at('good', name.replace('.yaml', '.json'));
    const is = JSON.stringify(meaning(loaded), null, 2);
    if (process.env['UPDATE_CORPUS']) writeFileSync(beside, `${is}\n`);
    t.deepEqual(JSON.parse(is), JSON.parse(readFileSync(beside, 'utf8')));
    t.deepEqual(validateResources(loaded.toJson()), []);
    const answering = (service: string) => (service === 'web' ? [{ address: '127.0.0.1:1' }] : []);
    const full = { ...checkable(loaded.compiled), endpoints: endpointsOf(loaded.compiled, answering) };
    t.deepEqual(validateResources(JSON.stringify(full)), []);
  });

  test(`good: what the core may say about ${name} has a place in the file`, (t) => {
    const loaded = parseMesh(text, { file: name });
    const { routeTables, clusters, endpoints, policies } = loaded.compiled;
    const whole = { routeTables, clusters, endpoints, policies: policies.map(({ policy }) => policy) };
    for (const leaf of leaves(whole)) {
      const [issue] = loaded.explain([{ path: leaf, code: 'probe', message: 'probe' }]).issues;
      t.true((issue?.line ?? 0) > 1, `${leaf} has no line`);
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

for (const { name, text } of files('bad')) {
  test(`bad: ${name} is refused with all its mistakes`, (t) => {
    const error = t.throws(
      () => {
        const loaded = parseMesh(text, { file: name });
        throw loaded.explain(validateResources(loaded.toJson()));
      },
      { instanceOf: ConfigError },
    );
    const said = error?.issues.map(summary) ?? [];
    const expected = Array.from(text.matchAll(/^#! (.*)$/gm), ([, line = '']) => line);
    if (process.env['UPDATE_CORPUS'] && expected.length === 0) {
      writeFileSync(at('bad', name), `${text}${said.map((line) => `#! ${line}\n`).join('')}`);
    }
    t.true(expected.length > 0, 'the file says what is expected');
    t.deepEqual(said, expected);
    t.true(error?.issues.every(({ file, message }) => file === name && message !== ''));
  });
}

function summary({ line, column, field, code, suggestion }: ConfigIssue): string {
  const place = line === undefined ? '- -' : `${line}:${column}`;
  return [place, field, code, suggestion && `| ${suggestion}`].filter(Boolean).join(' ');
}
