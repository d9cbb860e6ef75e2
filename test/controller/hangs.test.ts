// What if a member of the shared etcd takes connections and never answers, while another one is well?

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { createControlPlane } from '../../src/index.js';
import { startMeshSidecar } from '../mesh/support.js';
import { temporaryFolder } from '../support/files.js';
import { tcpServer } from '../support/tcp.js';
import { Etcd, sharedPart } from '../discovery/support.js';

const WEB = 'spiffe://mesh.local/ns/default/sa/web';
const BASKET = 'spiffe://mesh.local/ns/default/sa/basket';

/** Shared by control planes: the first member hangs. */
async function plan(t: ExecutionContext) {
  const [silent, etcd] = [await tcpServer(t), await Etcd.start(t)];
  const keyFile = join(temporaryFolder(t), 'operator.key');
  writeFileSync(keyFile, 'a key of the operator, which is long enough');
  const endpoints = [`http://${silent.address}`, etcd.url];
  return { etcd, silent, shared: { etcd: { endpoints, prefix: '/mesh/control/' }, keyFile } };
}

test('a sidecar joins, by a token of one use', async (t) => {
  const { shared } = await plan(t);
  const open = async () => {
    const config = { mesh: { shared }, services: { web: {}, basket: {} } };
    const plane = createControlPlane(config, { listen: '127.0.0.1:0' });
    t.teardown(() => plane.close());
    return { plane, control: await plane.listen() };
  };
  const { plane, control } = await open();
  const folder = temporaryFolder(t);
  const [token, trustAnchors] = [join(folder, 'token'), join(folder, 'roots.pem')];
  // As much as a use that was spent without an answer would leave nothing of.
  writeFileSync(token, await plane.token('web', { uses: 1 }), { mode: 0o600 });
  writeFileSync(trustAnchors, plane.roots());
  await startMeshSidecar(t, { identity: WEB, name: 'web', control, trustAnchors, token });
  await plane.revoke(BASKET);
  // Another one that starts has heard of it before it serves.
  t.true(await (await open()).plane.allow(BASKET));
});

test('the issuer is looked at where a member answers', async (t) => {
  const { etcd, silent, shared } = await plan(t);
  const { part, failures } = sharedPart(t, shared);
  await part.issuer();
  t.regex(failures.join(), /fails, and the first start needs it: no answer within 1500 ms/);
  await etcd.empty('/mesh/');
  const asked = silent.peers.length;
  await part.look();
  t.is((await etcd.texts('/mesh/control/authority')).length, 1);
  t.is(silent.peers.length, asked, 'the one that answered last is asked first');
});
