// What stays of a source that another one has taken the place of, while that one has not said all there is?

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { type MeshConfig, createControlPlane } from '../../src/index.js';
import { staticSource } from '../../src/discovery/static.js';
import type { NamedSource, Source } from '../../src/discovery/types.js';
import { ask, startMeshSidecar } from '../mesh/support.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin } from '../support/http.js';
import { until } from '../support/wait.js';
import { Followed } from './support.js';

const [A, B, C] = ['10.0.0.1:1', '10.0.0.2:1', '10.0.0.3:1'] as const;

const named = (name: string, source: Source): NamedSource => ({ name, key: source, source });
const fails = (name: string): NamedSource =>
  named(name, async function* () {
    yield { problem: 'nobody there' };
    throw new Error('nobody there');
  });

test('a start knows what is leaving, until all sources have said all there is', async (t) => {
  const before = new Followed(t, [named('one', staticSource([A])), named('two', staticSource([B]))]);
  await before.has(A, B);
  // One goes, and of the other only the name stays.
  before.apply([fails('two')]);
  await before.happened('sourceFailed');
  before.apply([fails('two'), fails('three')]);
  const snapshot = before.directory.snapshot();
  await before.directory.close();
  const after = new Followed(t, [fails('two'), fails('three')], snapshot);
  await after.happened('sourceFailed');
  t.deepEqual(after.addresses(), [A, B]);
  t.deepEqual(after.directory.snapshot(), snapshot);
  after.apply([named('two', staticSource([C])), fails('three')]);
  await after.has(A, B, C);
  after.apply([named('two', staticSource([C]))]);
  await after.has(C);
  t.deepEqual(after.directory.snapshot(), { basket: { two: [{ address: C }] } });
});

test('a start with other sources than before keeps what is known, once', async (t) => {
  const followed = new Followed(t, [fails('new')], { basket: { old: [{ address: A }] }, gone: { old: [] } });
  await followed.happened('sourceFailed');
  t.deepEqual(followed.addresses(), [A]);
  followed.apply([named('new', staticSource([B]))]);
  await followed.has(B);
  // What was known long ago is nothing that a later source begins with.
  followed.apply([fails('old')]);
  await followed.happened('sourceFailed');
  t.deepEqual(followed.addresses(), [B]);
});

test('a control plane that is started again sends callers to what served before', async (t) => {
  const [folder, stateDir] = [temporaryFolder(t), temporaryFolder(t)];
  const address = (await httpOrigin(t)).address;
  const meshOf = (discover: object): MeshConfig => ({
    services: { web: {}, basket: { port: 3000, discover: { outside: true, ...discover } } },
  });
  const missing = meshOf({ file: join(folder, 'missing.yaml') });
  const plane = createControlPlane(meshOf({ endpoints: [address] }), { listen: '127.0.0.1:0', stateDir });
  t.teardown(() => plane.close());
  await plane.listen();
  await plane.apply(missing);
  await plane.close();

  const again = createControlPlane(missing, { listen: '127.0.0.1:0', stateDir });
  t.teardown(() => again.close());
  const control = await again.listen();
  const [token, trustAnchors] = [join(folder, 'token'), join(folder, 'roots.pem')];
  writeFileSync(token, await again.token('web'), { mode: 0o600 });
  writeFileSync(trustAnchors, again.roots());
  const identity = 'spiffe://mesh.local/ns/default/sa/web';
  const web = await startMeshSidecar(t, { identity, name: 'web', control, trustAnchors, token });
  await until('an answer', async () => (await ask(web)).status === 200);
  t.is(again.sources().find(({ service }) => service === 'basket')?.state, 'failing');
});
