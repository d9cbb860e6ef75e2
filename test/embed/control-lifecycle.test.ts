// Does a control plane in this process live and end as a proxy does, whatever its listeners and its disk do?

import { once } from 'node:events';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import {
  type MeshControl,
  type MeshControlOptions,
  StateError,
  createControlPlane,
} from '../../src/index.js';
import { temporaryFolder } from '../support/files.js';
import { closedPort, connect, tcpServer } from '../support/tcp.js';
import { until, within } from '../support/wait.js';
import { program } from './support.js';

const MESH = { services: { basket: { port: 3000 } } };

/** A control plane that ends with the test, and what it said was wrong. */
function makePlane(
  t: ExecutionContext,
  options: MeshControlOptions = {},
): { plane: MeshControl; errors: string[] } {
  const plane = createControlPlane(MESH, { listen: '127.0.0.1:0', ...options });
  t.teardown(() => plane.close());
  const errors: string[] = [];
  plane.on('error', (error) => errors.push(String(error)));
  return { plane, errors };
}

const portOf = ([address = '']: readonly string[]): number => Number(address.split(':').at(-1));

test('what a listener throws is uncaught as any, and changes nothing of what the control plane does', async (t) => {
  const running = program(t, 'control-throws');
  t.deepEqual(await within('the end of the process', running.exit), { code: 0, signal: null });
  const lines = running.stdout().toString().trim().split('\n');
  t.deepEqual(
    lines.filter((line) => !line.startsWith('uncaught')),
    ['listens 1', 'the source came again', 'applied true', 'ended'],
  );
  for (const event of ['listening', 'applied', 'close']) {
    t.is(lines.filter((line) => line === `uncaught ${event}`).length, 1, event);
  }
  // It failed, and it was well again.
  t.is(lines.filter((line) => line === 'uncaught source').length, 2);
  t.true(lines.includes('uncaught endpoints'));
});

/** One that has just heard of an endpoint, and can't write that: nothing can be made beside the file any more. */
async function unwritable(
  t: ExecutionContext,
  options: MeshControlOptions = {},
): Promise<{ plane: MeshControl; errors: string[]; port: number; isEnded: () => boolean }> {
  const stateDir = join(temporaryFolder(t), 'state');
  let isEnded = false;
  let tellMore = (): void => {};
  let told = 0;
  const { plane, errors } = makePlane(t, {
    ...options,
    stateDir,
    discovery: {
      basket: async function* (signal) {
        yield { set: ['10.0.0.1:80'] };
        await new Promise<void>((resolve) => {
          tellMore = resolve;
        });
        yield { set: ['10.0.0.2:80'] };
        await once(signal, 'abort');
        isEnded = true;
      },
    },
  });
  const port = portOf(await plane.listen());
  await until('the first is written', () => existsSync(join(stateDir, 'endpoints.json')));
  plane.on('endpoints', () => (told += 1));
  mkdirSync(join(stateDir, 'endpoints.json.new'));
  tellMore();
  await until('the second is told', () => told === 1);
  return { plane, errors, port, isEnded: () => isEnded };
}

test('a folder that can not be written keeps nothing from its end', async (t) => {
  const { plane, errors, port, isEnded } = await unwritable(t);
  let closed = 0;
  plane.on('close', () => (closed += 1));
  await within('its end', Promise.all([plane.close(), plane.close()]));
  t.is(closed, 1);
  await until('its source ends', isEnded);
  t.regex(errors.join(), /^StateError: .*endpoints\.json can't be written: EISDIR: .*endpoints\.json\.new'$/);
  await t.throwsAsync(connect(t, port), { code: 'ECONNREFUSED' });
});

test('nor from an end by a signal', async (t) => {
  const abort = new AbortController();
  const { plane, errors, port, isEnded } = await unwritable(t, { signal: abort.signal });
  let closed = 0;
  plane.on('close', () => (closed += 1));
  abort.abort();
  await until('its end', () => closed === 1);
  await until('its source ends', isEnded);
  t.is(errors.length, 1);
  await t.throwsAsync(connect(t, port), { code: 'ECONNREFUSED' });
});

