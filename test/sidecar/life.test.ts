// Does the sidecar take new work, keep the old when the new is bad, and go when it is told to?

import test from 'ava';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, existsSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { type Config, checkConfig } from '../../src/index.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin, request } from '../support/http.js';
import { cleanEnvironment, sidecarFile, startSidecar } from '../support/sidecar.js';
import { connect } from '../support/tcp.js';
import { until, within } from '../support/wait.js';
import { fileWith, startWithAdmin } from './support.js';

const answers = (body: string): Config => ({
  listeners: [
    {
      name: 'web',
      address: '127.0.0.1:0',
      routes: [{ match: { path: '/*' }, respond: { status: 200, body } }],
    },
  ],
});

test('SIGHUP: a good configuration goes live, a bad one leaves the last good one', async (t) => {
  const { sidecar, admin } = await startWithAdmin(t, answers('one'));
  const port = sidecar.port('web');
  t.is((await request(port)).text, 'one');
  await sidecar.reload(answers('two'));
  t.is((await request(port)).text, 'two');
  for (const bad of ['{', '{"listeners":[{"name":"web"}]}']) {
    const before = sidecar.stderr().length;
    writeFileSync(sidecar.file, bad);
    sidecar.process.signal('SIGHUP');
    await sidecar.said(/not applied: the last good configuration keeps serving/, before);
    t.is((await request(port)).text, 'two');
    t.is((await admin.get('/ready')).status, 200);
  }
  await sidecar.reload(answers('three'));
  t.is((await request(port)).text, 'three');
  const metrics = await admin.metrics();
  t.is(metrics.sum('mesh_config_updates_total', { result: 'applied' }), 3);
  t.is(metrics.sum('mesh_config_updates_total', { result: 'refused' }), 2);
});

test('SIGTERM: not ready, nothing new, and what is in flight is finished', async (t) => {
  const held: ServerResponse[] = [];
  const origin = await httpOrigin(t, (_, response) => held.push(response));
  const { sidecar, admin } = await startWithAdmin(
    t,
    { listeners: [{ name: 'web', address: '127.0.0.1:0', routes: [{ to: origin.address }] }] },
    { lameDuck: '0s' },
  );
  const port = sidecar.port('web');
  const answer = request(port);
  await until('the request is at the server', () => held.length === 1);
  const idle = await connect(t, port);
  sidecar.process.signal('SIGTERM');
  await until('it is not ready', async () => (await admin.get('/ready')).status === 503);
  t.is((await admin.get('/ready')).text, 'draining\n');
  t.is((await admin.get('/live')).status, 200);
  t.is(await idle.readToEnd(), '');
  await until('the socket is closed', () =>
    request(port).then(
      () => false,
      (error: NodeJS.ErrnoException) => error.code === 'ECONNREFUSED',
    ),
  );
  held[0]?.end('finished');
  t.is((await answer).text, 'finished');
  t.deepEqual(await sidecar.process.exit, { code: 0, signal: null });
});

test('a second signal ends at once, with 1', async (t) => {
  const held: ServerResponse[] = [];
  const origin = await httpOrigin(t, (_, response) => held.push(response));
  const sidecar = await startSidecar(t, {
    listeners: [{ name: 'web', address: '127.0.0.1:0', routes: [{ to: origin.address }] }],
  });
  const answer = request(sidecar.port('web')).then(
    () => 'answered',
    () => 'lost',
  );
  await until('the request is at the server', () => held.length === 1);
  sidecar.process.signal('SIGTERM');
  await sidecar.said(/draining; a second signal ends at once/);
  sidecar.process.signal('SIGINT');
  t.deepEqual(await sidecar.process.exit, { code: 1, signal: null });
  t.is(await answer, 'lost');
});

test('POST /drain is a way out as well, and a signal after it the second one', async (t) => {
  const { sidecar, admin } = await startWithAdmin(t, answers('x'));
  t.is((await admin.ask('POST', '/drain')).status, 202);
  t.deepEqual(await sidecar.process.exit, { code: 0, signal: null });

  const patient = await startWithAdmin(t, answers('x'), { lameDuck: '1h' });
  t.is((await patient.admin.ask('POST', '/drain')).status, 202);
  await until('it drains', async () => (await patient.admin.get('/ready')).status === 503);
  t.is((await request(patient.sidecar.port('web'))).text, 'x', 'the lame duck serves');
  patient.sidecar.process.signal('SIGTERM');
  t.is((await patient.sidecar.process.exit).code, 1);
});

