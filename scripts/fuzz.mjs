// npm run fuzz [-- --seconds 60] [TARGET...]
//
// What do hostile bytes find in our parsers? Each target gets inputs that are changed by what code they reach, for a
// while, beginning with fuzz/seeds. What it finds on the way is kept in .build/fuzz/TARGET, to go on from there the next
// time. An input that breaks something is written there as crash-..., and the command ends with exit code 1.

import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Failure, main, must, say, step } from './lib/run.mjs';
import { cargoEnv, hostTriple, needCargo, root } from './lib/toolchain.mjs';

const folder = join(root, 'fuzz');
const all = readdirSync(join(folder, 'targets')).map((file) => file.replace(/\.rs$/, ''));

/** Counts what code an input reaches: LLVM's own pass, which needs no nightly compiler. */
const COVERAGE = [
  '-Cpasses=sancov-module',
  '-Cllvm-args=-sanitizer-coverage-level=4',
  '-Cllvm-args=-sanitizer-coverage-inline-8bit-counters',
  '-Cllvm-args=-sanitizer-coverage-pc-table',
  '-Cllvm-args=-sanitizer-coverage-trace-compares',
  // In one unit, so that the pass sees all of a crate.
  '-Ccodegen-units=1',
  '--cfg=fuzzing',
].join(' ');

await main(async () => {
  const { values, positionals } = parseArgs({
    options: { seconds: { type: 'string', default: '60' }, help: { type: 'boolean' } },
    allowPositionals: true,
  });
  if (values.help) return say(`npm run fuzz [-- --seconds 60] [${all.join(' | ')}]`);
  const seconds = Number(values.seconds);
  if (!Number.isInteger(seconds) || seconds < 1)
    throw new Failure('--seconds: expected a whole number above 0');
  const unknown = positionals.filter((target) => !all.includes(target));
  if (unknown.length > 0) throw new Failure(`no target ${unknown.join(', ')}: choose from ${all.join(', ')}`);
  needCargo();
  const target = join(root, 'target', 'fuzz');
  // With --target, so that build scripts are not counted.
  const triple = hostTriple();
  await step('fuzz targets', () =>
    must('cargo', ['build', '--release', '--locked', '--target', triple, '--target-dir', target], {
      cwd: folder,
      env: { ...cargoEnv, RUSTFLAGS: COVERAGE },
    }),
  );
  for (const name of positionals.length > 0 ? positionals : all) {
    const corpus = join(root, '.build', 'fuzz', name);
    mkdirSync(corpus, { recursive: true });
    const seeds = join(folder, 'seeds', name);
    const limits = [`-max_total_time=${seconds}`, '-max_len=8192', '-timeout=5', '-rss_limit_mb=1024'];
    await step(`${name}, ${seconds} s`, () =>
      must(join(target, triple, 'release', name), [
        corpus,
        seeds,
        `-artifact_prefix=${corpus}/`,
        '-verbosity=0',
        ...limits,
      ]),
    );
  }
});
