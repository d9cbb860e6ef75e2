// Which functions does a sidecar run, told so that a compiler's next version and a change of types still find them?

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './toolchain.mjs';

/** The list, one function a line. `scripts/hot-functions.mjs` writes it. */
export const hotFunctionsFile = join(root, 'crates', 'sidecar', 'hot-functions.txt');

/**
 * What the list can't know: valgrind has none of the wide registers that these take, nor the vectors of the C library.
 * The last ones are the longest, and little of each runs.
 */
const WIDE = [
  /^ceil$/,
  /^aws_lc_curve25519_x25519/,
  /^aws_lc_mlkem_/,
  /^aws_lc_aes_gcm_(?:en|de)crypt_avx512$/,
];

/** Where a function is in the order of what runs; undefined when it does not. */
export function hotFunctions() {
  const lines = readFileSync(hotFunctionsFile, 'utf8').split('\n');
  const listed = new Set(lines.filter((line) => line !== '' && !line.startsWith('#')));
  return (name) => {
    if (listed.has(name)) return 0;
    const at = WIDE.findIndex((pattern) => pattern.test(name));
    return at < 0 ? undefined : at + 1;
  };
}

/**
 * The name of a function without its type arguments and closures, and without the version of a library of C:
 * `tokio::time::timeout::Timeout::poll` is one name, whatever it waits for.
 */
export function nameOf(symbol) {
  const whole = symbol
    .replace(/^aws_lc_\d+_\d+_\d+_/, 'aws_lc_')
    .replaceAll(/\{\{closure\}\}|\{closure#\d+\}/g, '');
  const end = whole.startsWith('<') ? closing(whole) : -1;
  const name = end < 0 ? bare(whole) : `<${bare(whole.slice(1, end))}>${bare(whole.slice(end + 1))}`;
  return name.replaceAll(/(?:::){2,}/g, '::').replace(/(?:::)+$/, '');
}

/** Where the angle bracket that a text begins with is closed. */
function closing(text) {
  let depth = 0;
  for (let at = 0; at < text.length; at += 1) {
    depth += step(text, at);
    if (depth === 0) return at;
  }
  return -1;
}

/** The text outside of angle brackets. */
function bare(text) {
  let depth = 0;
  let kept = '';
  for (let at = 0; at < text.length; at += 1) {
    const by = step(text, at);
    if (depth === 0 && by === 0) kept += text[at];
    depth += by;
  }
  return kept;
}

/** What a letter does to the depth: an arrow closes nothing. */
function step(text, at) {
  if (text[at] === '<') return 1;
  return text[at] === '>' && text[at - 1] !== '-' ? -1 : 0;
}
