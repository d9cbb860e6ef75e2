// A client of many services: undici sends everything to one Unix socket, and the proxy behind it finds the service by
// its host, balances, and leaves out a server that is down. `node examples/undici.mjs` asks ten times and ends.

import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createProxy } from '@mesh/proxy';
import { Agent, request } from 'undici';

// A service with two servers, and a third that has gone.
const servers = ['one', 'two', 'gone'].map((name) =>
  createServer((_, response) => response.end(name)).listen(0, '127.0.0.1'),
);
await Promise.all(servers.map((server) => once(server, 'listening')));
const endpoints = servers.map((server) => `127.0.0.1:${server.address().port}`);
servers[2].close();

const folder = await mkdtemp(join(tmpdir(), 'mesh-'));
const socket = join(folder, 'out.sock');
const proxy = createProxy({
  listeners: [
    {
      name: 'out',
      address: `unix:${socket}`,
      direction: 'outbound',
      routes: [{ match: { host: 'orders.internal' }, to: 'orders', timeout: '2s' }],
    },
  ],
  clusters: { orders: { endpoints, balance: 'roundRobin' } },
});
await proxy.listen();

const dispatcher = new Agent({ connect: { socketPath: socket } });
const answers = {};
for (let asked = 0; asked < 10; asked += 1) {
  const { statusCode, body } = await request('http://orders.internal/', { dispatcher });
  const answer = `${statusCode} ${await body.text()}`;
  answers[answer] = (answers[answer] ?? 0) + 1;
}
console.log(answers);

await dispatcher.close();
await proxy.close();
await rm(folder, { recursive: true });
for (const server of servers) server.close();
