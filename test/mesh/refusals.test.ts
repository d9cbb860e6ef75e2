// What does a control plane throw when it is asked for what can't be?

import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type MeshControlOptions, OptionError, StateError, createControlPlane } from '../../src/index.js';
import { startControlPlane } from '../../src/mesh/native-control-plane.js';
import { temporaryFolder } from '../support/files.js';

function planeOf(t: ExecutionContext, options: MeshControlOptions = {}) {
  const plane = createControlPlane({ services: { web: {} } }, { listen: '127.0.0.1:0', ...options });
  t.teardown(() => plane.close());
  return plane;
}

test('what is asked for and makes no sense is an option, with an etcd and without', async (t) => {
  const plane = planeOf(t);
  await plane.listen();
  const wrong = { instanceOf: OptionError, code: 'MESH_OPTION_INVALID' };
  for (const options of [{ uses: 0 }, { uses: 10_001 }, { ttlMs: 0 }]) {
    await t.throwsAsync(plane.token('web', options), wrong, JSON.stringify(options));
  }
  await t.throwsAsync(plane.token('nobody'), wrong);
  for (const whom of ['nobody', 'spiffe://mesh.local/ns/mesh/sa/control']) {
    await t.throwsAsync(plane.revoke(whom), wrong, whom);
  }
  t.deepEqual(plane.revoked(), []);
  await t.throwsAsync(planeOf(t, { plaintextXds: '0.0.0.0:0' }).listen(), {
    ...wrong,
    message: /on the loopback alone/,
  });
});

test('an authority that there is not is no option', async (t) => {
  const wrong = { code: 'MESH_AUTHORITY', name: 'MeshError' };
  const issuer = { chain: 'x', key: 'x', roots: 'x' };
  await t.throwsAsync(planeOf(t, { issuer }).listen(), wrong);
  const stateDir = join(temporaryFolder(t), 'state');
  mkdirSync(join(stateDir, 'authority'), { recursive: true });
  chmodSync(stateDir, 0o700);
  chmodSync(join(stateDir, 'authority'), 0o755);
  await t.throwsAsync(planeOf(t, { stateDir }).listen(), wrong);
});

test('a control plane that was closed says so', async (t) => {
  const plane = planeOf(t);
  await plane.listen();
  await plane.close();
  await t.throwsAsync(plane.token('web'), {
    instanceOf: StateError,
    message: 'the control plane was closed',
  });
});

test('whatever the core is asked for after its end says so', async (t) => {
  const core = await startControlPlane({
    listen: [],
    trustDomain: 'mesh.test',
    certificateTtlMs: 60_000,
    onEvent: () => {},
  });
  t.not(await core.close(), undefined);
  t.is(await core.close(), undefined);
  for (const call of [
    () => core.revoked(),
    () => core.bundle(),
    () => core.sidecars(),
    () => core.edges(),
    () => core.rotateRoot(),
  ]) {
    t.throws(call, { instanceOf: StateError, message: 'the control plane was closed' });
  }
});
