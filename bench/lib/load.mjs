// How is the load generator asked for something?

import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Failure, must } from '../../scripts/lib/run.mjs';
import { cargoEnv, needCargo } from '../../scripts/lib/toolchain.mjs';
import { PeerError, start, stop } from './processes.mjs';
import { build, here } from './places.mjs';

const target = join(build, 'load');
const program = join(target, 'release', 'mesh-load');

/** Builds the generator; cargo does nothing when it is fresh. */
export async function buildLoad() {
  needCargo();
  const args = [
    'build',
    '--release',
    '--locked',
    '--quiet',
    '--manifest-path',
    join(here, 'load', 'Cargo.toml'),
  ];
  await must('cargo', args, { env: { ...cargoEnv, CARGO_TARGET_DIR: target } });
}

/** Starts the origin. Resolves with its addresses. */
export async function startOrigin(core) {
  const child = start(core, program, ['origin'], { pipe: true });
  const [line] = await once(createInterface({ input: child.stdout }), 'line');
  return { child, ...JSON.parse(line) };
}

/** Runs one load to its end. Any error in it is an error here. */
export async function load(core, args) {
  const child = start(core, program, args, { pipe: true });
  const lines = [];
  createInterface({ input: child.stdout }).on('line', (line) => lines.push(line));
  const [code] = await once(child, 'close');
  if (code !== 0 || lines.length === 0)
    throw new Failure(`mesh-load ${args.join(' ')} ended with exit code ${code}`);
  const report = JSON.parse(lines.at(-1));
  if (report.errors > 0) throw new PeerError(report.firstError);
  return report;
}

/** Opens idle connections and calls `look` while they are held. */
export async function holding(core, args, look) {
  const child = start(core, program, ['idle', ...args], { pipe: true });
  try {
    const lines = createInterface({ input: child.stdout });
    const [first] = await once(lines, 'line');
    const opened = JSON.parse(first);
    if (opened.errors > 0) throw new PeerError(opened.firstError);
    const seen = await look();
    const last = once(lines, 'line');
    child.stdin.end();
    const closed = JSON.parse((await last)[0]);
    if (closed.errors > 0) throw new PeerError(closed.firstError);
    return seen;
  } finally {
    await stop(child);
  }
}
