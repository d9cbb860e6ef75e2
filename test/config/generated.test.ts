// Is what is made of the schema up to date? Run `node dist/config/generate.js --sources` after a change.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { jsonSchema, referenceTables, typeDeclarations } from '../../src/config/describe.js';
import { type Config, parseConfig } from '../../src/config/index.js';
import type { ConfigShape } from '../../src/config/schema.js';
import { corpus, root } from './support.js';

/** Without what a formatter may change: spaces, rulers of tables, the leading bar of a union. */
const squeezed = (text: string): string =>
  text
    .replaceAll(/-{3,}/g, '-')
    .replaceAll(/\s+/g, '')
    .replaceAll(/([:=(])\|/g, '$1');

test('the types are those of the schema', (t) => {
  const source = readFileSync(join(root, 'src', 'config', 'types.ts'), 'utf8');
  t.is(squeezed(source), squeezed(typeDeclarations()));
});

test('the tables of the manual are those of the schema', (t) => {
  const [, tables = ''] = readFileSync(join(root, 'docs', 'configuration.md'), 'utf8').split(
    '<!-- generated -->',
  );
  t.is(squeezed(tables), squeezed(referenceTables()));
});

test('the example of the manual is the one that is tested', (t) => {
  const [example] = Array.from(
    readFileSync(join(root, 'docs', 'configuration.md'), 'utf8').matchAll(/^```yaml\n([^]*?)^```/gm),
    ([, text = '']) => text,
  );
  const tested = corpus('good').find(({ name }) => name === 'gateway.yaml')?.text ?? '';
  const { resources } = parseConfig(example ?? '', { file: 'mesh.yaml' }).compiled;
  t.is(resources.listeners.length, 1);
  t.deepEqual(resources, parseConfig(tested, { file: 'mesh.yaml' }).compiled.resources);
});

test('the JSON Schema that ships is that of the schema', (t) => {
  t.deepEqual(JSON.parse(readFileSync(join(root, 'dist', 'schema.json'), 'utf8')), jsonSchema());
});

test('every key is documented, and every part is a name that editors can show', (t) => {
  const { $defs } = jsonSchema() as {
    $defs: Record<string, { description?: string; properties?: Record<string, { description?: string }> }>;
  };
  for (const [name, { description, properties = {} }] of Object.entries($defs)) {
    t.truthy(description, name);
    for (const [key, value] of Object.entries(properties)) t.truthy(value.description, `${name}.${key}`);
  }
});

test('the documented types accept what the schema accepts, and nothing else', (t) => {
  // Checked by the compiler: each is assignable to the other.
  const toShape = (config: Config): ConfigShape => config;
  const toConfig = (shape: ConfigShape): Config => shape;
  t.deepEqual(toConfig(toShape({})), {});
});
