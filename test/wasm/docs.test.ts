// Does the example of docs/wasm.md print what stands below it?

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import test from 'ava';
import { example, page } from '../docs/support.js';
import { node } from '../house/support.js';

test('the example of the manual runs and prints what it says', async (t) => {
  const { code, stdout, stderr } = await node(['--input-type=module', '-e', example('docs/wasm.md', 'ask')]);
  t.deepEqual([code, stderr], [0, '']);
  t.is(stdout, example('docs/wasm.md', 'printed'));
});

test('the size in the manual is about right', (t) => {
  const [, said, compressed] = /about (\d+) kB, (\d+) kB compressed/.exec(page('docs/wasm.md')) ?? [];
  const file = readFileSync(join('dist', 'wasm', 'mesh.wasm'));
  for (const [is, bytes] of [
    [said, file.length],
    [compressed, gzipSync(file).length],
  ] as const) {
    t.true(Math.abs(bytes / 1000 / Number(is) - 1) < 0.05, `${bytes} bytes`);
  }
});
