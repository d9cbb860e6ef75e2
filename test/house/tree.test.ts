// Can every file be read alone, on any machine?

import { readFileSync } from 'node:fs';
import test from 'ava';
import { files } from './support.js';

/** A file that takes longer than ten minutes to read holds more than one idea. */
const MAX_LINES = 600;

const SOURCE = /\.(rs|ts|mjs|cjs|js)$/;
const TEXT =
  /\.(rs|ts|mjs|cjs|js|json|md|toml|ya?ml|txt|html|css|proto|lock)$|(^|\/)(run|\.npmrc|\.gitignore)$/;
const GENERATED = /(^|\/)(package-lock\.json|Cargo\.lock)$/;

// Spelled in parts, so that this file does not name what it looks for.
const HOME_FOLDERS = ['root', 'work', 'home/[a-z]', 'Users/[a-z]', 'tmp/target'];
const MACHINE = new RegExp(`(^|[\\s"'\`=:(])/(${HOME_FOLDERS.join('|')})(/|\\b)`, 'i');
const REGISTRY = new RegExp(['registry\\.', '(npmjs\\.org|yarnpkg\\.com)'].join(''));

test('no source file is too long to be read in one go', (t) => {
  for (const path of files().filter((candidate) => SOURCE.test(candidate))) {
    const lines = readFileSync(path, 'utf8').split('\n').length;
    t.true(lines <= MAX_LINES, `${path} has ${lines} lines`);
  }
});

test('no file names a folder of one machine, or the host of a registry', (t) => {
  for (const path of files().filter((candidate) => TEXT.test(candidate))) {
    for (const [index, line] of readFileSync(path, 'utf8').split('\n').entries()) {
      t.notRegex(line, MACHINE, `${path}:${index + 1}`);
      if (!GENERATED.test(path)) t.notRegex(line, REGISTRY, `${path}:${index + 1}`);
    }
  }
});

test('no comment leaves work for later', (t) => {
  const marks = ['TODO', 'FIXME', 'XXX'];
  const later = new RegExp(`(//|/\\*|^\\s*[*#]) *(${marks.join('|')})\\b`);
  for (const path of files().filter((candidate) => SOURCE.test(candidate))) {
    for (const [index, line] of readFileSync(path, 'utf8').split('\n').entries()) {
      t.notRegex(line, later, `${path}:${index + 1}`);
    }
  }
});
