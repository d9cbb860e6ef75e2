// Is what ships built as the manual says? A release takes minutes to link, so its settings are looked at and not it.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { node, root } from './support.js';

test('`npm run build` makes the binary that the README starts', async (t) => {
  const { BUILD_PROFILE: _, CARGO_TARGET_DIR: __, ...env } = process.env;
  const look = `
    import { profile, sidecarPath } from './scripts/lib/toolchain.mjs';
    console.log(profile, sidecarPath(profile));`;
  const { stdout } = await node(['--input-type=module', '-e', look], env);
  const binary = 'target/release/mesh-sidecar';
  t.is(stdout, `release ${join(root, binary)}\n`);
  const readme = readFileSync('README.md', 'utf8');
  t.true(readme.includes(`\nnpm run build\n${binary} `));
});

test('a release unwinds, so that a panic becomes an event in Node, and carries no symbols', (t) => {
  const cargo = readFileSync('Cargo.toml', 'utf8');
  const [, release = ''] = /^\[profile\.release\]\n([^]*?)\n\n/m.exec(cargo) ?? [];
  const settings = release.split('\n');
  t.true(settings.includes('panic = "unwind"'));
  t.true(settings.includes('strip = "symbols"'));
  // What has a level of its own has not what stands above.
  const own = [...cargo.matchAll(/^mesh-(node|sidecar) = \{(.*)\}/gm)];
  t.is(own.length, 2);
  for (const [, name, its] of own) t.regex(its ?? '', /strip = "symbols"/, name);
});
