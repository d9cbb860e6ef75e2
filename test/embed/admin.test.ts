// Can an embedded proxy be asked what it does, and `mesh run` as well, by its flags?

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import test, { type ExecutionContext } from 'ava';
import { pino } from 'pino';
import { type BoundAddress, type Listening, createProxy } from '../../src/index.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin, request } from '../support/http.js';
import { type Running, start } from '../support/processes.js';
import { Exposition } from '../support/prometheus.js';
import { cleanEnvironment } from '../support/sidecar.js';
import { tcpServer } from '../support/tcp.js';
import { PATIENCE_MS, until, within } from '../support/wait.js';
import { everythingTo, makeProxy } from './support.js';

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

function portOf(addresses: readonly BoundAddress[], name: string): number {
  return addresses.find(({ listener }) => listener === name)?.port ?? 0;
}

test('off unless asked for; then on a free port, last among the addresses', async (t) => {
  const quiet = makeProxy(t, everythingTo('127.0.0.1:1'));
  t.deepEqual(
    (await quiet.listen()).addresses.map(({ listener }) => listener),
    ['web'],
  );
  const origin = await httpOrigin(t, (_, response) => response.end('ok'));
  const proxy = makeProxy(t, everythingTo(origin.address), { admin: '127.0.0.1:0' });
  const { addresses } = await proxy.listen();
  t.is(addresses.at(-1)?.listener, 'admin');
  const admin = portOf(addresses, 'admin');
  await request(portOf(addresses, 'web'));
  const text = await until('the request is counted', async () => {
    const metrics = new Exposition((await request(admin, { path: '/metrics' })).text);
    // It is the last of what is counted.
    return metrics.sum('mesh_request_duration_seconds_count') === 1 && metrics;
  });
  t.is(text.sum('mesh_responses_total'), 1);
  t.is(text.sum('mesh_requests_total'), 1);
  const own = (await proxy.stats()).routes;
  const { routes } = JSON.parse((await request(admin, { path: '/stats' })).text) as { routes: unknown };
  t.deepEqual(routes, JSON.parse(JSON.stringify(own)));
  const after = await proxy.apply(everythingTo(origin.address));
  t.is(portOf(after.addresses, 'admin'), admin, 'it stays');
});

test('a configuration with another admin or threads is live without them, and that is said once', async (t) => {
  const said: string[] = [];
  const say = (...[first, text]: [object | string, string?]): void =>
    void said.push(typeof first === 'string' ? first : (text ?? ''));
  const logger = { debug: () => {}, info: () => {}, warn: say, error: say };
  const config = everythingTo('127.0.0.1:1');
  const proxy = createProxy({ ...config, admin: '127.0.0.1:0', threads: 1 }, { logger });
  t.teardown(() => proxy.close());
  const warnings: string[] = [];
  proxy.on('warning', ({ code, message }) => warnings.push(`${code} ${message}`));
  const admin = portOf((await proxy.listen()).addresses, 'admin');
  const off = { ...config, admin: 'off', threads: 1 } as const;
  for (const next of [
    off,
    off,
    { ...config, threads: 2 },
    { ...config, admin: '127.0.0.1:0', threads: 1 },
    off,
  ])
    t.is(portOf((await proxy.apply(next)).addresses, 'admin'), admin);
  const told = [
    'admin changes with the next start',
    'admin and threads change with the next start',
    'admin changes with the next start',
  ];
  t.deepEqual(said, told);
  t.deepEqual(
    warnings,
    told.map((text) => `MESH_RESTART_NEEDED ${text}`),
  );
  t.is((await request(admin, { path: '/live' })).status, 200);
});

test('an option wins over the configuration at the next start too, so that there is nothing to say', async (t) => {
  const proxy = makeProxy(t, everythingTo('127.0.0.1:1'), { admin: false });
  const warnings: string[] = [];
  proxy.on('warning', ({ message }) => warnings.push(message));
  await proxy.listen();
  await proxy.apply({ ...everythingTo('127.0.0.1:1'), admin: '127.0.0.1:0', threads: 3 });
  t.deepEqual(warnings, []);
});

/** Asks the admin server for more entries of the log than JavaScript's queue takes, then for a drain; then lets go. */
const FLOOD = `
const { parentPort, workerData: { port, entries, flag } } = require('node:worker_threads');
const http = require('node:http');
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const ask = (method, path, body) => new Promise((resolve, reject) => {
  const asked = http.request({ port, host: '127.0.0.1', agent, method, path }, (response) => {
    response.resume().on('end', resolve);
  });
  asked.on('error', reject).end(body);
});
(async () => {
  for (let entry = 0; entry < entries; entry += 1) {
    await ask('PUT', '/log-level', entry % 2 === 0 ? 'debug' : 'error');
  }
  await ask('POST', '/drain');
})().finally(() => {
  Atomics.store(flag, 0, 1);
  Atomics.notify(flag, 0);
  agent.destroy();
});`;

