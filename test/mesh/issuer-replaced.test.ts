// What if the files of the operator's issuer are replaced one after the other, while a control plane runs? Does it know
// whom it had revoked?

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mock } from 'node:test';
import test from 'ava';
import { createControlPlane } from '../../src/index.js';
import { Authority } from '../support/certificates.js';
import { temporaryFolder } from '../support/files.js';
import { until } from '../support/wait.js';
import { freePort, startMeshSidecar } from './support.js';

const LOOK_MS = 60_000;
const WEB = 'spiffe://mesh.local/ns/default/sa/web';
const TILL = 'spiffe://mesh.local/ns/default/sa/till';
const SERIAL = '4f1c09a2b7';

test('a key without its chain changes nothing, and both are taken', async (t) => {
  // It is looked each minute, which is long for a test.
  mock.timers.enable({ apis: ['setInterval'] });
  t.teardown(() => mock.timers.reset());
  const folder = temporaryFolder(t);
  const plan = { chain: join(folder, 'crt'), key: join(folder, 'key'), roots: join(folder, 'roots') };
  const [first, second] = [
    await (await Authority.create(t)).issuer(),
    await (await Authority.create(t)).issuer(),
  ];
  const write = (issuer: typeof first, ...parts: (keyof typeof plan)[]): void => {
    for (const part of parts) writeFileSync(plan[part], issuer[part]);
  };
  write(first, 'chain', 'key', 'roots');
  const config = { mesh: { certificates: { issuer: plan } }, services: { web: {} } };
  const plane = createControlPlane(config, { listen: `127.0.0.1:${await freePort()}` });
  t.teardown(() => plane.close());
  const errors: string[] = [];
  plane.on('error', (error) => errors.push(String(error)));
  let restarts = 0;
  plane.on('restarted', () => (restarts += 1));
  const [address] = await plane.listen();
  const token = await plane.token(TILL);
  write(second, 'key');
  mock.timers.tick(LOOK_MS);
  await until('it is told', () => errors.length > 0);
  t.regex(errors.join(), /the key is not the issuer's/);
  t.is(plane.roots(), first.roots);
  t.regex(await plane.token('web'), /^mesh-token-/);
  t.is(restarts, 0);
  // Nothing is stored, and it holds all the same.
  for (const whom of [WEB, SERIAL]) await plane.revoke(whom);
  write(second, 'chain', 'roots');
  mock.timers.tick(LOOK_MS);
  await until('the other one serves', () => {
    try {
      return plane.roots() === second.roots;
    } catch {
      // Between the two.
      return false;
    }
  });
  t.is(errors.length, 1);
  await until('it is told', () => restarts === 1);
  // What was handed out before opens still.
  const [trustAnchors, file] = [join(folder, 'anchors'), join(folder, 'token')];
  writeFileSync(trustAnchors, plane.roots());
  writeFileSync(file, token, { mode: 0o600 });
  const joins = { name: 'till', control: [String(address)], trustAnchors, token: file, ready: false };
  const till = await startMeshSidecar(t, { ...joins, identity: TILL });
  await till.process.said(/a certificate came/);
  for (const whom of [WEB, SERIAL]) t.true(await plane.allow(whom), whom);
  t.false(await plane.allow(WEB));
});
