// Does a listener on a Unix socket serve as one on a port does, and is its file there exactly as long as it is?

import test, { type ExecutionContext } from 'ava';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import http, { type ServerResponse } from 'node:http';
import http2 from 'node:http2';
import { once } from 'node:events';
import net from 'node:net';
import { join } from 'node:path';
import { type Config, checkConfig, createProxy, ListenError } from '../../src/index.js';
import { temporaryFolder } from '../support/files.js';
import { request } from '../support/http.js';
import { ask } from '../support/http2.js';
import { startSidecar } from '../support/sidecar.js';
import { Peer, tcpServer } from '../support/tcp.js';
import { until } from '../support/wait.js';
import { fileWith, runSidecar } from './support.js';

const socketIn = (t: ExecutionContext): string => join(temporaryFolder(t), 'web.sock');

/** A listener at this path, with a body to answer by or a target. */
const at = (path: string, to: string | { body: string }): Config => ({
  listeners: [
    {
      name: 'web',
      address: `unix:${path}`,
      routes: [typeof to === 'string' ? { to } : { respond: { status: 200, ...to } }],
    },
  ],
});

/** Asks a listener on a Unix socket, on a connection of its own. */
const get = (socketPath: string): ReturnType<typeof request> => request(0, { socketPath });

async function connectTo(t: ExecutionContext, path: string): Promise<Peer> {
  const socket = net.connect({ path, allowHalfOpen: true });
  t.teardown(() => socket.destroy());
  await once(socket, 'connect');
  return new Peer(socket);
}

test('HTTP comes in by one socket and goes out by another, on every thread', async (t) => {
  const [path, behind] = [socketIn(t), socketIn(t)];
  const held: ServerResponse[] = [];
  const server = http.createServer((incoming, response) => {
    if (incoming.url === '/held') held.push(response);
    else response.end(`${incoming.method} ${incoming.url}`);
  });
  server.listen(behind);
  t.teardown(() => server.close());
  const sidecar = await startSidecar(t, at(path, `unix:${behind}`), { threads: 2 });
  // As the system makes sockets: whoever may write to the file may connect.
  t.is(statSync(path).mode & 0o777, 0o777 & ~process.umask());
  for (let n = 0; n < 20; n += 1) t.is((await get(path)).text, 'GET /');

  const session = http2.connect('http://unix', { createConnection: () => net.connect(path) });
  t.teardown(() => session.destroy());
  t.is((await ask(session, { ':path': '/two' })).text, 'GET /two');
  session.close();

  const late = request(0, { socketPath: path, path: '/held' });
  await until('it is held', () => held.length === 1);
  const exit = sidecar.drain();
  await until('its file is gone', () => !existsSync(path));
  held[0]?.end('late');
  t.is((await late).text, 'late');
  t.is((await exit).code, 0);
  t.true(existsSync(behind), 'the server has its own');
});

test('a stream comes in by a socket', async (t) => {
  const path = socketIn(t);
  const server = await tcpServer(t, async (peer) => {
    await peer.readUntil('!');
    peer.end('answer');
  });
  await startSidecar(t, {
    listeners: [{ name: 'web', address: `unix:${path}`, protocol: 'tcp', to: server.address }],
  });
  const peer = await connectTo(t, path);
  await peer.send('hello!');
  t.is(await peer.readToEnd(), 'answer');
});

test('the file that a killed process left is taken over', async (t) => {
  const path = socketIn(t);
  const first = await startSidecar(t, at(path, { body: 'one' }));
  t.is((await get(path)).text, 'one');
  await first.kill();
  t.true(existsSync(path));
  await startSidecar(t, at(path, { body: 'two' }));
  t.is((await get(path)).text, 'two');
});

test('a socket in use, and a file that is none, are refused and stay as they are', async (t) => {
  const path = socketIn(t);
  await startSidecar(t, at(path, { body: 'one' }));
  const file = fileWith(t, 'precious');
  for (const taken of [path, file]) {
    const resources = fileWith(t, checkConfig(at(taken, { body: 'two' })).toJson());
    const { code, stderr } = await runSidecar(['--config', resources]);
    t.is(code, 64);
    t.regex(stderr, /^mesh-sidecar: listener web can't listen on unix:\S+: Address already in use .*\n$/);
    const proxy = createProxy(at(taken, { body: 'two' }));
    const error = await t.throwsAsync(proxy.listen(), { instanceOf: ListenError });
    t.like(error, { code: 'EADDRINUSE', listener: 'web' });
    await proxy.close();
  }
  t.is((await get(path)).text, 'one');
  t.is(readFileSync(file, 'utf8'), 'precious');
});

test('the file goes with its listener: taken away by an update, or closed', async (t) => {
  const [path, other] = [socketIn(t), socketIn(t)];
  const proxy = createProxy(at(path, { body: 'one' }), { threads: 2 });
  t.teardown(() => proxy.close());
  const { addresses } = await proxy.listen();
  t.is(addresses[0]?.address, `unix:${path}`);
  t.is((await get(path)).text, 'one');
  await proxy.apply(at(other, { body: 'two' }));
  t.is((await get(other)).text, 'two');
  await until('the file of the one that moved is gone', () => !existsSync(path));

  // Who replaces the file is not undone.
  writeFileSync(path, '');
  await proxy.close();
  t.false(existsSync(other));
  t.true(existsSync(path));
});
