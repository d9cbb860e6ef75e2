// Is a certificate that was revoked by its serial number believed no more, and another one of the same identity still?

import test from 'ava';
import { httpOrigin } from '../support/http.js';
import { until } from '../support/wait.js';
import { Mesh, type MeshSidecar, ask, numberOf } from './support.js';

/** The serial number of what a sidecar shows. */
function serialOf(mesh: Mesh, sidecar: string): string {
  const { certificateSerial } = mesh.control.sidecars().find(({ name }) => name === sidecar) ?? {};
  if (!certificateSerial) throw new Error(`${sidecar} has no certificate`);
  return certificateSerial;
}

test('by serial number: the caller of that certificate is refused, another of its identity is not', async (t) => {
  const mesh = await Mesh.start(t);
  const origin = await httpOrigin(t, (incoming, outgoing) => {
    if (incoming.url !== '/silent') outgoing.end();
  });
  const basket = await mesh.sidecar(t, 'basket', { ports: `3000=${origin.address}` });
  mesh.serve('basket', [basket.address]);
  const one = await mesh.sidecar(t, 'web', { name: 'one' });
  const two = await mesh.sidecar(t, 'web', { name: 'two' });
  for (const web of [one, two]) t.is((await ask(web)).status, 200);
  const serial = serialOf(mesh, 'one');
  t.not(serial, serialOf(mesh, 'two'));

  // What waits for its answer is told so; its connection ends, too, and takes nothing more.
  const before = origin.requests;
  const silent = ask(one, '/silent');
  await until('what is under way', () => origin.requests > before);
  mesh.control.revoke(serial);
  t.is((await silent).status, 403);
  t.is((await ask(one)).status, 502);
  const rejected = /^mesh_identity_rejections_total\{.*rejection="revoked".*\} (\d+)$/m;
  await until('its handshake is refused', async () => (await numberOf(basket, rejected)) > 0);
  t.is((await ask(two)).status, 200);
  await mesh.happened('gone', (event) => (event['sidecar'] as { name: string }).name === 'one');
  const three = await mesh.sidecar(t, 'web', { name: 'three' });
  t.is((await ask(three)).status, 200, 'a new certificate of the same identity');

  t.true(mesh.control.allow(serial));
  await until('belief again', async () => (await ask(one)).status === 200);
});

test('by serial number: the server of that certificate is left for another of its identity', async (t) => {
  const mesh = await Mesh.start(t);
  const says = async (name: string): Promise<MeshSidecar> => {
    const { address } = await httpOrigin(t, (_, outgoing) => void outgoing.end(name));
    return mesh.sidecar(t, 'basket', { name, ports: `3000=${address}` });
  };
  const [one, two] = [await says('one'), await says('two')];
  mesh.serve('basket', [one.address]);
  const web = await mesh.sidecar(t, 'web');
  t.is((await ask(web)).text, 'one');
  mesh.control.revoke(serialOf(mesh, 'one'));
  await until('the refusal', async () => (await ask(web)).status === 502);
  const rejected = /^mesh_upstream_identity_rejections_total\{.*rejection="revoked".*\} (\d+)$/m;
  await until('its handshake is refused', async () => {
    t.is((await ask(web)).status, 502);
    return (await numberOf(web, rejected)) > 0;
  });
  mesh.serve('basket', [two.address]);
  await until('the other one', async () => (await ask(web)).text === 'two');
});
