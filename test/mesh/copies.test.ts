// What of the copies of a service that nobody named, and of those whose service is taken out of the mesh?

import type http from 'node:http';
import { join } from 'node:path';
import test from 'ava';
import type { AuthorizationPolicy } from '../../src/config/resources.js';
import { httpOrigin } from '../support/http.js';
import { until } from '../support/wait.js';
import { Mesh, ask, idOf, startMeshSidecar } from './support.js';

const tells: http.RequestListener = (incoming, outgoing) =>
  void outgoing.end(String(incoming.headers['x-mesh-peer']));

/** In a container of its own a program is process 1. */
const CONTAINER = ['setpriv', '--pdeathsig', 'KILL', 'unshare', '--pid', '--fork', '--kill-child'] as const;

const canUnshare = process.getuid?.() === 0 && process.platform === 'linux';
(canUnshare ? test : test.skip)('copies in containers that nobody named are told apart', async (t) => {
  const mesh = await Mesh.start(t);
  const origin = await httpOrigin(t, tells);
  const copies = await Promise.all(
    ['one', 'two'].map(() =>
      startMeshSidecar(t, {
        identity: idOf('basket'),
        under: CONTAINER,
        control: mesh.control.addresses,
        trustAnchors: join(mesh.folder, 'roots.pem'),
        token: mesh.token('basket'),
        ports: `3000=${origin.address}`,
      }),
    ),
  );
  const there = await until('both', () => {
    const ready = mesh.control.sidecars().filter(({ phase }) => phase === 'ready');
    return ready.length === copies.length && ready;
  });
  t.deepEqual(
    there.map(({ inboundAddress }) => inboundAddress).toSorted(),
    copies.map(({ address }) => address).toSorted(),
  );
  for (const { name } of there) t.regex(name, /^basket-([a-z0-9-]+-)?[0-9a-f]{10}$/);
  for (const { process } of copies) t.notRegex(process.stderr(), /replaced/);
});

test('copies of a service that is taken out go by what they were told last', async (t) => {
  const mesh = await Mesh.start(t);
  const origin = await httpOrigin(t, tells);
  const callers: AuthorizationPolicy = {
    name: 'callers',
    targets: [{ kind: 'listener', value: 'inbound' }],
    action: 'allow',
    rules: [{ from: [{ kind: 'identity', value: idOf('web') }] }],
  };
  mesh.protect('basket', [callers], 'deny');
  const ports = `3000=${origin.address}`;
  const basket = await mesh.sidecar(t, 'basket', { ports });
  const stranger = await mesh.sidecar(t, 'stranger', { ports });
  const web = await mesh.sidecar(t, 'web');
  mesh.serve('basket', [basket.address]);
  mesh.serve('stranger', [stranger.address]);
  const answers = async () => {
    const [called, refused] = [await ask(web), await ask(stranger)];
    // What a refusal says is in the difference.
    return [called.status === 200 || called.text, refused.status];
  };
  t.deepEqual(await answers(), [true, 403]);
  t.is((await ask(basket, '/', 'stranger')).status, 200);
  mesh.control.apply({ delete: { workloads: [idOf('basket')], services: ['stranger:80'] } });
  await until('basket hears it', async () => (await ask(basket, '/', 'stranger')).status !== 200);
  t.deepEqual(await answers(), [true, 403]);
});

test('whoever nothing is said of goes by what is said of all others, and by nothing less once it was named', async (t) => {
  const mesh = await Mesh.start(t);
  const all = (defaultPolicy: 'allow' | 'allowAuthenticated' | 'deny') =>
    mesh.control.apply({ upsert: { workloads: [{ name: '*', defaultPolicy, policies: [] }] } });
  all('deny');
  const origin = await httpOrigin(t, tells);
  const ports = `3000=${origin.address}`;
  const basket = await mesh.sidecar(t, 'basket', { ports });
  const web = await mesh.sidecar(t, 'web');
  mesh.serve('basket', [basket.address]);
  t.is((await ask(web)).status, 403);
  all('allowAuthenticated');
  await until('basket hears it', async () => (await ask(web)).status === 200);

  mesh.protect('basket', [], 'deny');
  await until('basket is closed', async () => (await ask(web)).status === 403);
  mesh.control.apply({ delete: { workloads: [idOf('basket')] } });
  // It has heard that, since it has heard what was said later.
  mesh.serve('late', [basket.address], 3000, 'auto', 'basket');
  t.is((await ask(basket, '/', 'late')).status, 403);
  t.is((await ask(web)).status, 403);

  await basket.process.kill();
  const again = await mesh.sidecar(t, 'basket', { ports });
  mesh.serve('basket', [again.address]);
  await until('the new copy to go by what holds for all others', async () => (await ask(web)).status === 200);
});
