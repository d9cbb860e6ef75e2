/**
 * Writes what is made of the schemas. Part of the build; runs as a program.
 *
 *     node dist/generate.js              dist/schema.json and dist/mesh-schema.json, for editors
 *     node dist/generate.js --sources    also the types.ts beside each schema, and the tables in docs/
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Book, CONFIG, jsonSchema, referenceTables, typeDeclarations } from './config/describe.js';
import { MESH } from './mesh/schema.js';

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

const MADE: readonly { book: Book; schema: string; types: string; page: string }[] = [
  {
    book: CONFIG,
    schema: './schema.json',
    types: '../src/config/types.ts',
    page: '../docs/configuration.md',
  },
  {
    book: MESH,
    schema: './mesh-schema.json',
    types: '../src/mesh/types.ts',
    page: '../docs/mesh-file.md',
  },
];

for (const { book, schema, types, page } of MADE) {
  writeFileSync(at(schema), `${JSON.stringify(jsonSchema(book), null, 2)}\n`);
  if (!process.argv.includes('--sources')) continue;
  writeFileSync(at(types), typeDeclarations(book));
  const [before] = readFileSync(at(page), 'utf8').split('<!-- generated -->');
  writeFileSync(at(page), `${before}<!-- generated -->\n\n${referenceTables(book)}`);
}
