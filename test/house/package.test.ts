// Is the npm package what it says: pinned, installable from any registry, nothing but its own files?

import { readFileSync } from 'node:fs';
import test from 'ava';
import { script } from './support.js';

interface LockEntry {
  version: string;
  integrity?: string;
  resolved?: string;
}

interface Manifest {
  name: string;
  version: string;
  license: string;
  engines: { node: string };
  files: string[];
  dependencies: Record<string, string>;
  devDependencies: Record<string, string>;
  scripts: Record<string, string>;
}

const read = <T>(path: string): T => JSON.parse(readFileSync(path, 'utf8')) as T;
const manifest = read<Manifest>('package.json');
const lock = read<{ packages: Record<string, LockEntry> }>('package-lock.json');

test('every dependency is pinned to one version', (t) => {
  for (const [name, version] of Object.entries({ ...manifest.dependencies, ...manifest.devDependencies })) {
    t.regex(version, /^\d+\.\d+\.\d+$/, name);
    t.is(lock.packages[`node_modules/${name}`]?.version, version, name);
  }
});

test('users install few packages with it', (t) => {
  t.true(Object.keys(manifest.dependencies).length <= 5);
});

test('the lock file names no host and has a checksum for every package', (t) => {
  for (const [path, entry] of Object.entries(lock.packages)) {
    t.is(entry.resolved, undefined, path);
    if (path !== '') t.truthy(entry.integrity, path);
  }
});

test('installing runs no script on the machine of a user', (t) => {
  for (const name of ['preinstall', 'install', 'postinstall']) t.false(name in manifest.scripts, name);
});

test('the native core and the package have one version and one licence', (t) => {
  const cargo = readFileSync('Cargo.toml', 'utf8');
  t.true(cargo.includes(`\nversion = "${manifest.version}"\n`));
  t.true(cargo.includes(`\nlicense = "${manifest.license}"\n`));
  t.true(readFileSync('LICENSE', 'utf8').includes('Apache License'));
  t.true(readFileSync('CHANGELOG.md', 'utf8').includes(`## ${manifest.version}`));
});

test('installed packages are compared with the lock file', async (t) => {
  const { packagesAreInstalled } = await script<{ packagesAreInstalled(top?: string): boolean }>(
    'lib/artefacts.mjs',
  );
  t.true(packagesAreInstalled());
  t.false(packagesAreInstalled('test'));
});
