// Which addresses has a wire that this machine is on? Ones that no other run of the tests has, nor one that was killed has left.

import { spawnSync } from 'node:child_process';
import { TOOLS_PATH } from '../../src/cli/redirect.js';

/** The first three numbers of a network for tests (RFC 2544) that no link of this machine is in. */
export function freeNetwork(): string {
  const env = { ...process.env, PATH: TOOLS_PATH };
  const taken = spawnSync('ip', ['-4', '-o', 'addr'], { env, encoding: 'utf8' }).stdout;
  for (let step = 0; step < 256; step += 1) {
    // Two runs that look at the same time begin elsewhere.
    const network = `198.18.${(process.pid + step) % 256}`;
    if (!taken.includes(` ${network}.`)) return network;
  }
  throw new Error('198.18.0.0/16 is taken, all of it');
}
