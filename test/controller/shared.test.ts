// Do several control planes over one etcd answer the same, and does one carry on when another is killed?

import { X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { MeshError, OptionError, StateError } from '../../src/errors.js';
import { isDue, makeIssuer, seal, unseal } from '../../src/controller/vault.js';
import { type MeshControlOptions, createControlPlane } from '../../src/index.js';
import { startControlPlane } from '../../src/mesh/native-control-plane.js';
import { type JoinOptions, ask, freePort, load, startMeshSidecar } from '../mesh/support.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin } from '../support/http.js';
import { type Running, must, run, start } from '../support/processes.js';
import { cleanEnvironment } from '../support/sidecar.js';
import { PATIENCE_MS, until } from '../support/wait.js';
import { answer } from './delta.js';
import { Etcd } from '../discovery/support.js';

const MESH = join(process.cwd(), 'dist', 'cli', 'main.js');
const SETTINGS = { trustDomain: 'mesh.local', certificateTtlMs: 60_000 };
const KEY = 'a key of the operator, which is long enough';
const DAY_MS = 86_400_000;

interface Plane {
  readonly listen: string;
  readonly process: Running;
  readonly folder: string;
}

/** A machine that runs `mesh control`. */
async function control(t: ExecutionContext, etcd: Etcd): Promise<Plane> {
  const folder = temporaryFolder(t);
  const listen = `127.0.0.1:${await freePort()}`;
  writeFileSync(join(folder, 'operator.key'), KEY);
  const shared = { etcd: { endpoints: [etcd.url], prefix: '/mesh/control/' }, keyFile: 'operator.key' };
  const mesh = { mesh: { shared }, services: { web: {}, basket: { port: 3000 } } };
  writeFileSync(join(folder, 'mesh.yaml'), JSON.stringify(mesh));
  const options = { cwd: folder, env: cleanEnvironment() };
  return {
    listen,
    folder,
    process: start(t, process.execPath, [MESH, 'control', '--listen', listen], options),
  };
}

const says = ({ process, listen }: Plane, pattern: RegExp): Promise<unknown> =>
  until(`${listen} says ${pattern}`, () => {
    if (process.ended) throw new Error(process.stderr());
    return pattern.test(process.stdout().toString());
  });

test('one of two is killed under load: sidecars go to the other, and no request fails', async (t) => {
  const etcd = await Etcd.start(t);
  // At once: one of them makes the issuer, and both take it.
  const [first, second] = await Promise.all([control(t, etcd), control(t, etcd)]);
  for (const plane of [first, second]) await says(plane, /the control plane listens on/);
  const trustAnchors = join(second.folder, '.mesh', 'state', 'roots.pem');
  const addresses = [first.listen, second.listen];
  const joined = async (service: string, order: readonly string[], ports?: string) => {
    const at = order[0] === first.listen ? first : second;
    const token = join(temporaryFolder(t), 'token');
    const said = await must(process.execPath, [MESH, 'token', service], {
      cwd: at.folder,
      env: cleanEnvironment(),
    });
    writeFileSync(token, said.trim(), { mode: 0o600 });
    const identity = `spiffe://mesh.local/ns/default/sa/${service}`;
    const more = { name: service, control: order, trustAnchors, token };
    return startMeshSidecar(t, { identity, ...more, ...(ports !== undefined && { ports }) });
  };
  const application = (await httpOrigin(t)).address;
  await joined('basket', addresses, `3000=${application}`);
  const web = await joined('web', addresses.toReversed());
  await until('an answer', async () => (await ask(web)).status === 200);
  const requests = load(web);
  const more = async (): Promise<void> => {
    const before = requests.good();
    await until('more requests', () => requests.good() > before + 50);
  };
  await more();
  // It may be connected to either.
  const isAt = ({ process }: Plane): boolean => /^web: ready/m.test(process.stdout().toString());
  const at = await until('the one that web is connected to', () => [first, second].find(isAt));
  await at.process.kill();
  await says(at === first ? second : first, /^web: ready/m);
  await more();
  t.deepEqual((await requests.stop()).bad, []);
});

test('two sidecars of one name at two control planes are told so, and mesh check fails', async (t) => {
  const etcd = await Etcd.start(t);
  const both = [await control(t, etcd), await control(t, etcd)] as const;
  for (const plane of both) await says(plane, /the control plane listens on/);
  const application = (await httpOrigin(t)).address;
  const options = ({ folder }: Plane) => ({ cwd: folder, env: cleanEnvironment() });
  const joins = async (plane: Plane) => {
    const token = join(temporaryFolder(t), 'token');
    const said = await must(process.execPath, [MESH, 'token', 'basket'], options(plane));
    writeFileSync(token, said.trim(), { mode: 0o600 });
    return startMeshSidecar(t, {
      identity: idOf('basket'),
      name: 'basket-1',
      control: [plane.listen],
      trustAnchors: join(plane.folder, '.mesh', 'state', 'roots.pem'),
      token,
      ports: `3000=${application}`,
    });
  };
  const sidecars = [await joins(both[0]), await joins(both[1])];
  for (const { process: running } of sidecars) await running.said(/another sidecar is called the same/);
  const codes = await until('mesh check tells it', async () => {
    const checks = both.map((plane) => run(process.execPath, [MESH, 'check'], options(plane)));
    const told = (await Promise.all(checks)).filter(({ stdout }) =>
      /^error: basket-1 is the name of more than one sidecar of /m.test(stdout.toString()),
    );
    return told.length > 0 && told.map(({ code }) => code);
  });
  t.true(
    codes.every((code) => code === 1),
    codes.join(' '),
  );
});

/** Two control planes in this process, over one etcd. */
async function planes(t: ExecutionContext) {
  const etcd = await Etcd.start(t);
  const folder = temporaryFolder(t);
  const keyFile = join(folder, 'operator.key');
  writeFileSync(keyFile, KEY);
  const shared = { etcd: { endpoints: etcd.url, prefix: '/mesh/control/' }, keyFile };
  const open = async (stateDir?: string, decide?: MeshControlOptions['decide']) => {
    const plane = createControlPlane(
      { mesh: { shared }, services: { basket: {}, web: {} } },
      {
        listen: '127.0.0.1:0',
        plaintextXds: '127.0.0.1:0',
        ...(stateDir !== undefined && { stateDir }),
        ...(decide && { decide }),
      },
    );
    t.teardown(() => plane.close());
    const counts: number[] = [];
    plane.on('endpoints', (_, count) => counts.push(count));
    return { plane, counts, addresses: await plane.listen() };
  };
  const both = [await open(), await open()] as const;
  const trustAnchors = join(folder, 'roots.pem');
  writeFileSync(trustAnchors, both[0].plane.roots());
  const joins = (
    service: string,
    at: (typeof both)[number],
    text: string,
    more: Pick<JoinOptions, 'ports' | 'flags' | 'ready'> = {},
  ) => {
    const token = join(temporaryFolder(t), 'token');
    writeFileSync(token, text, { mode: 0o600 });
    const identity = idOf(service);
    return startMeshSidecar(t, {
      identity,
      name: service,
      control: at.addresses,
      trustAnchors,
      token,
      ...more,
    });
  };
  return { etcd, both, joins, open };
}

const idOf = (service: string): string => `spiffe://mesh.local/ns/default/sa/${service}`;

test('a drained sidecar of another control plane is gone from this one', async (t) => {
  const { both, joins } = await planes(t);
  const [one, two] = both;
  t.is(one.plane.roots(), two.plane.roots());
  const sidecar = await joins('basket', one, await one.plane.token('basket'), {
    ports: '80=127.0.0.1:1',
    flags: { '--lame-duck': '1s' },
  });
  await until('both know it', () => one.counts.at(-1) === 1 && two.counts.at(-1) === 1);
  sidecar.process.signal('SIGTERM');
  // The other one hears that it drains, and 10 s later that it is gone.
  const left = (): boolean => one.counts.at(-1) === 0 && two.counts.at(-1) === 0;
  await until('both know that it left', left, 2 * PATIENCE_MS);
  t.pass();
});

test('a sidecar that has left is not where a control plane that was closed has said it is', async (t) => {
  const { both, joins } = await planes(t);
  const addresses = both.flatMap((each) => each.addresses);
  const sidecar = await joins('basket', { ...both[0], addresses }, await both[0].plane.token('basket'), {
    ports: '80=127.0.0.1:1',
    flags: { '--lame-duck': '1s' },
  });
  await until('both know it', () => both.every(({ counts }) => counts.at(-1) === 1));
  const [at, other] = both[0].plane.sidecars().length > 0 ? both : both.toReversed();
  if (at === undefined || other === undefined) throw new Error('there are two');
  await at.plane.close();
  await until('it comes to the other', () => other.plane.sidecars().some(({ phase }) => phase === 'ready'));
  sidecar.process.signal('SIGTERM');
  await until('it is gone', () => other.counts.at(-1) === 0);
  t.is((await sidecar.process.exit).code, 0);
});

test('who has something of one control plane is sent nothing of it by the other', async (t) => {
  const { both, joins } = await planes(t);
  const [one, two] = both;
  await joins('basket', one, await one.plane.token('basket'), { ports: '80=127.0.0.1:1' });
  await until('both know it', () => one.counts.at(-1) === 1 && two.counts.at(-1) === 1);
  const [first = '', second = ''] = both.flatMap(({ plane }) => plane.plaintextXds());
  for (const [type, name, more] of [
    ['envoy.config.listener.v3.Listener', 'basket:80', 'web:80'],
    ['envoy.config.route.v3.RouteConfiguration', 'basket.default:80', 'web.default:80'],
    ['envoy.config.cluster.v3.Cluster', 'basket.default:80', 'web.default:80'],
    ['envoy.config.endpoint.v3.ClusterLoadAssignment', 'basket.default:80', 'web.default:80'],
  ] as const) {
    const had = await answer(first, type, [name]);
    t.deepEqual(Object.keys(had), [name]);
    // As a sidecar does that fails over; what it had not is sent.
    const sent = await answer(second, type, [name, more], had);
    t.deepEqual(Object.keys(sent), [more], type);
    t.deepEqual(Object.keys(await answer(second, type, [name], { [name]: 'another' })), [name]);
  }
});

test('a token opens at any control plane, and as often as it says', async (t) => {
  const { both, joins } = await planes(t);
  const [one, two] = both;
  const token = await one.plane.token('web', { uses: 2 });
  const thief = await joins('basket', two, token, { ready: false });
  await thief.process.said(/the token is for another identity/);
  for (const plane of both) await joins('web', plane, token);
  const third = await joins('web', two, token, { ready: false });
  await third.process.said(/the token is not known/);
  await t.throwsAsync(one.plane.token('web', { uses: 0 }), { instanceOf: OptionError, message: /^uses: / });
  await t.throwsAsync(one.plane.token('web', { ttlMs: 1e12 }), {
    instanceOf: OptionError,
    message: /^ttlMs: /,
  });
});

test('a revocation holds at all control planes, and so does its end', async (t) => {
  const { both, joins } = await planes(t);
  const [one, two] = both;
  const application = (await httpOrigin(t)).address;
  await joins('basket', one, await one.plane.token('basket'), { ports: `80=${application}` });
  const web = await joins('web', one, await one.plane.token('web'));
  const answers = (status: number) => until(`${status}`, async () => (await ask(web)).status === status);
  await answers(200);
  const spare = await two.plane.token('web');
  await two.plane.revoke(idOf('web'));
  // Its handshake is refused.
  await answers(502);
  const late = await joins('web', one, spare, { ready: false });
  await late.process.said(/revoked: the identity was revoked/);
  t.true(await one.plane.allow(idOf('web')));
  await answers(200);
  // What was revoked is spent.
  await late.process.said(/the token is not known/);
  t.false(await two.plane.allow(idOf('web')));
});

test('what a state folder does not take is told to the others all the same, and stored later', async (t) => {
  const { both, open } = await planes(t);
  const stateDir = temporaryFolder(t);
  const { plane } = await open(stateDir);
  const knows = (is: boolean) =>
    until(`${is}`, () => both.every((each) => each.plane.revoked().includes(idOf('web')) === is));
  const file = join(stateDir, 'authority', 'denied.json');
  // Nothing can be written beside it.
  mkdirSync(`${file}.new`);
  const unkept = { instanceOf: MeshError, code: 'MESH_AUTHORITY', message: /can't be stored yet/ };
  await t.throwsAsync(plane.revoke(idOf('web')), unkept);
  await knows(true);
  await t.throwsAsync(plane.allow(idOf('web')), unkept);
  await knows(false);
  await t.throwsAsync(plane.revoke(idOf('web')), unkept);
  await knows(true);
  rmdirSync(`${file}.new`);
  await until('it is stored', () => existsSync(file) && readFileSync(file, 'utf8').includes(idOf('web')));
  const own = 'spiffe://mesh.local/ns/mesh/sa/control';
  await t.throwsAsync(plane.revoke(own), { instanceOf: OptionError, message: /^reserved: / });
  t.deepEqual(await Promise.all(both.map((each) => each.plane.allow(own))), [false, false]);
});

test('a token is not used for an answer that nobody waits for', async (t) => {
  let decide = (): void => {};
  const gate = new Promise<void>((resolve) => {
    decide = resolve;
  });
  const { joins, open } = await planes(t);
  const decided = await open(undefined, async () => {
    await gate;
    return { allow: true };
  });
  const token = await decided.plane.token('web', { uses: 1 });
  const web = await joins('web', decided, token, { ready: false });
  await web.process.said(/undecided: nobody decided in time/);
  decide();
  await until('it has a certificate', () => decided.plane.sidecars().length === 1);
  t.pass();
});

test('a serial number is the same, however it is written', async (t) => {
  const { etcd, both, open } = await planes(t);
  const [one] = both;
  await one.plane.revoke('00:4F:1C:09');
  const { plane } = await open();
  t.true(await plane.allow('4f1c09'));
  t.false(await plane.allow('4F:1C:09'));
  t.is((await etcd.texts('/mesh/control/denied/')).length, 1);
});

test('an issuer that is shared is not replaced by one of those who share it', async (t) => {
  const { both } = await planes(t);
  const shared = {
    instanceOf: StateError,
    message: /^the issuer is shared, and renewed by all who share it/,
  };
  t.throws(() => both[0].plane.rotateIssuer(), shared);
  t.throws(() => both[0].plane.rotateRoot(), shared);
});

test('one that starts knows who is revoked before it listens', async (t) => {
  const { both, joins, open } = await planes(t);
  const [one] = both;
  const spare = await one.plane.token('web', { uses: 2 });
  await joins('web', one, spare);
  // It tells it a moment after it is ready.
  const serial = await until(
    'its serial number',
    () => one.plane.sidecars()[0]?.certificateSerial ?? undefined,
  );
  await one.plane.revoke(serial);
  await one.plane.revoke(idOf('basket'));
  const late = await open();
  // Before it can have heard of them in any other way.
  t.deepEqual(await Promise.all([late.plane.allow(serial), late.plane.allow(idOf('basket'))]), [true, true]);
});

test('who was revoked before is told to an etcd that does not know it, and who is believed again is so', async (t) => {
  const { etcd, both, open } = await planes(t);
  const [stateDir, other] = [temporaryFolder(t), temporaryFolder(t)];
  const denied = (folder: string): string => readFileSync(join(folder, 'authority', 'denied.json'), 'utf8');
  const kept = (await open(stateDir)).plane;
  for (const service of ['basket', 'web']) await kept.revoke(idOf(service));
  await kept.close();
  // One is taken back meanwhile.
  t.true(await both[0].plane.allow(idOf('basket')));
  const again = (await open(stateDir)).plane;
  t.notRegex(denied(stateDir), /basket/);
  t.regex(denied(stateDir), /web/);
  t.false(await again.allow(idOf('basket')));

  // With nobody there who could put it back.
  for (const plane of [again, ...both.map((each) => each.plane)]) await plane.close();
  await etcd.empty('/mesh/control/denied/');
  await open(stateDir);
  await until('etcd has it', async () => (await etcd.texts('/mesh/control/denied/')).length === 1);
  await open(other);
  t.regex(denied(other), /web/);
});

test('what etcd holds is secret, whole and in its place', async (t) => {
  const sealed = await seal('the issuer', KEY, '/a');
  t.false(sealed.includes('issuer'));
  t.is(await unseal(sealed, KEY, '/a'), 'the issuer');
  const other = {
    ...(JSON.parse(sealed) as Record<string, string>),
    data: Buffer.from('x').toString('base64'),
  };
  for (const [text, key, place] of [
    [sealed, `${KEY}!`, '/a'],
    [sealed, KEY, '/b'],
    [JSON.stringify(other), KEY, '/a'],
    ['nothing', KEY, '/a'],
  ] as const) {
    await t.throwsAsync(unseal(text, key, place), {
      instanceOf: StateError,
      message: /another's, or was changed/,
    });
  }
});

test('an issuer is renewed under its root', async (t) => {
  const first = await makeIssuer(startControlPlane, SETTINGS);
  // Certificates know seconds: within the same one there is no later issuer.
  const second = await until('an issuer of a later second', async () => {
    const made = await makeIssuer(startControlPlane, SETTINGS, first);
    return made.issuer.chain !== first.issuer.chain && made.issuer;
  });
  t.is(first.issuer.roots, second.roots);
  const [root, issuer] = [new X509Certificate(second.roots), new X509Certificate(second.chain)];
  t.true(issuer.checkIssued(root) && issuer.verify(root.publicKey));
  t.false(isDue(second, Date.now()));
  t.true(isDue(second, Date.now() + 64 * DAY_MS));
  const plane = await startControlPlane({
    ...SETTINGS,
    listen: ['127.0.0.1:0'],
    issuer: second,
    onEvent: () => {},
  });
  t.is(plane.bundle(), first.issuer.roots);
  await plane.close();
});
