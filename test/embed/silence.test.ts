// Does a name server that says nothing hold up anything but the change that waits for it?
//
// Such a change goes live after some seconds without an answer. Here everything else must have ended before that: each
// test looks whether the change still waits. If not it tries again, since it may have stood still for as long itself;
// what is held up is held up each time.

import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import test, { type ExecutionContext } from 'ava';
import type { MeshProxy } from '../../src/index.js';
import { NameServer } from '../support/name-server.js';
import { until, within } from '../support/wait.js';
import { everythingTo, makeProxy, program, programFile } from './support.js';

/** A name server that says nothing about one name. */
async function silence(t: ExecutionContext): Promise<NameServer> {
  const names = await NameServer.start(t);
  names.trouble('site.test', 'nothing');
  return names;
}

/** A proxy that waits for it, and whether it still does. */
function waiting(
  t: ExecutionContext,
  names: NameServer,
): { proxy: MeshProxy; waits: () => boolean; end: Promise<void> } {
  const proxy = makeProxy(t, everythingTo('site.test:80'), { dnsServers: [names.address] });
  let ended = false;
  const end = proxy.listen().then(
    () => void (ended = true),
    () => void (ended = true),
  );
  return { proxy, waits: () => !ended, end };
}

/** Tries until a change still waited at the end of these steps. */
async function beside(steps: () => Promise<boolean>): Promise<void> {
  await until('the change still waits', steps);
}

/** As many as libuv's pool has threads. */
const POOL = 4;

test.serial('files are read, and proxies looked at and closed', async (t) => {
  await beside(async () => {
    const names = await silence(t);
    const all = Array.from({ length: POOL }, () => waiting(t, names));
    await until('every proxy asks', () => names.asked('site.test') >= POOL);
    await within('a file', readFile(fileURLToPath(import.meta.url)));
    const [first, ...others] = all;
    const { updates } = await within('statistics', others[0]?.proxy.stats() ?? Promise.reject());
    await within('the end', first?.proxy.close() ?? Promise.reject());
    await first?.end;
    return updates.applied === 0 && others.every(({ waits }) => waits());
  });
  t.pass();
});

test.serial('a worker thread is terminated', async (t) => {
  await beside(async () => {
    const names = await silence(t);
    const worker = new Worker(programFile('worker'), {
      workerData: { to: 'site.test:80', dnsServers: [names.address] },
    });
    await until('the name is asked for', () => names.asked('site.test') > 0);
    const other = waiting(t, names);
    await within('the end of the worker', worker.terminate());
    return other.waits();
  });
  t.pass();
});

test.serial('a process exits', async (t) => {
  await beside(async () => {
    const names = await silence(t);
    const running = program(t, 'silent', names.address);
    await until('the name is asked for', () => names.asked('site.test') > 0);
    const other = waiting(t, names);
    running.child.stdin.write('exit\n');
    t.deepEqual(await within('the end of the process', running.exit), { code: 3, signal: null });
    t.is(running.stderr(), '');
    return other.waits();
  });
});

test.serial('an abandoned change of a proxy that has ended is answered', async (t) => {
  const names = await silence(t);
  const { proxy, end } = waiting(t, names);
  await until('the name is asked for', () => names.asked('site.test') > 0);
  await within('the end', proxy.close());
  await within('the answer', end);
  t.false(proxy.listening);
});
