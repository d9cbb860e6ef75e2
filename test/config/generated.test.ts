// Is what is made of the schema up to date? Run `node dist/generate.js --sources` after a change.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { CONFIG, jsonSchema, referenceTables, typeDeclarations } from '../../src/config/describe.js';
import { type Config, parseConfig } from '../../src/index.js';
import type { ConfigShape } from '../../src/config/schema.js';
import { MESH } from '../../src/mesh/schema.js';
import { example } from '../docs/support.js';
import { corpus, root } from './support.js';

/** Without what a formatter may change: spaces, rulers of tables, the leading bar of a union. */
const squeezed = (text: string): string =>
  text
    .replaceAll(/-{3,}/g, '-')
    .replaceAll(/\s+/g, '')
    .replaceAll(/([:=(])\|/g, '$1');

const BOOKS = [
  { book: CONFIG, folder: 'config', page: 'configuration.md', file: 'schema.json' },
  { book: MESH, folder: 'mesh', page: 'mesh-file.md', file: 'mesh-schema.json' },
];

for (const { book, folder, page, file } of BOOKS) {
  test(`${folder}: the types are those of the schema`, (t) => {
    const source = readFileSync(join(root, 'src', folder, 'types.ts'), 'utf8');
    t.is(squeezed(source), squeezed(typeDeclarations(book)));
  });

  test(`${folder}: the tables of the manual are those of the schema`, (t) => {
    const [, tables = ''] = readFileSync(join(root, 'docs', page), 'utf8').split('<!-- generated -->');
    t.is(squeezed(tables), squeezed(referenceTables(book)));
  });

  test(`${folder}: the JSON Schema that ships is that of the schema`, (t) => {
    t.deepEqual(JSON.parse(readFileSync(join(root, 'dist', file), 'utf8')), jsonSchema(book));
  });

  test(`${folder}: every key is documented, and every part is a name that editors can show`, (t) => {
    const { $defs } = jsonSchema(book) as {
      $defs: Record<string, { description?: string; properties?: Record<string, { description?: string }> }>;
    };
    for (const [name, { description, properties = {} }] of Object.entries($defs)) {
      t.truthy(description, name);
      for (const [key, value] of Object.entries(properties)) t.truthy(value.description, `${name}.${key}`);
    }
  });
}

test('the example of the manual is the one that is tested', (t) => {
  const tested = corpus('good').find(({ name }) => name === 'gateway.yaml')?.text ?? '';
  const { resources } = parseConfig(example('docs/configuration.md', 'mesh.yaml'), {
    file: 'mesh.yaml',
  }).compiled;
  t.is(resources.listeners.length, 1);
  t.deepEqual(resources, parseConfig(tested, { file: 'mesh.yaml' }).compiled.resources);
});

test('the documented types accept what the schema accepts, and nothing else', (t) => {
  // Checked by the compiler: each is assignable to the other.
  const toShape = (config: Config): ConfigShape => config;
  const toConfig = (shape: ConfigShape): Config => shape;
  t.deepEqual(toConfig(toShape({})), {});
});
