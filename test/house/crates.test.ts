// Do the arrows between the crates point only the way the design draws them, and is the safe part safe?
//
//     sidecar, bindings -> controller, protocol, xds, proxy -> store, identity, http2 -> http1 -> model

import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test from 'ava';
import { program, root } from './support.js';

interface Crate {
  name: string;
  manifest_path: string;
  dependencies: { name: string; kind: string | null; path?: string }[];
}

/** What each crate knows of ours, and nothing else. A crate that is not here has not been thought about. */
const ARROWS: Record<string, string[]> = {
  'mesh-model': [],
  'mesh-http1': ['mesh-model'],
  'mesh-http2': ['mesh-http1'],
  'mesh-identity': ['mesh-model'],
  'mesh-store': ['mesh-model'],
  'mesh-xds': ['mesh-model'],
  // Both sides of one conversation: the sidecar's and the control plane's.
  'mesh-protocol': ['mesh-identity', 'mesh-model', 'mesh-xds'],
  'mesh-proxy': ['mesh-http1', 'mesh-http2', 'mesh-identity', 'mesh-model', 'mesh-store'],
  'mesh-controller': ['mesh-identity', 'mesh-model', 'mesh-protocol', 'mesh-proxy', 'mesh-store', 'mesh-xds'],
  'mesh-sidecar': ['mesh-identity', 'mesh-model', 'mesh-protocol', 'mesh-proxy', 'mesh-xds'],
  'mesh-node': ['mesh-controller', 'mesh-http1', 'mesh-model', 'mesh-proxy'],
  'mesh-wasm': ['mesh-http1', 'mesh-model'],
};

/** Sockets, clocks, randomness and the runtimes around them: not for crates that only decide. */
const IMPURE = new Set([
  'getrandom',
  'h2',
  'hickory-resolver',
  'mio',
  'rustix',
  'rustls',
  'socket2',
  'tokio',
]);

async function cargo(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await program('cargo', args);
  if (code !== 0) throw new Error(stderr);
  return stdout;
}

/** The crates of this workspace. */
async function ours(): Promise<Crate[]> {
  const output = await cargo('metadata', '--locked', '--no-deps', '--format-version', '1');
  return (JSON.parse(output) as { packages: Crate[] }).packages;
}

/** The names of everything that is linked into `crate`. */
async function linked(crate: string): Promise<string[]> {
  const output = await cargo(
    'tree',
    '--locked',
    '-p',
    crate,
    '--edges',
    'normal',
    '--prefix',
    'none',
    '--format',
    '{p}',
  );
  return output.split('\n').map((line) => line.split(' ')[0] ?? '');
}

test('crates know only the crates below them', async (t) => {
  const crates = await ours();
  t.true(crates.length > 0);
  for (const { name, dependencies } of crates) {
    const known = dependencies.filter(({ kind, path }) => kind === null && path !== undefined);
    t.deepEqual(known.map((dependency) => dependency.name).toSorted(), ARROWS[name], name);
  }
});

test('HTTP/2 that is not ours carries control traffic alone', async (t) => {
  const users = (await ours()).filter(({ dependencies }) =>
    dependencies.some(({ name, kind }) => name === 'h2' && kind === null),
  );
  t.deepEqual(
    users.map(({ name }) => name),
    ['mesh-protocol'],
  );
});

for (const name of ['mesh-model', 'mesh-http1', 'mesh-http2']) {
  test(`${name} knows no socket, no clock and no runtime`, async (t) => {
    const crates = await linked(name);
    t.true(crates.includes(name));
    t.deepEqual(
      crates.filter((crate) => IMPURE.has(crate)),
      [],
    );
  });
}

test('unsafe code is forbidden everywhere but in the bindings', async (t) => {
  const crates = (await ours())
    .map((crate) => dirname(crate.manifest_path))
    .filter((path) => path.startsWith(join(root, 'crates')));
  t.true(crates.length > 0);
  for (const crate of crates) {
    for (const entry of ['lib.rs', 'main.rs']) {
      const path = join(crate, 'src', entry);
      if (existsSync(path)) t.regex(readFileSync(path, 'utf8'), /^#!\[forbid\(unsafe_code\)\]$/m, path);
    }
  }
});
