// Does a proxy work in a worker thread, and is nothing left of it when that ends, however it ends?

import { once } from 'node:events';
import { readFileSync, readdirSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import { httpOrigin, request } from '../support/http.js';
import { connect } from '../support/tcp.js';
import { until, within } from '../support/wait.js';
import { everythingTo, listening, programFile } from './support.js';

/** Threads of the core in this process, by name. */
function coreThreads(): string[] {
  return readdirSync('/proc/self/task')
    .map((id) => {
      try {
        return readFileSync(`/proc/self/task/${id}/comm`, 'utf8').trim();
      } catch {
        return ''; // It ended meanwhile.
      }
    })
    .filter((name) => name.startsWith('mesh-'))
    .toSorted();
}

/** Waits until there are these threads: the system shows one a moment longer than it runs. */
async function threadsAre(wanted: readonly string[]): Promise<void> {
  await until(`threads are ${wanted.join(' ')}`, () => coreThreads().join(' ') === wanted.join(' '));
}

async function workerWith(to: string): Promise<{ worker: Worker; port: number }> {
  const worker = new Worker(programFile('worker'), { workerData: { to } });
  const [port] = (await within('its address', once(worker, 'message'))) as [number];
  return { worker, port };
}

test.serial('traffic flows through a proxy of a worker thread; what it closes is gone', async (t) => {
  const origin = await httpOrigin(t);
  const { worker, port } = await workerWith(origin.address);
  t.is((await request(port)).status, 200);
  await until(
    'two data threads',
    () => coreThreads().filter((name) => name.startsWith('mesh-data-')).length === 2,
  );
  const exit = once(worker, 'exit');
  worker.postMessage('close');
  t.deepEqual(await within('the end of the worker', exit), [0]);
  await threadsAre([]);
});

for (const how of ['terminate', 'exit', 'throw'] as const) {
  test.serial(`amid traffic a worker ends by ${how}: its threads and sockets are gone`, async (t) => {
    const origin = await httpOrigin(t, (_, response) => response.write('for ever'));
    const { worker, port } = await workerWith(origin.address);
    const cut = t.throwsAsync(request(port));
    await until('a request is under way', () => origin.requests === 1);
    worker.on('error', () => {});
    const exit = once(worker, 'exit');
    if (how === 'terminate') await within('the end of the worker', worker.terminate());
    else worker.postMessage(how);
    await within('the end of the worker', how === 'throw' ? exit.catch(() => {}) : exit);
    await cut;
    await threadsAre([]);
    await t.throwsAsync(connect(t, port), { code: 'ECONNREFUSED' });
  });
}

test.serial('workers that come and go leave nothing behind, and the proxy beside them serves', async (t) => {
  const origin = await httpOrigin(t);
  const { proxy, port } = await listening(t, everythingTo(origin.address));
  const before = coreThreads();
  for (let times = 0; times < 5; times += 1) {
    const { worker, port: other } = await workerWith(origin.address);
    t.is((await request(other)).status, 200);
    await within('the end of the worker', worker.terminate());
    t.is((await request(port)).status, 200);
  }
  await threadsAre(before);
  await proxy.close();
  await threadsAre([]);
});
