// What waits while a workload calls a host whose name server says nothing?

import test from 'ava';
import { httpOrigin } from '../support/http.js';
import { NameServer } from '../support/name-server.js';
import { until } from '../support/wait.js';
import { Mesh, type MeshSidecar, ask } from './support.js';

/** Calls a host of which nobody says where it is; whether the call is over. */
async function callSilent(names: NameServer, sidecar: MeshSidecar, host: string): Promise<() => boolean> {
  names.trouble(host, 'nothing');
  let over = false;
  void ask(sidecar, '/', host)
    .catch(() => {})
    .then(() => (over = true));
  await until('it is looked up', () => names.asked(host) > 0);
  return () => over;
}

test('who may call, and calls of others, do not wait for a name that is looked up', async (t) => {
  const [mesh, names] = [await Mesh.start(t), await NameServer.start(t)];
  const { address, port } = await httpOrigin(t);
  const flags = { '--dns-server': names.address };
  const basket = await mesh.sidecar(t, 'basket', { ports: `3000=${address}`, flags });
  const till = await mesh.sidecar(t, 'till', { ports: `3000=${address}` });
  mesh.serve('basket', [basket.address]);
  mesh.serve('till', [till.address]);
  const web = await mesh.sidecar(t, 'web');
  t.is((await ask(web)).status, 200);

  const isFirstOver = await callSilent(names, basket, 'slow.example');
  mesh.protect('basket', [], 'deny');
  await until('nobody may call', async () => (await ask(web)).status === 403);
  t.false(isFirstOver());

  const isNextOver = await callSilent(names, basket, 'slower.example');
  t.is((await ask(basket, '/', 'till')).status, 200);
  names.host('quick.example', ['127.0.0.1']);
  t.is((await ask(basket, '/', `quick.example:${port}`)).status, 200);
  t.false(isNextOver());
});