test('a drain is heard although JavaScript was blocked and more was said than it can keep, at any level', async (t) => {
  const proxy = makeProxy(t, everythingTo('127.0.0.1:1'), { admin: '127.0.0.1:0' });
  const { addresses } = await proxy.listen();
  const flag = new Int32Array(new SharedArrayBuffer(4));
  // An even number: the last level is the one at which the least is said.
  const workerData = { port: portOf(addresses, 'admin'), entries: 1100, flag };
  const worker = new Worker(FLOOD, { eval: true, workerData });
  await once(worker, 'online');
  const ends = Promise.all([once(proxy, 'draining'), once(proxy, 'close')]);
  t.not(Atomics.wait(flag, 0, 0, PATIENCE_MS), 'timed-out');
  await within('the end', ends);
  t.false(proxy.listening);
  await worker.terminate();
});

test('a drain that is asked for on the admin port is the proxy’s', async (t) => {
  const lines: { msg: string; level: number }[] = [];
  const logger = pino(
    { level: 'debug' },
    {
      write: (line: string) => void lines.push(JSON.parse(line) as { msg: string; level: number }),
    },
  );
  const proxy = makeProxy(t, everythingTo('127.0.0.1:1'), { admin: '127.0.0.1:0', logger });
  const { addresses } = await proxy.listen();
  const ends = Promise.all([once(proxy, 'draining'), once(proxy, 'close')]);
  t.is((await request(portOf(addresses, 'admin'), { method: 'POST', path: '/drain' })).status, 202);
  await ends;
  t.false(proxy.listening);
  const said = new Set(lines.map(({ msg }) => msg));
  t.true(said.has('draining, as asked on the admin port'), 'the core speaks to the logger');
  t.true(said.has('an update is live'));
});

test('an admin address in use is a ListenError, and nothing listens', async (t) => {
  const taken = await tcpServer(t);
  const proxy = makeProxy(t, everythingTo('127.0.0.1:1'), { admin: taken.address });
  await t.throwsAsync(proxy.listen(), { code: 'EADDRINUSE', message: /listener admin: cannot listen on / });
  t.false(proxy.listening);
  t.throws(() => makeProxy(t, everythingTo('127.0.0.1:1'), { admin: 'nowhere' }), {
    code: 'MESH_OPTION_INVALID',
  });
});

async function runMesh(t: ExecutionContext, ...args: string[]): Promise<[Running, Listening['addresses']]> {
  const mesh = start(t, process.execPath, [main, 'run', '-o', 'json', ...args], { env: cleanEnvironment() });
  const line = await until('it listens', () => {
    const first = mesh
      .stdout()
      .toString()
      .split('\n')
      .find((text) => text.includes('"listening"'));
    if (first === undefined && mesh.ended) throw new Error(mesh.stderr());
    return first;
  });
  return [mesh, (JSON.parse(line) as Listening).addresses];
}

test('mesh run takes the flags of the sidecar', async (t) => {
  const origin = await httpOrigin(t, (_, response) => response.end('ok'));
  const path = join(temporaryFolder(t), 'access.log');
  const [mesh, addresses] = await runMesh(
    t,
    '--listen=127.0.0.1:0',
    `--to=${origin.address}`,
    '--admin=127.0.0.1:0',
    '--threads=1',
    '--lame-duck=0s',
    `--access-log=${path}`,
    '--log-level=debug',
    '--log-format=json',
  );
  t.is((await request(portOf(addresses, 'main'))).text, 'ok');
  const line = await until(
    'the request is written down',
    () => readFileSync(path, 'utf8').split('\n')[0] || undefined,
  );
  t.like(JSON.parse(line), { listener: 'main', status: 200 });
  t.is((await request(portOf(addresses, 'admin'), { path: '/ready' })).status, 200);
  await mesh.said(/"message":"an update is live"/);
  mesh.signal('SIGUSR1');
  t.is((await request(portOf(addresses, 'admin'), { method: 'POST', path: '/drain' })).status, 202);
  t.deepEqual(await mesh.exit, { code: 0, signal: null });
});

test('mesh run --check only looks', async (t) => {
  const args = [main, 'run', '--check', '--listen', '127.0.0.1:0', '--to', '127.0.0.1:1'];
  const mesh = start(t, process.execPath, args, { env: cleanEnvironment() });
  t.is((await mesh.exit).code, 0);
  t.is(mesh.stdout().toString(), 'the configuration is valid\n');
});
