// Do the examples do what they say?

import test, { type ExecutionContext } from 'ava';
import { type Running, must, start } from '../support/processes.js';
import { cleanEnvironment } from '../support/sidecar.js';
import { until, within } from '../support/wait.js';

function example(t: ExecutionContext, name: string): Running {
  return start(t, process.execPath, [`examples/${name}.mjs`], {
    env: { ...cleanEnvironment(), PORT: '0', LOG_LEVEL: 'warn' },
  });
}

/** The address that an example prints. */
async function url(running: Running): Promise<string> {
  return until('an address', () => {
    const said = /^http:\/\/\S+$/m.exec(running.stdout().toString())?.[0];
    if (!said && running.ended) throw new Error(`it ended, and said: ${running.stderr()}`);
    return said;
  });
}

async function text(address: string): Promise<string> {
  return (await fetch(address, { headers: { connection: 'close' } })).text();
}

async function ended(t: ExecutionContext, running: Running): Promise<void> {
  running.signal('SIGTERM');
  t.deepEqual(await within('its end', running.exit), { code: 0, signal: null });
  t.is(running.stderr(), '');
}

test('plain http servers: both answer', async (t) => {
  const running = example(t, 'http');
  const address = await url(running);
  const seen = new Set<string>();
  await until('both have answered', async () => seen.add(await text(address)).size === 2);
  t.deepEqual([...seen].toSorted(), ['hello from one\n', 'hello from two\n']);
  await ended(t, running);
});

test('Express: its routes, a health check without it, and metrics of both', async (t) => {
  const running = example(t, 'express');
  const address = await url(running);
  t.is(await text(`${address}hello/you`), '{"hello":"you","you":"127.0.0.1"}');
  t.is(await text(`${address}healthz`), 'ok');
  t.regex(await text(`${address}metrics`), /^mesh_requests_total\{listener="web",route="\*".*\} 2$/m);
  await ended(t, running);
});

test('Fastify: its routes, and who asked', async (t) => {
  const running = example(t, 'fastify');
  const address = await url(running);
  t.is(await text(`${address}hello/you`), '{"hello":"you","you":"127.0.0.1"}');
  await ended(t, running);
});

test('undici: ten answers from two servers of three, none failed', async (t) => {
  const said = await must(process.execPath, ['examples/undici.mjs'], { env: cleanEnvironment() });
  const counts = [...said.matchAll(/'200 (one|two)': (\d+)/g)].map(([, name, count]) => [
    name,
    Number(count),
  ]);
  t.deepEqual(counts.map(([name]) => name).toSorted(), ['one', 'two']);
  t.is(
    counts.reduce((sum, [, count]) => sum + Number(count), 0),
    10,
    said,
  );
});
