// What the configuration tests share.

import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { ConfigError } from '../../src/errors.js';

/** The top of the repository: ava starts every test there. */
export const root = process.cwd();

/** The files of one half of the corpus: `good` or `bad`. */
export function corpus(half: 'good' | 'bad'): { name: string; path: string; text: string }[] {
  const folder = join(root, 'test', 'config', 'corpus', half);
  return readdirSync(folder)
    .filter((name) => /\.(yaml|json)$/.test(name) && !name.endsWith('.resources.json'))
    .map((name) => {
      const path = join(folder, name);
      return { name, path, text: readFileSync(path, 'utf8') };
    });
}

/** The error of work that must throw a `ConfigError`. */
export function refusalOf(t: ExecutionContext, work: () => unknown): ConfigError {
  const error = t.throws(work, { instanceOf: ConfigError });
  t.is(error?.code, 'MESH_CONFIG_INVALID');
  return error as ConfigError;
}
