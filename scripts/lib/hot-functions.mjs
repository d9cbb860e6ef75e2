// Which functions does a sidecar run, told so that a compiler's next version and a change of types still find them?

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './toolchain.mjs';

/** The list, one function a line. `scripts/hot-functions.mjs` writes it. */
export const hotFunctionsFile = join(root, 'crates', 'sidecar', 'hot-functions.txt');

/** The names in the list. */
export function hotFunctions() {
  const lines = readFileSync(hotFunctionsFile, 'utf8').split('\n');
  return new Set(lines.filter((line) => line !== '' && !line.startsWith('#')));
}

/**
 * The name of a function without its type arguments and closures: `tokio::time::timeout::Timeout::poll` is one name,
 * whatever it waits for.
 */
export function nameOf(symbol) {
  const whole = symbol.replaceAll(/\{\{closure\}\}|\{closure#\d+\}/g, '');
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
