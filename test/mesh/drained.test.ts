// What of a workload that goes, and has yet to call others to answer who called it?

import test from 'ava';
import { httpOrigin } from '../support/http.js';
import { connect } from '../support/tcp.js';
import { until } from '../support/wait.js';
import { Mesh, type MeshSidecar, ask } from './support.js';

test('it reaches them until all that it was asked is answered', async (t) => {
  const mesh = await Mesh.start(t);
  const origin = await httpOrigin(t, (_, outgoing) => void outgoing.end('three items'));
  const basket = await mesh.sidecar(t, 'basket', { ports: `3000=${origin.address}` });
  mesh.serve('basket', [basket.address]);
  const workloads: { shop?: MeshSidecar } = {};
  let goOn = (): void => {};
  const waits = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  let isAsked = false;
  const application = await httpOrigin(t, async (_, outgoing) => {
    isAsked = true;
    await waits;
    const answer = workloads.shop && (await ask(workloads.shop, '/', 'basket').catch(String));
    outgoing.end(typeof answer === 'object' ? answer.text : answer);
  });
  const shop = await mesh.sidecar(t, 'shop', { ports: `3000=${application.address}` });
  workloads.shop = shop;
  mesh.serve('shop', [shop.address]);
  t.is((await ask(shop, '/', 'basket')).status, 200);
  const web = await mesh.sidecar(t, 'web');
  const asked = ask(web, '/', 'shop');
  await until('the call', () => isAsked);
  shop.process.signal('SIGTERM');
  const { inbound, outbound } = shop;
  const isRefused = (port: number): Promise<boolean> =>
    connect(t, port).then(
      ({ socket }) => {
        socket.destroy();
        return false;
      },
      (error: NodeJS.ErrnoException) => error.code === 'ECONNREFUSED',
    );
  await until('nobody else is let in', () => isRefused(inbound));
  goOn();
  t.is((await asked).text, 'three items');
  t.is((await shop.process.exit).code, 0);
  t.true(await isRefused(outbound));
});
