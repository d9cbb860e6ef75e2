// What is told to those whose npm has not installed what is compiled for their platform?

import { join } from 'node:path';
import { writeFileSync } from 'node:fs';
import test from 'ava';
import { node, script } from '../house/support.js';
import { INSTALL_MS, Projects, mainTarball, type, userEnvironment } from './support.js';

const projects = new Projects();
let project = '';

test.before(async (t) => {
  t.timeout(INSTALL_MS);
  project = await projects.make('without', 'commonjs', [mainTarball]);
  writeFileSync(join(project, 'mesh.yaml'), 'services: { web: { run: node web.mjs } }\n');
});

test.after.always(() => projects.remove());

const MISSING =
  /there is no native core for (\S+); the package @mesh\/proxy-\1 has it, and is not installed: install @mesh\/proxy again, without --omit=optional; if that does not help, without the lock file/;

test('a program is told which package is missing, and how to get it', async (t) => {
  const source =
    "try { require('@mesh/proxy').createProxy({}); } catch ({ code, message }) { console.log(code, message); }";
  const { stdout } = await node(['-e', source], userEnvironment(), project);
  t.regex(stdout, /^MESH_CORE_UNAVAILABLE /);
  t.regex(stdout, MISSING);
});

test('commands that need the core say so, and those that do not work', async (t) => {
  for (const line of ['npx mesh up', 'npx mesh control', 'npx mesh validate mesh.yaml']) {
    const { code, stderr } = await type(line, project);
    t.is(code, 1, line);
    t.regex(stderr, new RegExp(`^error: ${MISSING.source}`), line);
  }
  t.is((await type('npx mesh version', project)).code, 0);
});

test('a platform for which there is none is named, with those that have one', async (t) => {
  const source = `
    Object.defineProperty(process, 'arch', { value: 'abacus' });
    try { require('@mesh/proxy').createProxy({}); } catch ({ message }) { console.log(message); }`;
  const { stdout } = await node(['-e', source], userEnvironment(), project);
  t.regex(
    stdout,
    /^there is no native core for \w+-abacus\S*; @mesh\/proxy is made for linux-x64-gnu, .*darwin-arm64; elsewhere/,
  );
});

test('packing for a platform that has no package names it', async (t) => {
  const { code, stderr } = await node([
    '--import',
    "data:text/javascript,Object.defineProperty(process, 'arch', { value: 'abacus' })",
    'scripts/pack.mjs',
  ]);
  t.is(code, 1);
  t.regex(stderr, /^error: there is no package for \w+-abacus\S*, but for linux-x64-gnu, /);
});

test("npm's names of a platform come from Rust's", async (t) => {
  const { platformOf } = await script<{ platformOf(target: string): object }>('lib/platforms.mjs');
  t.deepEqual(platformOf('aarch64-unknown-linux-musl'), {
    name: 'linux-arm64-musl',
    os: 'linux',
    cpu: 'arm64',
    libc: 'musl',
  });
  t.deepEqual(platformOf('x86_64-apple-darwin'), { name: 'darwin-x64', os: 'darwin', cpu: 'x64' });
});
