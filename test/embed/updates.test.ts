// Does any request notice that the configuration changes?

import { symlinkSync } from 'node:fs';
import type http from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { type Config, ListenError, type ListenerConfig } from '../../src/index.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin, keepAliveAgent, request } from '../support/http.js';
import { closedPort } from '../support/tcp.js';
import { everythingTo, listening, makeProxy } from './support.js';

/** The shop with as many routes as there were updates, so that each one changes routes, clusters and endpoints. */
function shop(to: string[], number: number): Config {
  const more = Array.from({ length: 20 }, (_, index) => ({
    match: { path: `/more-${index + (number % 7)}/*` },
    to: `extra-${number % 3}`,
  }));
  return {
    listeners: [
      {
        name: 'web',
        address: '127.0.0.1:0',
        routes: [{ name: 'app', to: 'app', setHeaders: { 'x-version': String(number) } }, ...more],
      },
      // Comes and goes.
      ...(number % 2 === 0 ? [] : [{ name: 'side', address: '127.0.0.1:0', to: 'app' }]),
    ],
    clusters: {
      app: { endpoints: number % 4 === 0 ? to.slice(0, 1) : to },
      [`extra-${number % 3}`]: { endpoints: ['127.0.0.1:1'] },
    },
  };
}

test('ten updates a second under load: no request fails', async (t) => {
  const UPDATES = 50;
  const versions = new Set<string | undefined>();
  const answer: http.RequestListener = ({ headers }, response) => {
    versions.add(headers['x-version'] as string | undefined);
    response.end('fine');
  };
  const [one, two] = await Promise.all([httpOrigin(t, answer), httpOrigin(t, answer)]);
  const to = [one.address, two.address];
  const { proxy, port } = await listening(t, shop(to, 0), { threads: 2 });

  const load = { over: false };
  let sent = 0;
  const failures: string[] = [];
  const client = async (options: http.RequestOptions): Promise<void> => {
    while (!load.over) {
      try {
        const { status, text } = await request(port, options);
        if (status !== 200 || text !== 'fine') failures.push(`${status} ${text}`);
      } catch (error) {
        failures.push(String(error));
      }
      sent += 1;
    }
  };
  const agent = keepAliveAgent(t, { maxSockets: 8 });
  const clients = [...Array.from({ length: 8 }, () => client({ agent })), client({}), client({})];
  for (let number = 1; number <= UPDATES; number += 1) {
    await proxy.apply(shop(to, number));
    await sleep(100);
  }
  load.over = true;
  await Promise.all(clients);
  t.deepEqual(failures.slice(0, 5), []);
  t.is(failures.length, 0);
  t.true(sent > UPDATES, `${sent} requests`);
  t.true(versions.size > 2, 'updates took effect meanwhile');
  const { updates } = await proxy.stats();
  t.deepEqual(updates, { applied: UPDATES + 1, refused: 0 });
});

test('listen() called again tells where it listens now', async (t) => {
  const on = (...names: string[]): Config => ({
    listeners: names.map((name) => ({ name, address: '127.0.0.1:0', routes: [{ respond: 204 }] })),
  });
  const { proxy } = await listening(t, on('one'));
  const applied = await proxy.apply(on('two', 'three'));
  t.deepEqual(await proxy.listen(), applied);
  await t.throwsAsync(proxy.apply(on('two', 'two')));
  const { addresses } = await proxy.listen();
  t.deepEqual(
    addresses.map(({ listener }) => listener),
    ['two', 'three'],
  );
  for (const { port } of addresses) t.is((await request(port ?? 0)).status, 204);
});

test('what is refused before the core sees it counts as refused', async (t) => {
  const { proxy } = await listening(t, everythingTo('127.0.0.1:1'));
  await t.throwsAsync(proxy.apply({ listeners: 'none' } as unknown as Config), {
    code: 'MESH_CONFIG_INVALID',
  });
  proxy.countRefused();
  t.deepEqual((await proxy.stats()).updates, { applied: 1, refused: 2 });
});

test('a Unix socket that is taken by another path is refused as a port in use is, and stays', async (t) => {
  const folder = temporaryFolder(t);
  symlinkSync('.', join(folder, 'link'));
  const on = (name: string, ...path: string[]) => ({
    name,
    address: `unix:${join(folder, ...path)}`,
    routes: [{ respond: { status: 200 as const, body: name } }],
  });
  const one = on('one', 'web.sock');
  const { proxy } = await listening(t, { listeners: [one] });
  const refused = { instanceOf: ListenError, message: /listener two: .* the address is in use/ };
  await t.throwsAsync(proxy.apply({ listeners: [one, on('two', 'link', 'web.sock')] }), refused);
  const { text } = await request(0, { socketPath: join(folder, 'web.sock') });
  t.is(text, 'one');
  const both = makeProxy(t, { listeners: [on('one', 'both.sock'), on('two', 'link', 'both.sock')] });
  await t.throwsAsync(both.listen(), refused);
});

test('a listener that is gone may come back at once, however many threads have still to close its sockets', async (t) => {
  const origin = await httpOrigin(t);
  const side = join(temporaryFolder(t), 'side.sock');
  for (const address of [`127.0.0.1:${await closedPort()}`, `unix:${side}`]) {
    const { proxy, port } = await listening(t, everythingTo(origin.address), { threads: 24 });
    const [web] = everythingTo(origin.address).listeners ?? [];
    const [here, gone] = [[web, { name: 'side', address, to: origin.address }], [web]] as ListenerConfig[][];
    for (let times = 0; times < 60; times += 1) {
      for (const listeners of [gone, here]) await t.notThrowsAsync(proxy.apply({ listeners }), address);
    }
    t.deepEqual((await proxy.stats()).updates, { applied: 121, refused: 0 });
    const options = address.startsWith('unix:') ? { socketPath: side } : {};
    const at = address.startsWith('unix:') ? port : Number(address.split(':')[1]);
    t.is((await request(at, options)).status, 200);
    await proxy.close();
  }
});