test('after a port in use, listen() can be called again', async (t) => {
  const port = await closedPort();
  const holder = http.createServer().listen(port, '127.0.0.1');
  await once(holder, 'listening');
  let begun = 0;
  const { plane, errors } = makePlane(t, {
    listen: `127.0.0.1:${port}`,
    stateDir: join(temporaryFolder(t), 'state'),
    discovery: {
      basket: async function* (signal) {
        begun += 1;
        yield { set: ['10.0.0.1:80'] };
        await once(signal, 'abort');
      },
    },
  });
  for (const times of [1, 2]) {
    await t.throwsAsync(plane.listen(), { code: 'EADDRINUSE' });
    t.is(begun, times);
    t.deepEqual(plane.sources(), []);
  }
  holder.close();
  await once(holder, 'close');
  const addresses = await plane.listen();
  t.deepEqual(addresses, [`127.0.0.1:${port}`]);
  t.is(plane.sources()[0]?.endpoints, 1);
  t.regex(await plane.token('basket'), /^mesh-token-/);
  t.deepEqual(await plane.listen(), addresses);
  t.deepEqual(errors, []);
});

test('what was closed says so, whatever it is asked', async (t) => {
  const { plane } = makePlane(t);
  await t.throwsAsync(plane.token('basket'), { message: 'the control plane does not listen' });
  const port = portOf(await plane.listen());
  await plane.close();
  await t.throwsAsync(connect(t, port), { code: 'ECONNREFUSED' });
  const calls: (() => Promise<unknown>)[] = [
    () => plane.listen(),
    () => plane.apply(MESH),
    () => plane.token('basket'),
    () => plane.revoke('4f1c'),
    () => plane.allow('4f1c'),
  ];
  for (const call of calls) await t.throwsAsync(call(), { instanceOf: StateError, code: 'MESH_STATE' });
  await plane.close();
});

test('what is closed while it starts does not start', async (t) => {
  let begun = 0;
  const { plane } = makePlane(t, {
    discovery: {
      basket: async function* (signal) {
        begun += 1;
        await once(signal, 'abort');
        yield { set: [] };
      },
    },
  });
  const started = t.throwsAsync(plane.listen(), { instanceOf: StateError, message: /was closed/ });
  await until('it waits for its source', () => begun === 1);
  await within('its end', Promise.all([plane.close(), started]));

  const abort = new AbortController();
  const { plane: other } = makePlane(t, { signal: abort.signal });
  const reason = new Error('enough');
  const aborted = t.throwsAsync(other.listen(), { is: reason });
  abort.abort(reason);
  await within('its end', aborted);
});

test('what is closed as soon as it starts begins nothing afterwards, and is closed when all of it has ended', async (t) => {
  let begun = 0;
  const { plane } = makePlane(t, {
    stateDir: join(temporaryFolder(t), 'state'),
    discovery: {
      basket: async function* (signal) {
        begun += 1;
        await once(signal, 'abort');
        yield { set: [] };
      },
    },
  });
  let hasEnded = false;
  const started = t
    .throwsAsync(plane.listen(), { instanceOf: StateError, message: /was closed/ })
    .then(() => (hasEnded = true));
  await within('its end', plane.close());
  await turn();
  t.true(hasEnded);
  t.is(begun, 0);
  await started;
});

test('nor does it ask an etcd that is shared', async (t) => {
  const folder = temporaryFolder(t);
  const etcd = await tcpServer(t);
  const keyFile = join(folder, 'operator.key');
  writeFileSync(keyFile, 'a key of the operator, which is long enough');
  const shared = { etcd: { endpoints: `http://${etcd.address}`, prefix: '/mesh/control/' }, keyFile };
  const open = (): MeshControl => {
    const options = { listen: '127.0.0.1:0', stateDir: join(folder, 'state') };
    const plane = createControlPlane({ mesh: { shared }, ...MESH }, options);
    t.teardown(() => plane.close());
    return plane;
  };
  const closed = { instanceOf: StateError, message: /was closed/ };
  const first = open();
  const never = t.throwsAsync(first.listen(), closed);
  await within('its end', Promise.all([first.close(), never]));
  t.is(etcd.peers.length, 0);
  // One that is asking gives up.
  const second = open();
  const cut = t.throwsAsync(second.listen(), closed);
  await until('it asks', () => etcd.peers.length > 0);
  await within('its end', Promise.all([second.close(), cut]));
});
