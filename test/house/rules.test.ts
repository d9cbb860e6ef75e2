// Do the rules that machines hold really hold: licences, bans, lints?

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { temporaryFolder } from '../support/files.js';
import { node, root, script } from './support.js';

const { isAllowed } = await script<{ isAllowed(expression: string, allowed: Set<string>): boolean }>(
  'lib/spdx.mjs',
);
const allowed = new Set(['MIT', 'ISC', 'Apache-2.0 WITH LLVM-exception']);

for (const [expression, expected] of [
  ['MIT', true],
  ['GPL-3.0', false],
  ['GPL-3.0 OR MIT', true],
  ['GPL-3.0 AND MIT', false],
  ['MIT/GPL-2.0', true],
  ['ISC AND (MIT OR GPL-2.0)', true],
  ['MIT OR ISC AND GPL-2.0', true],
  ['(MIT OR ISC) AND GPL-2.0', false],
  ['Apache-2.0 WITH LLVM-exception', true],
  ['Apache-2.0', false],
  ['(MIT', false],
  ['MIT ISC', false],
  ['', false],
] as const) {
  test(`licence expression "${expression}" is ${expected ? 'allowed' : 'refused'}`, (t) => {
    t.is(isAllowed(expression, allowed), expected);
  });
}

test('everything we depend on may be shipped', async (t) => {
  const { code, stdout, stderr } = await node(['scripts/licences.mjs']);
  t.is(code, 0, stderr);
  t.regex(stdout, /^\d+ crates and \d+ npm packages: licences and bans hold\n$/);
});

test('a package with a foreign licence, a ban or no checksum is refused by name', async (t) => {
  const folder = temporaryFolder(t);
  const good = { version: '1.0.0', license: 'MIT', integrity: 'sha512-x' };
  const packages = {
    '': {},
    'node_modules/good': good,
    'node_modules/viral': { ...good, license: 'AGPL-3.0' },
    'node_modules/a/node_modules/request': good,
    'node_modules/linked': { version: '1.0.0', license: 'MIT' },
  };
  writeFileSync(join(folder, 'package-lock.json'), JSON.stringify({ packages }));
  const { code, stderr } = await node(['scripts/licences.mjs', '--root', folder]);
  t.is(code, 1);
  t.regex(stderr, /3 dependencies break a rule/);
  t.regex(stderr, /viral 1\.0\.0: licence AGPL-3\.0 is not allowed/);
  t.regex(stderr, /request 1\.0\.0: unmaintained/);
  t.regex(stderr, /linked 1\.0\.0: no checksum/);
});

test('the linter refuses what the style forbids', async (t) => {
  const folder = temporaryFolder(t);
  const source = join(folder, 'wrong.ts');
  writeFileSync(source, "import fs from 'fs';\nexport const first = (value: any) => value!;\n");
  const linter = join('node_modules', 'oxlint', 'bin', 'oxlint');
  const { code, stdout } = await node([linter, '--config', join(root, '.oxlintrc.json'), source]);
  t.is(code, 1);
  for (const rule of ['no-explicit-any', 'no-unused-vars', 'no-non-null-assertion', 'prefer-node-protocol']) {
    t.true(stdout.includes(rule), `${rule} in ${stdout}`);
  }
});
