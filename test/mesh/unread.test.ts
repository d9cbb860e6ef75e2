// What of `mesh up` whose output nobody reads?

import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { until, within } from '../support/wait.js';
import { MeshUp } from './command.js';

const MIB = 1024 * 1024;
const DROPPED = 'dropped';

/** Says one line, and as soon as `go` is there very much more; then `done` is there. */
const CHATTY = `echo begun; until [ -e go ]; do sleep 0.05; done
yes ${'a'.repeat(63)} | head -c ${128 * MIB}; touch done; sleep 600`;

/** One that has said all that, while nobody read. */
async function unread(t: Parameters<typeof MeshUp.start>[0]) {
  const mesh = MeshUp.start(t, { services: { chatty: { run: CHATTY } } });
  const { stdout } = mesh.process.child;
  await mesh.printed('chatty.1', 'begun');
  stdout.pause();
  // What comes of the end of a test.
  t.teardown(() => stdout.resume());
  const before = mesh.process.residentBytes();
  mesh.touch('go');
  await until('all is said', () => existsSync(join(mesh.folder, 'done')), 40_000);
  return { mesh, stdout, grown: mesh.process.peakBytes() - before };
}

test('what nobody reads is bounded, and how much of it was dropped is told', async (t) => {
  const { mesh, stdout, grown } = await unread(t);
  t.true(grown < 128 * MIB, `${Math.round(grown / MIB)} MiB more`);
  stdout.resume();
  mesh.process.signal('SIGTERM');
  t.deepEqual(await within('the end', mesh.process.exit), { code: 0, signal: null });
  const events = mesh.lines().filter(({ event }) => event !== 'line');
  const lines = mesh.lines().length - events.length;
  const dropped = events
    .filter(({ event }) => event === DROPPED)
    .reduce((all, each) => all + (each.lines ?? 0), 0);
  t.true(dropped > 0);
  t.is(lines + dropped, 1 + (128 * MIB) / 64);
  t.is(events.at(-1)?.event, 'closed');
});

test('it ends when it is told to, though nobody reads its last words', async (t) => {
  const { mesh, stdout } = await unread(t);
  mesh.process.signal('SIGTERM');
  t.deepEqual(await within('the end', once(mesh.process.child, 'exit')), [0, null]);
  stdout.resume();
  await mesh.process.exit;
});
