// How do two of our commands, started in the same tree at the same time, keep out of each other's builds?
//
// A folder is the lock (making one is atomic), its file names the owner. A lock whose owner has died, or that is
// older than any build can take (its owner's number may belong to another process by now), is taken over.

import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LIMIT_MINUTES, say } from './run.mjs';

const POLL_MS = 200;

/** Runs `work` while holding the lock at `folder`. */
export async function withLock(folder, work) {
  await take(folder);
  const release = () => rmSync(folder, { recursive: true, force: true });
  process.once('exit', release);
  try {
    return await work();
  } finally {
    process.off('exit', release);
    release();
  }
}

async function take(folder) {
  const owner = join(folder, 'pid');
  mkdirSync(dirname(folder), { recursive: true });
  for (let waited = 0; ; waited += 1) {
    try {
      mkdirSync(folder);
      writeFileSync(owner, `${process.pid}`);
      return;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    if (waited === 5) say(`    waiting for another command that builds here (${folder})`);
    // A fresh lock may not have its file yet: only one that stays without an owner is dead.
    if (!isAlive(owner) && waited > 0) rmSync(folder, { recursive: true, force: true });
    await sleep(POLL_MS);
  }
}

function isAlive(owner) {
  try {
    if (Date.now() - statSync(owner).mtimeMs > LIMIT_MINUTES * 60_000) return false;
    process.kill(Number(readFileSync(owner, 'utf8')), 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}
