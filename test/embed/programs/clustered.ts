// A cluster: two workers that answer with their number, and proxies. `clustered.js front | each`
//
//     front    one proxy, in the primary, in front of both workers; says `address HOST:PORT`
//     each     a proxy in each worker, in front of itself; says `address HOST:PORT` for each
//
// It ends when standard input does, and then says `worker N ended CODE` for each.

import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { type MeshProxy, createProxy } from '../../../src/index.js';

const WORKERS = 2;

async function proxyTo(to: string[]): Promise<{ proxy: MeshProxy; address: string }> {
  const proxy = createProxy(
    {
      listeners: [{ name: 'web', address: '127.0.0.1:0', routes: [{ to: 'workers' }] }],
      clusters: { workers: { endpoints: to, balance: 'roundRobin' } },
    },
    { threads: 1 },
  );
  const { addresses } = await proxy.listen();
  return { proxy, address: addresses[0]?.address ?? '' };
}

async function work(kind: string): Promise<void> {
  const server = http.createServer((_, response) => response.end(String(cluster.worker?.id)));
  // A port of its own: `exclusive` keeps the cluster from sharing it.
  server.listen({ port: 0, host: '127.0.0.1', exclusive: true });
  await once(server, 'listening');
  const own = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const front = kind === 'each' ? await proxyTo([own]) : undefined;
  process.send?.(front?.address ?? own);
  process.once('message', () => {
    server.close();
    server.closeAllConnections();
    void front?.proxy.close().then(() => process.disconnect());
    if (!front) process.disconnect();
  });
}

async function lead(kind: string): Promise<void> {
  const workers = Array.from({ length: WORKERS }, (): Worker => cluster.fork());
  const addresses = await Promise.all(
    workers.map(async (worker) => ((await once(worker, 'message')) as [string])[0]),
  );
  const front = kind === 'front' ? await proxyTo(addresses) : undefined;
  for (const address of front ? [front.address] : addresses) process.stdout.write(`address ${address}\n`);
  process.stdin.resume();
  await once(process.stdin, 'end');
  await front?.proxy.close();
  for (const worker of workers) {
    const ended = once(worker, 'exit') as Promise<[number]>;
    worker.send('end');
    const [code] = await ended;
    process.stdout.write(`worker ${worker.id} ended ${code}\n`);
  }
}

const [kind = ''] = process.argv.slice(2);
await (cluster.isPrimary ? lead(kind) : work(kind));
