// Does anybody notice that a listener has another name, or another one's address?

import test from 'ava';
import type { Config, ListenerConfig } from '../../src/index.js';
import { temporaryFolder } from '../support/files.js';
import { type Response, keepAliveAgent, request } from '../support/http.js';
import { inTime, until } from '../support/wait.js';
import { freePort } from '../mesh/support.js';
import { listening } from './support.js';

/** How long a connection may be silent that came to a listener which drains: `WARM` of the core. */
const WARM_MS = 1000;

/** Listeners that answer with their name. */
const named = (...places: readonly (readonly [name: string, address: string])[]): Config => ({
  listeners: places.map(([name, address]): ListenerConfig => ({
    name,
    address,
    routes: [{ respond: { status: 200, body: name } }],
  })),
});

test('a listener that is renamed keeps its socket: nobody is refused', async (t) => {
  const address = `127.0.0.1:${await freePort()}`;
  const { proxy, port } = await listening(t, named(['first', address]), { threads: 2 });
  const load = { over: false };
  const ask = (): Promise<Response> => inTime('an answer', WARM_MS, () => request(port));
  const failures: string[] = [];
  const answers = new Set<string>();
  const client = async (): Promise<void> => {
    while (!load.over) {
      await ask().then(
        ({ text }) => answers.add(text),
        (error: unknown) => failures.push(String(error)),
      );
    }
  };
  const clients = [client(), client(), client(), client()];
  const agent = keepAliveAgent(t, { maxSockets: 1 });
  t.is((await request(port, { agent })).text, 'first');
  const last = 'name-20';
  const names = [...Array.from({ length: 19 }, (_, number) => `name-${number}`), last];
  for (const name of names) {
    const { addresses } = await proxy.apply(named([name, address]));
    t.deepEqual(
      addresses.map((at) => [at.listener, at.port]),
      [[name, port]],
    );
    await until('it answers', async () => (await ask()).text === name);
  }
  load.over = true;
  await Promise.all(clients);
  t.deepEqual(failures, []);
  t.true(answers.size > 1);
  // A connection of the listener that is gone ends with its next answer, at the latest.
  await until('nobody has the first one', () =>
    request(port, { agent }).then(
      ({ text }) => text === last,
      // One that is idle for longer than a request may be on its way ends without: just now, it seems.
      ({ code }: NodeJS.ErrnoException) => t.is(code, 'ECONNRESET') && false,
    ),
  );
});

test('two listeners that exchange their ports keep both sockets', async (t) => {
  const [one, two] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
  const { proxy } = await listening(t, named(['a', one], ['b', two]), { threads: 2 });
  const says = async (address: string) => (await request(Number(address.split(':')[1]))).text;
  await proxy.apply(named(['a', two], ['b', one]));
  t.deepEqual(await Promise.all([says(one), says(two)]), ['b', 'a']);
  // One goes, another comes to its place, and a third to a new one.
  const three = `127.0.0.1:${await freePort()}`;
  await proxy.apply(named(['c', one], ['a', three]));
  t.deepEqual(await Promise.all([says(one), says(three)]), ['c', 'a']);
  await until('the socket that nobody has any more is closed', () =>
    says(two).then(
      () => false,
      ({ code }: NodeJS.ErrnoException) => code === 'ECONNREFUSED',
    ),
  );
});

test('a Unix socket is handed on with its file', async (t) => {
  const socketPath = `${temporaryFolder(t)}/web.sock`;
  const { proxy } = await listening(t, named(['first', `unix:${socketPath}`]));
  await proxy.apply(named(['second', `unix:${socketPath}`]));
  t.is((await request(0, { socketPath })).text, 'second');
});

test('a port that one of ours has at another address is told as such, and nothing changes', async (t) => {
  const port = await freePort();
  const { proxy } = await listening(t, named(['web', `127.0.0.1:${port}`]));
  const error = await t.throwsAsync(proxy.apply(named(['web', `0.0.0.0:${port}`])), { code: 'EADDRINUSE' });
  t.regex(
    error.message,
    new RegExp(`listener web \\(127.0.0.1:${port}\\) has that port until a change is live`),
  );
  t.is((await request(port)).text, 'web');
});
