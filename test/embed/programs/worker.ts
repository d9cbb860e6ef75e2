// A worker thread with a proxy in it: tells its address, and goes on or ends as it is told. With name servers it does not
// wait until it listens, and has no address to tell.

import { parentPort, workerData } from 'node:worker_threads';
import { createProxy } from '../../../src/index.js';

const { to, dnsServers } = workerData as { to: string; dnsServers?: string[] };
const proxy = createProxy(
  { listeners: [{ name: 'web', address: '127.0.0.1:0', to }] },
  { threads: 2, ...(dnsServers && { dnsServers }) },
);
const listening = proxy.listen();
if (dnsServers) listening.catch(() => {});
else parentPort?.postMessage((await listening).addresses[0]?.port);
parentPort?.once('message', (how: 'close' | 'exit' | 'throw') => {
  if (how === 'exit') process.exit();
  if (how === 'throw') throw new Error('nobody catches this');
  void proxy.close();
});
