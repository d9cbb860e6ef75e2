// Do the arrows between the rooms of `src` point one way?
//
//     cli -> index -> proxy, controller -> mesh -> discovery -> options, errors -> config -> mesh-error, thrown, turns

import { readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import test from 'ava';
import { files, root } from './support.js';

/**
 * What each room knows of the others, types too: who takes a type from another room can't be read without it. A room is a
 * folder of `src`, or a file at its top. It stands below all that it knows, so that none knows itself by way of others.
 */
const ARROWS: Record<string, string[]> = {
  aside: [],
  files: [],
  logger: [],
  'mesh-error': [],
  platform: [],
  redirect: [],
  register: [],
  thrown: [],
  turns: [],
  attack: ['mesh-error'],
  config: ['mesh-error', 'thrown', 'turns'],
  decision: ['config', 'mesh-error'],
  errors: ['config', 'mesh-error'],
  failures: ['config', 'errors'],
  options: ['config', 'errors'],
  discovery: ['config', 'errors', 'mesh-error', 'options', 'thrown'],
  native: ['errors', 'platform', 'thrown'],
  mesh: [
    'config',
    'discovery',
    'errors',
    'failures',
    'files',
    'mesh-error',
    'native',
    'platform',
    'thrown',
    'turns',
  ],
  controller: ['aside', 'config', 'discovery', 'errors', 'files', 'mesh', 'options', 'thrown', 'turns'],
  proxy: ['aside', 'config', 'errors', 'failures', 'logger', 'native', 'options', 'thrown', 'turns'],
  wasm: ['config', 'decision', 'mesh-error'],
  checked: ['config', 'errors', 'mesh', 'native', 'options', 'wasm'],
  index: [
    'checked',
    'config',
    'controller',
    'decision',
    'discovery',
    'errors',
    'logger',
    'mesh',
    'native',
    'proxy',
  ],
  // Asks for the rest when a command needs it.
  cli: [
    'attack',
    'config',
    'controller',
    'decision',
    'discovery',
    'errors',
    'files',
    'index',
    'logger',
    'mesh',
    'proxy',
    'redirect',
    'thrown',
  ],
  demo: ['cli', 'mesh'],
  generate: ['config', 'mesh'],
};

const IMPORT = /\b(?:from|import)\s*\(?\s*'(\.[^']+)'/g;

/** The room of a file below `src`. */
const roomOf = (path: string): string => path.replace(/(\/|\.[jt]s$).*/, '');

/** What each room of `src` knows of the others. */
function arrows(): Record<string, string[]> {
  const src = join(root, 'src');
  const known = new Map<string, Set<string>>();
  for (const path of files(src).map((file) => relative(src, join(root, file)))) {
    if (!path.endsWith('.ts')) continue;
    const room = roomOf(path);
    const others = known.get(room) ?? new Set();
    known.set(room, others);
    for (const [, target = ''] of readFileSync(join(src, path), 'utf8').matchAll(IMPORT))
      others.add(roomOf(join(dirname(path), target)));
    others.delete(room);
  }
  return Object.fromEntries(Array.from(known, ([room, others]) => [room, [...others].toSorted()]));
}

test('rooms know of others what is drawn here, and nothing else', (t) => {
  t.deepEqual(arrows(), Object.fromEntries(Object.entries(ARROWS).toSorted()));
});

test('no room knows itself by way of others', (t) => {
  const above = new Set<string>();
  for (const [room, others] of Object.entries(ARROWS)) {
    for (const other of others) t.true(above.has(other), `${room} -> ${other}`);
    above.add(room);
  }
});
