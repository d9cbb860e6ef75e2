// Do the scripts build what is stale, and only that, and say what is wrong when they cannot?

import { mkdirSync, readFileSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { temporaryFolder } from '../support/files.js';
import { node, script } from './support.js';

interface Stamp {
  isFresh(): boolean;
  clear(): void;
  write(): void;
}

const { hashOf, lookOf, Stamp } = await script<{
  hashOf(root: string, paths: string[], facts?: string[]): string;
  lookOf(path: string): string | undefined;
  Stamp: new (file: string, hash: string, outputs: string[]) => Stamp;
}>('lib/stamp.mjs');
const { withLock } = await script<{ withLock<T>(folder: string, work: () => Promise<T>): Promise<T> }>(
  'lib/lock.mjs',
);

test('a hash follows contents, names and facts, and nothing else', (t) => {
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, 'src'));
  writeFileSync(join(folder, 'src', 'a'), 'one');
  const hash = (...facts: string[]): string => hashOf(folder, ['src', 'missing'], facts);
  const first = hash('1.0');

  utimesSync(join(folder, 'src', 'a'), 1, 1);
  t.is(hash('1.0'), first, 'time is not an input');
  t.not(hash('1.1'), first, 'the compiler is');

  writeFileSync(join(folder, 'src', 'a'), 'two');
  t.not(hash('1.0'), first);
  writeFileSync(join(folder, 'src', 'a'), 'one');
  t.is(hash('1.0'), first);
  writeFileSync(join(folder, 'src', 'b'), '');
  t.not(hash('1.0'), first);
});

test('an artefact is fresh until its inputs or the artefact itself change', (t) => {
  const folder = temporaryFolder(t);
  const output = join(folder, 'output');
  const file = join(folder, 'stamps', 'one.json');
  const stamp = new Stamp(file, 'hash', [output]);
  t.false(stamp.isFresh(), 'never built');

  writeFileSync(output, 'made');
  stamp.write();
  t.true(stamp.isFresh());
  t.false(new Stamp(file, 'other', [output]).isFresh(), 'other inputs');

  writeFileSync(output, 'changed by hand');
  t.false(stamp.isFresh());
  stamp.write();
  rmSync(output);
  t.false(stamp.isFresh(), 'gone');

  writeFileSync(output, 'made');
  stamp.write();
  stamp.clear();
  t.false(stamp.isFresh(), 'a build that began and did not end');
});

test('two commands never build at the same time, and a dead one blocks nobody', async (t) => {
  const folder = join(temporaryFolder(t), 'lock');
  mkdirSync(folder);
  // No process has this id: Linux ends at 2^22.
  writeFileSync(join(folder, 'pid'), '99999999');
  let inside = 0;
  const work = async (): Promise<number> => {
    inside += 1;
    t.is(inside, 1);
    await new Promise((done) => {
      setImmediate(done);
    });
    inside -= 1;
    return 7;
  };
  t.deepEqual(
    await Promise.all([withLock(folder, work), withLock(folder, work), withLock(folder, work)]),
    [7, 7, 7],
  );
  await t.throwsAsync(
    withLock(folder, () => Promise.reject(new Error('failed'))),
    { message: 'failed' },
  );
  t.is(await withLock(folder, work), 7);
});

test('what is built and installed is built and installed once', async (t) => {
  const stamps = readdirSync('.build/stamps').map((name) => join('.build/stamps', name));
  const made = ['node_modules/.package-lock.json', 'dist/index.js', 'dist/index.cjs', ...stamps];
  const looks = (): (string | undefined)[] => made.map((file) => `${file} ${lookOf(file)}`);
  const before = looks();
  // What comes before the tests; `test/demo` sees the same of `npm start`.
  for (const args of [
    ['scripts/build.mjs', 'native', 'ts'],
    ['scripts/test.mjs', 'types'],
  ]) {
    const { code, stdout, stderr } = await node(args);
    t.deepEqual([code, stderr], [0, '']);
    t.notRegex(stdout, /^==> /m);
  }
  t.deepEqual(looks(), before);
});

test('building without cargo says what to install', async (t) => {
  const empty = temporaryFolder(t);
  const { code, stderr } = await node(['scripts/build.mjs', 'native'], {
    ...process.env,
    PATH: empty,
    CARGO_HOME: empty,
  });
  t.is(code, 1);
  t.regex(stderr, /^error: cargo was not found/);
  t.regex(stderr, /Install Rust/);
});

test('an unknown artefact is refused with the ones there are', async (t) => {
  const { code, stderr } = await node(['scripts/build.mjs', 'rust']);
  t.is(code, 1);
  t.is(stderr, 'error: nothing is called rust: choose from native, ts, wasm\n');
});

test('prepare builds nothing when packages are installed in a clone', async (t) => {
  for (const command of ['ci', 'install']) {
    const { _PACOTE_NO_PREPARE_: _, ...env } = process.env;
    t.deepEqual(await node(['scripts/prepare.mjs'], { ...env, npm_command: command }), {
      code: 0,
      stdout: '',
      stderr: '',
    });
  }
});

test('prepare explains a git dependency that cannot be built, and does not fail', async (t) => {
  const empty = temporaryFolder(t);
  const env = {
    ...process.env,
    PATH: empty,
    CARGO_HOME: empty,
    npm_command: 'install',
    _PACOTE_NO_PREPARE_: '',
  };
  const { code, stdout } = await node(['scripts/prepare.mjs'], env);
  t.is(code, 0);
  t.regex(stdout, /installed without its native core: cargo was not found/);
});

test('the folder itself is not published: it has one platform alone', async (t) => {
  const { code, stderr } = await node(['scripts/prepare.mjs'], { ...process.env, npm_command: 'publish' });
  t.is(code, 1);
  t.is(stderr, 'error: publish the packages that `npm run pack` makes\n');
});

test('a program of the system that is missing is told with the package it comes from', async (t) => {
  const empty = temporaryFolder(t);
  const look = `
    import { ensurePrograms } from './scripts/lib/system.mjs';
    import { main } from './scripts/lib/run.mjs';
    await main(() => ensurePrograms(['cc', 'ps']));`;
  const run = (PATH?: string): ReturnType<typeof node> =>
    node(['--input-type=module', '-e', look], { ...process.env, PATH });
  const told = 'build-essential procps';
  t.deepEqual(await run(empty), {
    code: 1,
    stdout: '',
    stderr: `error: missing on this system: ${told}. Install them (Debian: apt-get install ${told}) and run again.\n`,
  });
  t.deepEqual(await run(process.env.PATH), { code: 0, stdout: '', stderr: '' });
});

test('system packages are one program and one package a line', (t) => {
  const lines = readFileSync('scripts/system-packages.txt', 'utf8').trimEnd().split('\n');
  for (const line of lines) t.regex(line, /^(#.*|[a-z0-9.+-]+ [a-z0-9.+-]+)$/);
});
