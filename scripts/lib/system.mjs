// Which programs of the system do the tests and the benchmark run, and how do they get here?
//
// From Debian when this is a Debian system and we are root. Otherwise whoever typed the command is told what to install,
// before anything is built. What is there already is not touched.

import { existsSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { Failure, must, step } from './run.mjs';
import { root } from './toolchain.mjs';

/** System programs stand in folders that not every user has on the path. */
process.env.PATH = [process.env.PATH, '/usr/sbin', '/sbin'].join(delimiter);

/** Each program with the Debian package it comes from. */
const packages = new Map(
  readFileSync(join(root, 'scripts', 'system-packages.txt'), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split(' ')),
);

const has = (program) =>
  process.env.PATH.split(delimiter).some((folder) => folder && existsSync(join(folder, program)));

/** Installs what is missing among `programs` of the list, all of it by default, and packages without a program. */
export async function ensurePrograms(programs = [...packages.keys()], more = []) {
  const missing = [...programs.filter((program) => !has(program)).map((each) => packages.get(each)), ...more];
  if (missing.length === 0) return;
  const list = missing.join(' ');
  if (process.getuid?.() !== 0 || !has('apt-get')) {
    throw new Failure(
      `missing on this system: ${list}. Install them (Debian: apt-get install ${list}) and run again.`,
    );
  }
  await step(`installing ${list}`, async () => {
    // Their daemons stay off: who runs them starts their own. RUNLEVEL is single-user mode for the packages' scripts.
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
    const quiet = { env, onLine: () => {} };
    await must('apt-get', ['update', '-q'], quiet);
    await must('apt-get', ['install', '-q', '-y', '--no-install-recommends', ...missing], quiet);
  });
}
