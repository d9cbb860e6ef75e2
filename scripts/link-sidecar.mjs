#!/usr/bin/env node
// The linker of a release: it puts the functions that a sidecar runs side by side.
//
// A program's pages come into memory by windows of sixteen. Where what runs lies between what does not, nearly all of the
// program is resident; side by side it is a third. Only lld takes an order, so any other linker gets what it was given.

import { execFileSync, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { hotFunctions, nameOf } from './lib/hot-functions.mjs';

const args = process.argv.slice(2);
const output = args[args.indexOf('-o') + 1] ?? '';
const isOrdered =
  basename(output).startsWith('mesh_sidecar-') && args.some((arg) => arg.includes('-fuse-ld=lld'));
const linked = spawnSync('cc', isOrdered ? [...args, ...order()] : args, { stdio: 'inherit' });
if (linked.error) throw linked.error;
process.exitCode = linked.status ?? 1;

/** The options that tell lld which symbols come first. */
function order() {
  const objects = args.filter((arg) => /\.(?:o|a|rlib)$/.test(arg));
  const [symbols, names] = [symbolsOf(objects), symbolsOf(objects, '--demangle')];
  const placeOf = hotFunctions();
  const hot = symbols.flatMap((symbol, at) => {
    const place = placeOf(nameOf(names[at] ?? ''));
    return place === undefined ? [] : [{ symbol, place }];
  });
  const file = `${output}.order`;
  const lines = hot.toSorted((one, other) => one.place - other.place).map(({ symbol }) => symbol);
  writeFileSync(file, lines.join('\n'));
  return [`-Wl,--symbol-ordering-file=${file}`, '-Wl,--no-warn-symbol-ordering'];
}

/** The functions that objects define, in their order. */
function symbolsOf(objects, ...options) {
  const listed = execFileSync('nm', ['--defined-only', '--no-sort', ...options, ...objects], {
    encoding: 'utf8',
    maxBuffer: 2 ** 30,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return listed.split('\n').flatMap((line) => /^[0-9a-f]+ [tTwW] (.+)$/.exec(line)?.[1] ?? []);
}
