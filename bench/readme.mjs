// node bench/readme.mjs
//
// Puts the figures of the last whole run into the table of README.md.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Failure, main } from '../scripts/lib/run.mjs';
import { root } from '../scripts/lib/toolchain.mjs';

const HEADING = '| workload';

/** The first table of a page, as its lines, and what stands before and behind it. */
function table(path) {
  const lines = readFileSync(path, 'utf8').split('\n');
  const start = lines.findIndex((line) => line.startsWith(HEADING));
  const length = lines.slice(start).findIndex((line) => !line.startsWith('|'));
  if (start < 0 || length < 0) throw new Failure(`${path} has no table that begins with ${HEADING}`);
  const end = start + length;
  return { before: lines.slice(0, start), rows: lines.slice(start, end), behind: lines.slice(end) };
}

await main(() => {
  const readme = join(root, 'README.md');
  const [, , ...results] = table(join(root, 'bench', 'results', 'latest.md')).rows;
  const { before, rows, behind } = table(readme);
  const figures = results.map((row) => {
    const [workload, unit, ours, required] = row.split('|').slice(1, 5);
    return `|${[workload, unit, ours, required].join('|')}|`;
  });
  writeFileSync(readme, [...before, ...rows.slice(0, 2), ...figures, ...behind].join('\n'));
});
