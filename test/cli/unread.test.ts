// What of the commands that serve whose output nobody reads?

import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../support/files.js';
import { request } from '../support/http.js';
import { type Running, start } from '../support/processes.js';
import { cleanEnvironment } from '../support/sidecar.js';
import { PATIENCE_MS, until, within } from '../support/wait.js';

const MIB = 1024 * 1024;
const MAIN = join(process.cwd(), 'dist', 'cli', 'main.js');
/** What a pipe and Node's buffers of its two ends hold, at most. */
const PIPE = MIB;

/** Keys that nobody knows: two or three megabytes to tell. */
const ODD_KEYS = Object.fromEntries(
  Array.from({ length: 40 }, (_, index) => [`${'k'.repeat(25_000)}${index}`, 1]),
);

/** A command that follows its file, which is wrong by now. */
interface Follower {
  readonly running: Running;
  /** What it said before. */
  readonly before: string;
}

async function follower(t: ExecutionContext, what: 'run' | 'control', format: string): Promise<Follower> {
  const file = join(temporaryFolder(t), 'mesh.yaml');
  const good =
    what === 'run'
      ? { listeners: [{ name: 'web', address: '127.0.0.1:0', routes: [{ respond: 204 }] }] }
      : { services: { web: { port: 3000 } } };
  writeFileSync(file, JSON.stringify(good));
  const args = what === 'run' ? ['-c', file, '--admin', 'off', '--lame-duck', '0s'] : [file];
  if (what === 'control') args.push('--listen', '127.0.0.1:0');
  const running = start(t, process.execPath, [MAIN, what, ...args, '-o', format], {
    env: cleanEnvironment(),
  });
  await until('it listens', () => {
    if (running.ended) throw new Error(`it ended: ${running.stderr()}`);
    return /listening|listens on/.test(running.stdout().toString());
  });
  const before = running.stdout().toString();
  writeFileSync(file, JSON.stringify({ ...good, ...ODD_KEYS }));
  return { running, before };
}

/** Waits until it has nothing more to do, which is all that can be seen while nobody reads. */
async function idle(running: Running): Promise<void> {
  let last = -1;
  await until('it has nothing to do', async () => {
    await sleep(200);
    const now = running.cpuSeconds();
    const isIdle = now === last;
    last = now;
    return isIdle;
  });
}

/** Makes it say more than there is room for. */
async function provoke(running: Running): Promise<void> {
  for (let time = 0; time < 8; time += 1) {
    running.signal('SIGHUP');
    await idle(running);
  }
}

for (const what of ['run', 'control'] as const) {
  for (const format of ['json', 'text'] as const) {
    const stream = format === 'json' ? 'stdout' : 'stderr';
    test(`mesh ${what}, ${format}: what nobody reads is bounded, and how much of it was dropped is told`, async (t) => {
      const { running } = await follower(t, what, format);
      const pipe = running.child[stream];
      const found = await until(
        'lines are dropped',
        async () => {
          const before = running[stream]().length;
          pipe.pause();
          await provoke(running);
          pipe.resume();
          // It is told with the next that is said once there is room.
          await idle(running);
          running.signal('SIGHUP');
          await idle(running);
          const text = running[stream]().toString();
          const match = /"event":"dropped","lines":(\d+)|^(\d+) lines were dropped: nobody read/m.exec(text);
          return match ? { count: Number(match[1] ?? match[2]), bytes: match.index - before } : undefined;
        },
        3 * PATIENCE_MS,
      );
      t.true(found.count > 0);
      // Eight MiB, and the one that went over it.
      t.true(found.bytes < 8 * MIB + 4 * MIB + PIPE, `${found.bytes}`);
      running.signal('SIGTERM');
      t.deepEqual(await within('the end', running.exit), { code: 0, signal: null });
      t.regex(running.stdout().toString(), /closed"?}?\n$/);
    });
  }

  test(`mesh ${what} goes on while nobody reads, and ends when it is told to`, async (t) => {
    const { running, before } = await follower(t, what, 'json');
    running.child.stdout.pause();
    t.teardown(() => running.child.stdout.resume());
    await provoke(running);
    if (what === 'run') {
      const port = Number(/"port":(\d+)/.exec(before)?.[1]);
      t.is((await request(port)).status, 204);
    }
    running.signal('SIGTERM');
    t.deepEqual(await within('the end', once(running.child, 'exit')), [0, null]);
    running.child.stdout.resume();
    await running.exit;
  });
}
