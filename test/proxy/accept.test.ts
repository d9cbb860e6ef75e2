// What happens when a process has no file descriptors left to accept with?

import { readFileSync, readdirSync } from 'node:fs';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { httpOrigin, keepAliveAgent, request } from '../support/http.js';
import { startSidecar, web } from '../support/sidecar.js';
import { until } from '../support/wait.js';

const DESCRIPTORS = 60;

/** CPU time of a process in seconds, user and system. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  // Fields 14 and 15, counted in ticks of 10 ms.
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function usedDescriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

test('it waits without spinning, serves who is there, counts it, and recovers', async (t) => {
  const origin = await httpOrigin(t, (_, response) => response.end('ok'));
  // Who is silent is not cut off for that.
  const listener = { routes: [{ to: origin.address }], timeouts: { header: '5m' } };
  const proxy = await startSidecar(t, web(listener), { admin: '127.0.0.1:0', descriptors: DESCRIPTORS });
  const [port, admin] = [proxy.port('web'), proxy.port('admin')];
  const agent = keepAliveAgent(t, { maxSockets: 1 });
  const ask = (): ReturnType<typeof request> => request(port, { agent });
  t.is((await ask()).text, 'ok');

  // More clients than descriptors: the kernel holds the rest. The last descriptors are left to the admin server.
  const cut: string[] = [];
  const clients = Array.from({ length: DESCRIPTORS * 2 }, () => {
    const client = net.connect(port, '127.0.0.1').on('error', ({ message }) => cut.push(message));
    return client.on('end', () => cut.push('end')).resume();
  });
  t.teardown(() => clients.forEach((client) => client.destroy()));
  const reached = /^mesh_limit_hits_total\{listener="web",limit="file_descriptors"\} [1-9]/m;
  const metrics = async (): Promise<string> => (await request(admin, { path: '/metrics' })).text;
  await until('there are no descriptors left for clients', async () => reached.test(await metrics()));
  t.true(usedDescriptors(proxy.pid) < DESCRIPTORS);
  t.is((await request(admin, { path: '/ready' })).status, 200);

  const [cpu, from] = [cpuSeconds(proxy.pid), performance.now()];
  for (let n = 0; n < 20; n += 1) {
    const answer = await ask();
    t.is(answer.text, 'ok');
    t.true(answer.reused);
    await sleep(50);
  }
  // A thread that spins uses all of the time; one that waits uses a hundredth.
  const share = (cpuSeconds(proxy.pid) - cpu) / ((performance.now() - from) / 1000);
  t.true(share < 0.5, `${(share * 100).toFixed(0)} % of a CPU`);

  // Nobody was let in to be cut off: who is not served waits.
  t.deepEqual(cut, []);
  clients.forEach((client) => client.destroy());
  await until('a new connection is served', async () => (await request(port)).text === 'ok');
  t.regex(await metrics(), reached);
});
