// How soon is a sidecar back at a control plane that was there a moment ago?

import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { createControlPlane } from '../../src/index.js';
import { temporaryFolder } from '../support/files.js';
import { until } from '../support/wait.js';
import { startMeshSidecar } from './support.js';

const WEB = 'spiffe://mesh.local/ns/default/sa/web';
/** The wait after the fifth failure in a row is longer. */
const SOON_MS = 7_000;

/** A way to an address, on which all connections can be cut. */
async function way(t: ExecutionContext, to: string) {
  const open = new Set<net.Socket>();
  const server = net.createServer((near) => {
    const far = net.connect(Number(to.split(':')[1]), '127.0.0.1');
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(one);
      one.pipe(other);
      one
        .on('error', () => {})
        .on('close', () => {
          open.delete(one);
          other.destroy();
        });
    }
  });
  const cut = () => open.forEach((socket) => socket.destroy());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    cut();
  });
  return { address: `127.0.0.1:${(server.address() as net.AddressInfo).port}`, cut };
}

test('each connection that was good makes the next wait a short one', async (t) => {
  const plane = createControlPlane({ services: { web: {} } }, { listen: '127.0.0.1:0' });
  t.teardown(() => plane.close());
  const [listens = ''] = await plane.listen();
  const { address, cut } = await way(t, listens);
  const folder = temporaryFolder(t);
  const [trustAnchors, token] = [join(folder, 'roots.pem'), join(folder, 'token')];
  writeFileSync(trustAnchors, plane.roots());
  writeFileSync(token, await plane.token('web'), { mode: 0o600 });
  const web = await startMeshSidecar(t, {
    identity: WEB,
    name: 'web',
    control: [address],
    trustAnchors,
    token,
  });
  const connections = () => web.process.stderr().split('the control plane answers').length - 1;
  for (let count = 1; count <= 6; count += 1) {
    await until(`connection ${count}`, () => connections() >= count, SOON_MS);
    cut();
  }
  t.pass();
});
