// Is the socket of a mesh where it is said to be, and does nobody else answer for it?

import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import * as net from 'node:net';
import { dirname, join } from 'node:path';
import test from 'ava';
import { NoAnswerError, SOCKET, askStatus, askToken, findSocket } from '../../src/mesh/admin/client.js';
import { MeshAdmin } from '../../src/mesh/admin/server.js';
import { temporaryFolder } from '../support/files.js';
import { start } from '../support/processes.js';
import { cleanEnvironment } from '../support/sidecar.js';
import { until } from '../support/wait.js';
import { source } from './status.js';

const MESH = join('dist', 'cli', 'main.js');

test('a path that is too long for a socket is told, and the mesh ends when asked', async (t) => {
  const above = temporaryFolder(t);
  const folder = join(above, 'd'.repeat(60), 'e'.repeat(60));
  mkdirSync(folder, { recursive: true });
  const file = join(folder, 'mesh.yaml');
  writeFileSync(file, 'services: { web: { port: 3000 } }\n');
  const args = [MESH, 'control', file, '--listen', '127.0.0.1:0'];
  const control = start(t, process.execPath, args, { env: cleanEnvironment() });
  await control.said(/at most 10[37] bytes.*folder with a shorter path/);
  await until('the control plane', () => /listens on/.test(control.stdout().toString()));
  t.deepEqual(readdirSync(above), ['d'.repeat(60)]);
  t.deepEqual(readdirSync(dirname(folder)), ['e'.repeat(60)]);
  control.signal('SIGTERM');
  t.is((await control.exit).code, 0);
  const long = join(folder, SOCKET);
  await t.throwsAsync(askStatus(long), { instanceOf: NoAnswerError, message: /at most 10[37] bytes/ });
});

/** A folder in one that somebody made a socket in. */
async function withSocket(
  t: Parameters<typeof temporaryFolder>[0],
): Promise<{ below: string; socket: string }> {
  const folder = temporaryFolder(t);
  const [below, socket] = [join(folder, 'sub'), join(folder, SOCKET)];
  mkdirSync(below);
  mkdirSync(dirname(socket), { mode: 0o700 });
  const server = createServer((_, response) => void response.end('{"token":"of somebody else"}')).listen(
    socket,
  );
  await until('the socket', () => lstatSync(socket, { throwIfNoEntry: false })?.isSocket());
  t.teardown(() => server.close());
  return { below, socket };
}

test('a socket that others can put into its place is not asked', async (t) => {
  const { below, socket } = await withSocket(t);
  t.is(findSocket(below), socket);
  chmodSync(dirname(socket), 0o777);
  const refused = { instanceOf: NoAnswerError, message: /others may write in .*chmod go-w/ };
  t.throws(() => findSocket(below), refused);
  await t.throwsAsync(askStatus(socket), refused);
  chmodSync(dirname(socket), 0o1777);
  t.is(findSocket(below), socket, 'as in /tmp, others may put nothing into its place');
});

(process.getuid?.() === 0 ? test : test.skip)("another user's socket is not asked", async (t) => {
  const nobody = 65_534;
  const refused = { instanceOf: NoAnswerError, message: /is another user's \(uid 65534\)/ };
  for (const whose of ['folder', 'socket']) {
    const { below, socket } = await withSocket(t);
    chownSync(whose === 'folder' ? dirname(socket) : socket, nobody, nobody);
    t.throws(() => findSocket(below), refused, whose);
    await t.throwsAsync(askStatus(socket), refused, whose);
  }
});

/** A socket that nobody answers, as one that was killed leaves it. */
async function leaveSocket(path: string): Promise<void> {
  const server = net.createServer().listen(`${path}.x`);
  await once(server, 'listening');
  linkSync(`${path}.x`, path);
  server.close();
  await once(server, 'close');
}

for (const before of ['nothing', 'a socket that nobody answers', 'a file']) {
  test(`of several that start at once one answers, where there was ${before}`, async (t) => {
    const path = join(temporaryFolder(t), 'sock');
    if (before === 'a file') writeFileSync(path, '');
    else if (before !== 'nothing') await leaveSocket(path);
    const names = ['a', 'b', 'c', 'd', 'e', 'f'];
    const starts = await Promise.allSettled(
      names.map((name) => MeshAdmin.start(source({ token: () => name }), path)),
    );
    const good = starts.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
    for (const admin of good) t.teardown(() => admin.close());
    t.is(good.length, 1);
    for (const each of starts) {
      if (each.status === 'rejected') t.is((each.reason as { code?: string }).code, 'EADDRINUSE');
    }
    const winner = starts.findIndex(({ status }) => status === 'fulfilled');
    t.is(await askToken(path, { service: 'web', uses: 1, ttlMs: 1 }), names[winner] ?? '');
    t.is(lstatSync(path).mode & 0o777, 0o600);
    t.deepEqual(readdirSync(dirname(path)), ['sock']);
  });
}

test('one that is too busy to be connected to is somebody all the same', async (t) => {
  const path = join(temporaryFolder(t), 'sock');
  const program = `require('net').createServer().listen({ path: process.argv[1], backlog: 1 }, () => console.log('up'))`;
  const busy = start(t, process.execPath, ['-e', program, path]);
  await until('it listens', () => busy.stdout().toString().includes('up'));
  busy.signal('SIGSTOP');
  // Until no more can wait: whoever is then told so.
  await until('it is full', async () => {
    const socket = net.connect(path);
    t.teardown(() => socket.destroy());
    return once(socket, 'connect').then(
      () => false,
      (error: NodeJS.ErrnoException) => error.code === 'EAGAIN',
    );
  });
  const [error] = await Promise.allSettled([MeshAdmin.start(source(), path)]);
  t.is(error.status === 'rejected' && (error.reason as { code?: string }).code, 'EADDRINUSE');
  t.deepEqual(readdirSync(dirname(path)), ['sock']);
  await t.throwsAsync(askStatus(path), { message: /busy, or stopped/ });
});

test('one that ends leaves the socket of another where it is', async (t) => {
  const path = join(temporaryFolder(t), 'sock');
  const first = await MeshAdmin.start(source(), path);
  t.teardown(() => first.close().catch(() => {}));
  rmSync(path);
  const second = await MeshAdmin.start(source({ trustDomain: 'mesh.second' }), path);
  await first.close();
  t.is((await askStatus(path)).trustDomain, 'mesh.second');
  await second.close();
  t.deepEqual(readdirSync(dirname(path)), []);
});
