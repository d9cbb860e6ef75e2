// Whose is what a sidecar finds in its state directory? Its own, and in its own mesh: nobody is let in by another's policies.

import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Authority } from '../support/certificates.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin, request } from '../support/http.js';
import { traced } from '../support/trace.js';
import { until, within } from '../support/wait.js';
import { Mesh, type MeshSidecar, ask, idOf, startMeshSidecar } from './support.js';

const CONFIGURATION = 'configuration.json';
const OTHERS = /the configuration that was kept is somebody else's: nothing of it is served/;

/** Starts a sidecar that keeps things in this folder, and kills it once it is ready. */
async function keep(t: ExecutionContext, mesh: Mesh, service: string, state: string): Promise<void> {
  const sidecar = await mesh.sidecar(t, service, { flags: { '--state-dir': state } });
  await sidecar.process.kill();
}

/** Starts a sidecar whose control plane has gone, by what is in the folder. */
const alone = (t: ExecutionContext, mesh: Mesh, service: string, state: string): Promise<MeshSidecar> =>
  mesh.sidecar(t, service, { flags: { '--state-dir': state }, token: '/nonexistent', ready: false });

/** Asserts that it goes by nothing of what it found. */
async function refuses(t: ExecutionContext, sidecar: MeshSidecar, why: RegExp): Promise<void> {
  await sidecar.process.said(/the control plane is gone/);
  const said = sidecar.process.stderr();
  t.regex(said, OTHERS);
  t.regex(said, why);
  t.notRegex(said, /serving what was kept/);
  t.is((await request(sidecar.admin, { path: '/ready' })).status, 503);
  await sidecar.process.kill();
}

