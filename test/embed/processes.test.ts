// Does a process with a proxy live and end as its owner wants, and does traffic flow while JavaScript is busy?

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin, keepAliveAgent, request } from '../support/http.js';
import { type Running } from '../support/processes.js';
import { connect } from '../support/tcp.js';
import { until, within } from '../support/wait.js';
import { program } from './support.js';

/** Waits until a program has written a line that begins with a word; the rest of it. */
async function told(running: Running, word: string): Promise<string> {
  const line = new RegExp(`^${word} ?(.*)$`, 'm');
  return until(`${running.name} says ${word}: ${running.stderr()}`, () => {
    const [, rest] = line.exec(running.stdout().toString()) ?? [];
    if (rest === undefined && running.ended) throw new Error(`it ended, and said: ${running.stderr()}`);
    return rest;
  });
}

async function portOf(running: Running): Promise<number> {
  return Number(/:(\d+)$/.exec(await told(running, 'address'))?.[1]);
}

test('a listening proxy keeps its process alive, and after close() nothing does', async (t) => {
  const origin = await httpOrigin(t);
  const running = program(t, 'serve', origin.address, 'ask', 'read', 'close');
  t.is(await told(running, 'status'), '200');
  const port = await portOf(running);
  t.is((await request(port)).status, 200);
  t.false(running.ended);
  running.child.stdin.write('go on\n');
  t.deepEqual(await within('the end of the process', running.exit), { code: 0, signal: null });
  t.is(running.stderr(), '');
});

test('after unref() it does not, and the process ends cleanly although it listens', async (t) => {
  const origin = await httpOrigin(t);
  const running = program(t, 'serve', origin.address, 'unref', 'ask');
  t.deepEqual(await within('the end of the process', running.exit), { code: 0, signal: null });
  t.regex(running.stdout().toString(), /status 200/);
  t.is(running.stderr(), '');
});

test('process.exit() ends a process that listens, with its code, also amid traffic', async (t) => {
  const origin = await httpOrigin(t, () => {});
  const running = program(t, 'serve', origin.address, 'read', 'exit');
  const port = await portOf(running);
  const cut = t.throwsAsync(request(port), { code: 'ECONNRESET' });
  await until('a request is under way', () => origin.requests === 1);
  running.child.stdin.write('exit\n');
  t.deepEqual(await within('the end of the process', running.exit), { code: 7, signal: null });
  await cut;
  await t.throwsAsync(connect(t, port), { code: 'ECONNREFUSED' });
  t.is(running.stderr(), '');
});

test('an exception ends it as it ends any process', async (t) => {
  const origin = await httpOrigin(t);
  const running = program(t, 'serve', origin.address, 'read', 'throw');
  await portOf(running);
  running.child.stdin.write('throw\n');
  t.deepEqual(await within('the end of the process', running.exit), { code: 1, signal: null });
  t.regex(running.stderr(), /nobody catches this/);
});

test('no signal handler is installed: a signal ends it as it ends any process', async (t) => {
  const origin = await httpOrigin(t);
  const running = program(t, 'serve', origin.address);
  await portOf(running);
  running.signal('SIGTERM');
  t.deepEqual(await within('the end of the process', running.exit), { code: null, signal: 'SIGTERM' });
});

test('traffic goes on while JavaScript blocks its event loop', async (t) => {
  const REQUESTS = 200;
  const origin = await httpOrigin(t);
  const file = join(temporaryFolder(t), 'unblock');
  const running = program(t, 'serve', origin.address, 'ask', `block=${file}`, 'close');
  const port = await portOf(running);
  await told(running, 'blocked');
  const agent = keepAliveAgent(t, { maxSockets: 4 });
  const kept = Array.from({ length: REQUESTS }, () => request(port, { agent }));
  const fresh = Array.from({ length: 20 }, () => request(port));
  const statuses = (await Promise.all([...kept, ...fresh])).map(({ status }) => status);
  t.deepEqual(new Set(statuses), new Set([200]));
  t.notRegex(running.stdout().toString(), /unblocked/, 'it was blocked all the time');
  writeFileSync(file, '');
  t.deepEqual(await within('the end of the process', running.exit), { code: 0, signal: null });
});

test('node:cluster: one proxy in the primary spreads requests over the workers', async (t) => {
  const running = program(t, 'clustered', 'front');
  const port = await portOf(running);
  const answers = await Promise.all(Array.from({ length: 10 }, () => request(port)));
  t.deepEqual(answers.map(({ text }) => text).toSorted(), [...Array(5).fill('1'), ...Array(5).fill('2')]);
  running.child.stdin.end();
  t.deepEqual(await within('the end of the process', running.exit), { code: 0, signal: null });
  t.regex(running.stdout().toString(), /worker 1 ended 0\nworker 2 ended 0\n$/);
});

test('node:cluster: each worker may have a proxy of its own', async (t) => {
  const running = program(t, 'clustered', 'each');
  const ports = await until('both workers listen', () => {
    const all = [
      ...running
        .stdout()
        .toString()
        .matchAll(/^address .*:(\d+)$/gm),
    ];
    return all.length === 2 && all.map(([, port]) => Number(port));
  });
  t.deepEqual(await Promise.all(ports.map(async (port) => (await request(port)).text)), ['1', '2']);
  running.child.stdin.end();
  t.deepEqual(await within('the end of the process', running.exit), { code: 0, signal: null });
  t.regex(running.stdout().toString(), /worker 1 ended 0\nworker 2 ended 0\n$/);
});

test('a logger and listeners that throw are the application’s to mend: the proxy goes on, and ends', async (t) => {
  const origin = await httpOrigin(t);
  const running = program(t, 'throws', origin.address);
  t.deepEqual(await within('the end of the process', running.exit), { code: 0, signal: null });
  const lines = running.stdout().toString().trim().split('\n');
  t.deepEqual(
    lines.filter((line) => !line.startsWith('uncaught')),
    ['listens true', 'status 200', 'ended true'],
  );
  for (const event of ['listening', 'applied', 'draining', 'close']) {
    t.is(lines.filter((line) => line === `uncaught ${event}`).length, 1, event);
  }
  t.is(lines.filter((line) => line === 'uncaught logger').length, 4);
});
