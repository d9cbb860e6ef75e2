// Does the JSON Schema tell an editor what is wrong with a file? A validator that knows nothing of ours reads it.

import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import test from 'ava';
import { parse } from 'yaml';
import { root } from './support.js';

/** Files whose mistakes no schema tells: they have the right shape, and names that lead nowhere or contradict another. */
const BEYOND = {
  config: [],
  mesh: [
    'answers.yaml',
    'environment.yaml',
    'meaning.yaml',
    'names.yaml',
    'numbers.yaml',
    'policies.yaml',
    'sources.yaml',
    'twice.yaml',
  ],
};

/** The files of a corpus that YAML reads, with what it reads. */
function documents(folder: string, half: string): [name: string, value: unknown][] {
  const path = join(root, 'test', folder, 'corpus', half);
  return readdirSync(path)
    .filter((name) => name.endsWith('.yaml'))
    .flatMap((name): [string, unknown][] => {
      try {
        return [[name, parse(readFileSync(join(path, name), 'utf8'), { merge: true, logLevel: 'error' })]];
      } catch {
        return [];
      }
    });
}

for (const [folder, file] of [
  ['config', 'schema.json'],
  ['mesh', 'mesh-schema.json'],
] as const) {
  const schema = JSON.parse(readFileSync(join(root, 'dist', file), 'utf8')) as object;
  // A part that says which keys do not go together names keys of the part around it.
  const validate = new Ajv2020({ allErrors: true, strictRequired: false }).compile(schema);

  test(`${folder}: an editor finds nothing wrong with a good file`, (t) => {
    const good = documents(folder, 'good');
    t.true(good.length > 1);
    for (const [name, value] of good) t.true(validate(value), `${name}: ${JSON.stringify(validate.errors)}`);
  });

  test(`${folder}: an editor finds something wrong with a bad one`, (t) => {
    const bad = documents(folder, 'bad');
    t.true(bad.length > 1);
    t.deepEqual(
      bad.filter(([, value]) => validate(value)).map(([name]) => name),
      BEYOND[folder],
    );
  });
}
