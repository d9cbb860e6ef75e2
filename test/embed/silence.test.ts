// Does a name server that says nothing hold up anything but the change that waits for it?
//
// Such a change goes live after some seconds without an answer. Here everything else must have ended before that: each
// test looks whether the change still waits.

import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import test, { type ExecutionContext } from 'ava';
import type { MeshProxy } from '../../src/index.js';
import { NameServer } from '../control/name-server.js';
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

/** As many as libuv's pool has threads. */
const POOL = 4;

test.serial('files are read, and proxies looked at and closed', async (t) => {
  const names = await silence(t);
  const all = Array.from({ length: POOL }, () => waiting(t, names));
  await until('every proxy asks', () => names.asked('site.test') >= POOL);
  await within('a file', readFile(fileURLToPath(import.meta.url)));
  const [first, ...others] = all;
  t.is((await within('statistics', others[0]?.proxy.stats() ?? Promise.reject())).updates.applied, 0);
  await within('the end', first?.proxy.close() ?? Promise.reject());
  await first?.end;
  t.true(others.every(({ waits }) => waits()));
});

test.serial('a worker thread is terminated', async (t) => {
  const names = await silence(t);
  const worker = new Worker(programFile('worker'), {
    workerData: { to: 'site.test:80', dnsServers: [names.address] },
  });
  await until('the name is asked for', () => names.asked('site.test') > 0);
  const other = waiting(t, names);
  await within('the end of the worker', worker.terminate());
  t.true(other.waits());
});

test.serial('a process exits', async (t) => {
  const names = await silence(t);
  const running = program(t, 'silent', names.address);
  await until('the name is asked for', () => names.asked('site.test') > 0);
  const other = waiting(t, names);
  running.child.stdin.write('exit\n');
  t.deepEqual(await within('the end of the process', running.exit), { code: 3, signal: null });
  t.true(other.waits());
  t.is(running.stderr(), '');
});

test.serial('an abandoned change of a proxy that has ended is answered', async (t) => {
  const names = await silence(t);
  const { proxy, end } = waiting(t, names);
  await until('the name is asked for', () => names.asked('site.test') > 0);
  await within('the end', proxy.close());
  await within('the answer', end);
  t.false(proxy.listening);
});
