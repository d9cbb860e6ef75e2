// Do several data threads share a port among themselves, and with nobody else?

import test from 'ava';
import { createProxy } from '../../src/index.js';
import { httpOrigin, request } from '../support/http.js';
import { start } from '../support/processes.js';
import { cleanEnvironment, sidecarFile, startSidecar } from '../support/sidecar.js';
import { connect } from '../support/tcp.js';
import { until, within } from '../support/wait.js';

test('connections are spread over the threads, and how evenly is a number', async (t) => {
  const origin = await httpOrigin(t, (_, response) => response.end('ok'));
  const proxy = createProxy(
    { listeners: [{ name: 'web', address: '127.0.0.1:0', routes: [{ to: origin.address }] }] },
    { threads: 2 },
  );
  t.teardown(() => proxy.close());
  const { addresses } = await proxy.listen();
  const port = addresses[0]?.port ?? 0;
  // The kernel draws a thread by the client's port: that 64 draws are all the same has odds of 2 to the 63.
  for (let n = 0; n < 64; n += 1) await connect(t, port);
  const { threads, threadImbalance, listeners } = await until('all are accepted', async () => {
    const stats = await proxy.stats();
    return stats.listeners[0]?.active === 64 && stats;
  });
  t.is(threads.length, 2);
  t.true(threads.every(({ connections }) => connections > 0));
  t.is(
    threads.reduce((sum, { connections }) => sum + connections, 0),
    64,
  );
  t.true(threadImbalance >= 1 && threadImbalance <= 2);
  t.is(listeners[0]?.connections, 64);
  const metrics = await proxy.metrics();
  t.regex(metrics, /^mesh_thread_imbalance_ratio \d/m);
  t.regex(metrics, /^mesh_thread_connections_active\{thread="1"\} [1-9]/m);
  t.is((await request(port)).text, 'ok');
});

test('a port that another proxy shares among its threads is in use', async (t) => {
  const proxy = await startSidecar(
    t,
    {
      listeners: [
        { name: 'web', address: '127.0.0.1:0', routes: [{ respond: { status: 200, body: 'first' } }] },
      ],
    },
    { threads: 2 },
  );
  for (const threads of [1, 2]) {
    const second = start(
      t,
      sidecarFile(),
      ['--listen', proxy.address(), '--to', '127.0.0.1:1', '--threads', `${threads}`, '--admin', 'off'],
      { env: cleanEnvironment() },
    );
    t.is((await within('its end', second.exit)).code, 64);
    t.regex(second.stderr(), /listener main can't listen on 127\.0\.0\.1:\d+: Address already in use/);
  }
  for (let n = 0; n < 20; n += 1) t.is((await request(proxy.port())).text, 'first');
});