test('lines as JSON, and no more than the level lets pass', async (t) => {
  const { admin, sidecar } = await startWithAdmin(t, answers('x'));
  const lines = (text: string): string[] => text.trimEnd().split('\n').filter(Boolean);
  t.is((await admin.get('/log-level')).text, 'info\n');
  t.is((await admin.ask('PUT', '/log-level', 'debug')).status, 200);
  await sidecar.said(/the log level changed from=info to=debug/);
  await sidecar.reload(answers('y'));
  await sidecar.said(/^mesh-sidecar: debug: an update is live/m);

  const json = await startSidecar(
    t,
    { listeners: [] },
    {
      env: { MESH_LOG_FORMAT: 'json', MESH_LOG_LEVEL: 'debug', MESH_ADMIN: '127.0.0.1:0' },
    },
  );
  await json.said(/admin listens on .*\n/);
  for (const line of lines(json.stderr())) {
    const { time, level, message } = JSON.parse(line) as Record<string, string>;
    t.true(Boolean(time && level && message), line);
  }
});

test('a standard error that nobody reads stops neither signals nor the end', async (t) => {
  const fifo = join(temporaryFolder(t), 'stderr');
  t.is(spawnSync('mkfifo', [fifo]).status, 0);
  const reader = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
  t.teardown(() => closeSync(reader));
  const full = (): boolean => {
    try {
      writeSync(reader, Buffer.alloc(4096));
      return false;
    } catch {
      return true;
    }
  };
  await until('the pipe is full', full);
  const stderr = openSync(fifo, constants.O_WRONLY);
  const socket = join(temporaryFolder(t), 'web.sock');
  const config: Config = {
    listeners: [{ address: `unix:${socket}`, routes: [{ respond: { status: 200 } }] }],
  };
  const file = fileWith(t, checkConfig(config).toJson());
  const child = spawn(sidecarFile(), ['--config', file, '--admin', 'off', '--lame-duck', '0s'], {
    env: cleanEnvironment(),
    stdio: ['ignore', 'ignore', stderr],
  });
  closeSync(stderr);
  const exit = once(child, 'exit');
  t.teardown(() => child.kill('SIGKILL'));
  await until('it serves', () => existsSync(socket));
  child.kill('SIGTERM');
  t.deepEqual(await within('its end', exit), [0, null]);
});

test('a configuration that became a pipe is not waited for; a first one is, and signals are heard meanwhile', async (t) => {
  const sidecar = await startSidecar(t, answers('one'), { lameDuck: '0s' });
  rmSync(sidecar.file);
  t.is(spawnSync('mkfifo', [sidecar.file]).status, 0);
  sidecar.process.signal('SIGHUP');
  await sidecar.said(/is no regular file.*\n.*not applied/);
  t.is((await request(sidecar.port('web'))).text, 'one');
  rmSync(sidecar.file);
  await sidecar.reload(answers('two'));
  t.is((await request(sidecar.port('web'))).text, 'two');

  const pipe = join(temporaryFolder(t), 'pipe');
  t.is(spawnSync('mkfifo', [pipe]).status, 0);
  const start = async () => {
    const child = spawn(sidecarFile(), ['--config', pipe, '--admin', '127.0.0.1:0', '--lame-duck', '0s'], {
      env: cleanEnvironment(),
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const exit = once(child, 'exit');
    t.teardown(() => child.kill('SIGKILL'));
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    await until('it hears signals', () => said.includes('admin listens'));
    return { child, exit, said: () => said };
  };
  const waiting = await start();
  waiting.child.kill('SIGTERM');
  t.deepEqual(await within('its end', waiting.exit), [0, null]);
  const fed = await start();
  writeFileSync(pipe, checkConfig(answers('piped')).toJson());
  await until('it serves', () => fed.said().includes('web listens on'));
  fed.child.kill('SIGTERM');
  t.deepEqual(await within('its end', fed.exit), [0, null]);
});
