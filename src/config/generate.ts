/**
 * Writes what is made of the schema. Part of the build; runs as a program.
 *
 *     node dist/config/generate.js              dist/schema.json, the JSON Schema for editors
 *     node dist/config/generate.js --sources    also src/config/types.ts and the tables in docs/configuration.md
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { jsonSchema, referenceTables, typeDeclarations } from './describe.js';

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

writeFileSync(at('../schema.json'), `${JSON.stringify(jsonSchema(), null, 2)}\n`);

if (process.argv.includes('--sources')) {
  writeFileSync(at('../../src/config/types.ts'), typeDeclarations());
  const page = at('../../docs/configuration.md');
  const [before] = readFileSync(page, 'utf8').split('<!-- generated -->');
  writeFileSync(page, `${before}<!-- generated -->\n\n${referenceTables()}`);
}
