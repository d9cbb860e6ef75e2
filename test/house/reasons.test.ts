// Is each reason of the closed list seen from the outside by a test?

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { files, root } from './support.js';

/** Caused by nothing but a defect of the core. */
const UNSEEN = new Set(['internal']);

test('each reason is asserted by a test that only sees the proxy from the outside', (t) => {
  const source = readFileSync(join(root, 'crates/model/src/errors.rs'), 'utf8');
  const reasons = [...source.matchAll(/^ {4}\w+ = "([a-z0-9_]+)", /gm)].map(([, token = '']) => token);
  t.true(reasons.length > 40);
  const isTest = /^(test\/(?!house\/).*\.ts|crates\/[^/]+\/tests\/.*\.rs)$/;
  const tests = files()
    .filter((file) => isTest.test(file))
    .map((file) => readFileSync(join(root, file), 'utf8'))
    .join('\n');
  const isNamed = (token: string) => new RegExp(`['"\`/*]${token}['"\`/:\\\\]`).test(tests);
  t.deepEqual(
    reasons.filter((token) => !isNamed(token) && !UNSEEN.has(token)),
    [],
  );
});
