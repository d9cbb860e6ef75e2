// Does a defect of the core stay an event, and does everything else go on?

import test, { type ExecutionContext } from 'ava';
import { createProxy, silentLogger } from '../../src/index.js';
import type { MeshError, MeshProxy, ProxyOptions } from '../../src/index.js';
import type { Proxy } from '../../src/proxy/proxy.js';
import { PROVOKE_PANIC } from '../../src/proxy/proxy.js';
import { keepAliveAgent, request } from '../support/http.js';
import { until } from '../support/wait.js';

const CONFIG = {
  listeners: [{ name: 'web', address: '127.0.0.1:0', routes: [{ respond: { status: 200, body: 'ok' } }] }],
};

async function listening(
  t: ExecutionContext,
  options: ProxyOptions,
): Promise<{ proxy: MeshProxy; port: number }> {
  const proxy = createProxy(CONFIG, options);
  t.teardown(() => proxy.close());
  const { addresses } = await proxy.listen();
  return { proxy, port: addresses[0]?.port ?? 0 };
}

function provoke(proxy: MeshProxy, where: 'control' | 'data'): void {
  (proxy as Proxy)[PROVOKE_PANIC](where === 'control');
}

test('a panic is an error event; connections and updates go on', async (t) => {
  const { proxy, port } = await listening(t, { threads: 2 });
  const errors: MeshError[] = [];
  proxy.on('error', (error) => errors.push(error));
  const agent = keepAliveAgent(t, { maxSockets: 1 });
  t.is((await request(port, { agent })).text, 'ok');
  provoke(proxy, 'data');
  await until('both data threads said it', () => errors.length === 2);
  provoke(proxy, 'control');
  await until('the control thread said it', () => errors.length === 3);
  for (const error of errors) {
    t.is(error.code, 'MESH_INTERNAL');
    t.regex(error.message, /^mesh-(data-[01]|control) panicked: as asked$/);
  }
  const again = await request(port, { agent });
  t.is(again.text, 'ok');
  t.true(again.reused);
  await proxy.apply({ ...CONFIG, clusters: { more: { endpoints: [] } } });
  t.is((await request(port)).text, 'ok');
  t.is((await proxy.stats()).panics, 3);
  t.regex(await proxy.metrics(), /^mesh_panics_total 3$/m);
});

test('without a listener for it a panic goes to the logger and ends nothing', async (t) => {
  const logged: (object | string)[] = [];
  const logger = {
    ...silentLogger,
    error: (message: object | string) => {
      logged.push(message);
    },
  };
  const { proxy, port } = await listening(t, { threads: 1, logger });
  provoke(proxy, 'control');
  const [entry] = await until('it is logged', () => logged.length > 0 && logged);
  t.is(entry, 'mesh-control panicked: as asked');
  t.is((await request(port)).text, 'ok');
  await proxy.close();
});