test('what another workload, or one of another mesh, kept lets nobody in', async (t) => {
  const folder = temporaryFolder(t);
  const [web, basket, twin] = ['web', 'basket', 'twin'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  const [mesh, other] = [await Mesh.start(t), await Mesh.start(t)];
  mesh.protect('basket', [], 'deny');
  await keep(t, mesh, 'basket', basket);
  await keep(t, mesh, 'web', web);
  await keep(t, other, 'basket', twin);
  await mesh.control.close();
  const own = readFileSync(join(basket, CONFIGURATION), 'utf8');
  t.is((JSON.parse(own) as { of: { identity: string } }).of.identity, idOf('basket'));
  const first = await alone(t, mesh, 'basket', basket);
  await first.process.said(/serving what was kept/);
  await first.process.said(/^mesh-sidecar: ready$/m);
  await first.process.kill();
  copyFileSync(join(web, CONFIGURATION), join(basket, CONFIGURATION));
  await refuses(
    t,
    await alone(t, mesh, 'basket', basket),
    /error="it is of spiffe:\/\/mesh\.test\/ns\/shop\/sa\/web"$/m,
  );
  copyFileSync(join(twin, CONFIGURATION), join(basket, CONFIGURATION));
  await refuses(t, await alone(t, mesh, 'basket', basket), /error="it is of a mesh with other roots"$/m);
});

test('a state directory that was another workload serves the next one by its own policies', async (t) => {
  const state = join(temporaryFolder(t), 'state');
  const mesh = await Mesh.start(t);
  await keep(t, mesh, 'web', state);
  const origin = await httpOrigin(t);
  const flags = { '--state-dir': state };
  const basket = await mesh.sidecar(t, 'basket', { flags, ports: `3000=${origin.address}` });
  t.regex(basket.process.stderr(), OTHERS);
  t.regex(
    readFileSync(join(state, CONFIGURATION), 'utf8'),
    /"identity":"spiffe:\/\/mesh\.test\/ns\/shop\/sa\/basket"/,
  );
});

test('two sidecars have no state directory in common', async (t) => {
  const state = join(temporaryFolder(t), 'state');
  const mesh = await Mesh.start(t);
  const flags = { '--state-dir': state };
  const web = await mesh.sidecar(t, 'web', { flags });
  const second = await mesh.sidecar(t, 'web', { flags, name: 'second', ready: false });
  const { code } = await within('the end of the second', second.process.exit);
  t.is(code, 64);
  t.regex(second.process.stderr(), /another sidecar has it; each needs a --state-dir of its own/);
  await web.process.kill();
  await mesh.sidecar(t, 'web', { flags });
});

/** Basket, which keeps things, and web, which it lets in; then what is not to be kept is in force: web is let in no more. */
async function refusing(
  t: ExecutionContext,
  state: string,
  file: string,
  change: (mesh: Mesh) => void,
): Promise<{ mesh: Mesh; basket: MeshSidecar; web: MeshSidecar; draft: string }> {
  const mesh = await Mesh.start(t);
  const { address } = await httpOrigin(t);
  const flags = { '--state-dir': state, '--name-idle': '1s' };
  const basket = await mesh.sidecar(t, 'basket', { flags, ports: `3000=${address}` });
  mesh.serve('basket', [basket.address]);
  const web = await mesh.sidecar(t, 'web');
  t.is((await ask(web)).status, 200);
  // A folder in the draft's place stops the superuser too.
  const draft = join(state, `${file}.new`);
  mkdirSync(draft);
  change(mesh);
  await until('the refusal', async () => (await ask(web)).status !== 200);
  await basket.process.said(/ can't be kept error=/);
  return { mesh, basket, web, draft };
}

for (const [what, file, change] of [
  ['a revocation', 'denied.json', (mesh: Mesh) => mesh.control.revoke(idOf('web'))],
  ['a denial', CONFIGURATION, (mesh: Mesh) => mesh.protect('basket', [], 'deny')],
] as const)
  test(`${what} that can't be kept is not undone by a start without a control plane`, async (t) => {
    const state = join(temporaryFolder(t), 'state');
    const { mesh, basket, web } = await refusing(t, state, file, change);
    await basket.process.kill();
    await mesh.control.close();
    const flags = { '--state-dir': state, '--inbound': basket.address };
    const ports = `3000=${(await httpOrigin(t)).address}`;
    const again = await mesh.sidecar(t, 'basket', { flags, ports, token: '/nonexistent', ready: false });
    await again.process.said(/the control plane is gone/);
    t.notRegex(again.process.stderr(), /serving what was kept/);
    t.not((await ask(web)).status, 200);
  });

test('what could not be kept is kept as soon as it can be, though nothing else changes', async (t) => {
  const state = join(temporaryFolder(t), 'state');
  const { basket, draft } = await refusing(t, state, 'denied.json', (mesh) =>
    mesh.control.revoke(idOf('web')),
  );
  t.regex(basket.process.stderr(), /a start without a control plane serves nothing/);
  const [kept, denied] = [CONFIGURATION, 'denied.json'].map((file) => join(state, file)) as [string, string];
  t.false(existsSync(kept));
  rmdirSync(draft);
  await until('what is in force', () => existsSync(kept));
  t.deepEqual(JSON.parse(readFileSync(denied, 'utf8')), [idOf('web')]);
});

test('a revocation is on the disk, and its name too, once it is kept', async (t) => {
  const state = join(temporaryFolder(t), 'state');
  const mesh = await Mesh.start(t);
  const basket = await mesh.sidecar(t, 'basket', { flags: { '--state-dir': state } });
  await until('the configuration is kept', () => existsSync(join(state, CONFIGURATION)));
  const trace = await traced(t, basket.process.pid, 'fsync,rename,renameat,renameat2', '-y');
  mesh.control.revoke(idOf('web'));
  /** What was done since its draft went to the disk. */
  const done = (): string => trace.read().split(`<${join(state, 'denied.json.new')}>)`)[1] ?? '';
  await until(
    'it is moved, and its folder goes to the disk',
    () => /rename.*denied\.json"\) += 0/.test(done()) && done().includes(`<${state}>) = 0`),
  );
  const [moved, synced] = [done().indexOf('rename'), done().indexOf(`<${state}>)`)];
  t.true(moved < synced, done());
});

test('roots that change at run time are kept at once: a peer under the new one is believed after a start alone', async (t) => {
  const [first, second] = [
    await (await Authority.create(t)).issuer(),
    await (await Authority.create(t)).issuer(),
  ];
  const roots = first.roots + second.roots;
  const state = join(temporaryFolder(t), 'state');
  const mesh = await Mesh.start(t, { issuer: first });
  const web = await mesh.sidecar(t, 'web', { flags: { '--state-dir': state } });
  const [listen = ''] = mesh.control.addresses;
  const kept = (): { chain: string; roots: string } =>
    JSON.parse(readFileSync(join(state, 'identity.json'), 'utf8')) as { chain: string; roots: string };
  const { chain } = kept();
  for (const issuer of [first, second]) {
    await mesh.control.close();
    await mesh.open(listen, { issuer: { ...issuer, roots } });
    await until('both are kept', () => kept().roots.split('BEGIN CERTIFICATE').length === 3);
  }
  const { address } = await httpOrigin(t);
  const basket = await mesh.sidecar(t, 'basket', { ports: `3000=${address}` });
  mesh.serve('basket', [basket.address]);
  await until('an answer', async () => (await ask(web)).status === 200);
  await until('it is kept', () => readFileSync(join(state, CONFIGURATION), 'utf8').includes('basket:80'));
  t.is(kept().chain, chain, 'no certificate came with the roots');
  await web.process.kill();
  await mesh.control.close();
  const again = await alone(t, mesh, 'web', state);
  await again.process.said(/^mesh-sidecar: ready$/m);
  const { status, text } = await ask(again);
  t.is(status, 200, text);
});

/** The superuser goes by the modes of files too. */
const BY_MODES =
  process.getuid?.() === 0
    ? (['setpriv', '--inh-caps=-dac_override', '--bounding-set=-dac_override'] as const)
    : (['env'] as const);

test("a configuration that holds no more is emptied where its folder can't be written to", async (t) => {
  const state = join(temporaryFolder(t), 'state');
  const mesh = await Mesh.start(t);
  const { address } = await httpOrigin(t);
  const joins = {
    identity: idOf('basket'),
    name: 'basket',
    control: mesh.control.addresses,
    trustAnchors: join(mesh.folder, 'roots.pem'),
    under: BY_MODES,
    ports: `3000=${address}`,
    flags: { '--state-dir': state },
  };
  const basket = await startMeshSidecar(t, { ...joins, token: mesh.token('basket') });
  mesh.serve('basket', [basket.address]);
  const web = await mesh.sidecar(t, 'web');
  t.is((await ask(web)).status, 200);
  const file = join(state, CONFIGURATION);
  await until('it is kept', () => existsSync(file));
  chmodSync(state, 0o500);
  t.teardown(() => chmodSync(state, 0o700));
  mesh.protect('basket', [], 'deny');
  await basket.process.said(/the configuration can't be kept error=.*serves nothing/);
  await until('the refusal', async () => (await ask(web)).status !== 200);
  t.is(readFileSync(file, 'utf8'), '');
  await basket.process.kill();
  await mesh.control.close();
  const again = await startMeshSidecar(t, {
    ...joins,
    token: '/nonexistent',
    inbound: basket.inbound,
    ready: false,
  });
  await again.process.said(/the control plane is gone/);
  t.notRegex(again.process.stderr(), /serving what was kept/);
  t.not((await ask(web)).status, 200);
});
