// Is a mesh the same one when the etcd that its control planes share has lost it, or does not answer at a start?

import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KeptIssuer } from '../../src/controller/kept.js';
import { type SharedIssuer, seal, whyNotNow } from '../../src/controller/vault.js';
import { StateFolder } from '../../src/controller/state.js';
import { StateError } from '../../src/errors.js';
import { Registry } from '../../src/controller/registered.js';
import { createControlPlane } from '../../src/index.js';
import { ask, freePort, startMeshSidecar } from '../mesh/support.js';
import { Authority } from '../support/certificates.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin } from '../support/http.js';
import { until } from '../support/wait.js';
import { Etcd, sharedPart } from '../discovery/support.js';

const KEY = 'a key of the operator, which is long enough';
const PREFIX = '/mesh/control/';
const AUTHORITY = `${PREFIX}authority`;

function keyFile(t: ExecutionContext, text = KEY): string {
  const file = join(temporaryFolder(t), 'operator.key');
  writeFileSync(file, text);
  return file;
}

interface Life {
  readonly etcd: Etcd;
  readonly stateDir: string;
  readonly key: string;
  readonly prefix?: string;
}

/** What a control plane shares, without the control plane: one life of it. */
async function live(t: ExecutionContext, { etcd, stateDir, key, prefix = PREFIX }: Life) {
  const plan = { etcd: { endpoints: [etcd.url], prefix }, keyFile: key };
  const { part, failures } = sharedPart(t, plan, await StateFolder.open(stateDir));
  return { part, failures, issuer: await part.issuer() };
}

test("what is kept is secret, its owner's alone, and put back into an etcd that has nothing", async (t) => {
  const life = { etcd: await Etcd.start(t), stateDir: temporaryFolder(t), key: keyFile(t) };
  const { issuer } = await live(t, life);
  const file = join(life.stateDir, 'shared.json');
  t.is(statSync(file).mode & 0o777, 0o600);
  t.notRegex(readFileSync(file, 'utf8'), /PRIVATE|CERTIFICATE/);
  await life.etcd.empty('/mesh/');
  t.deepEqual((await live(t, life)).issuer, issuer);
  // Others find it there.
  t.deepEqual((await live(t, { ...life, stateDir: temporaryFolder(t) })).issuer, issuer);
  // In another place there is another mesh.
  t.not((await live(t, { ...life, prefix: '/mesh/other/' })).issuer.roots, issuer.roots);
});

test('one that starts with nothing as an emptied etcd comes back makes no other mesh', async (t) => {
  const life = { etcd: await Etcd.start(t), stateDir: temporaryFolder(t), key: keyFile(t) };
  const { part, issuer } = await live(t, life);
  part.follow(new Registry());
  await life.etcd.lose();
  const plan = { etcd: { endpoints: [life.etcd.url], prefix: PREFIX }, keyFile: life.key };
  const { part: other, failures } = sharedPart(t, plan);
  const found = other.issuer();
  await until('it has asked', () => failures.length > 0);
  await life.etcd.begin(t);
  t.deepEqual(await found, issuer);
  t.regex(failures.at(-1) ?? '', /authority is empty, and may have been lost/);
});

test('one that starts with nothing waits a while where etcd has more of the mesh', async (t) => {
  const life = { etcd: await Etcd.start(t), stateDir: temporaryFolder(t), key: keyFile(t) };
  const { issuer } = await live(t, life);
  const [sealed = ''] = await life.etcd.texts(AUTHORITY);
  await life.etcd.remove(AUTHORITY);
  await life.etcd.put(`${PREFIX}denied/somebody`, '{}');
  const plan = { etcd: { endpoints: [life.etcd.url], prefix: PREFIX }, keyFile: life.key };
  const { part, failures } = sharedPart(t, plan);
  const found = part.issuer();
  await until('it waits', () => failures.some((failure) => /may have been lost/.test(failure)));
  await life.etcd.put(AUTHORITY, sealed);
  t.deepEqual(await found, issuer);
  // Where nobody has it there is another one in the end.
  await life.etcd.remove(AUTHORITY);
  t.not((await sharedPart(t, plan).part.issuer()).roots, issuer.roots);
});

test('a later start needs no etcd, and a first one does', async (t) => {
  const life = { etcd: await Etcd.start(t), stateDir: temporaryFolder(t), key: keyFile(t) };
  const { issuer } = await live(t, life);
  await life.etcd.lose();
  const { part, failures, issuer: again } = await live(t, life);
  t.deepEqual(again, issuer);
  t.is(failures.length, 1);
  t.regex(failures.join(), /fails, and the issuer of the last start serves: .*ECONNREFUSED/);
  await life.etcd.begin(t);
  await part.look();
  t.deepEqual((await live(t, { ...life, stateDir: temporaryFolder(t) })).issuer, issuer);
});

test('where etcd has the root of another mesh, each goes on with its own', async (t) => {
  const life = { etcd: await Etcd.start(t), stateDir: temporaryFolder(t), key: keyFile(t) };
  const { issuer } = await live(t, life);
  await life.etcd.empty('/mesh/');
  const other = await live(t, { ...life, stateDir: temporaryFolder(t) });
  t.not(other.issuer.roots, issuer.roots);
  for (let start = 0; start < 2; start += 1) {
    const again = await live(t, life);
    t.deepEqual(again.issuer, issuer);
    await t.throwsAsync(again.part.look(), { instanceOf: StateError, message: /the root of another mesh/ });
    await other.part.look();
  }
  await life.etcd.remove(AUTHORITY);
  const last = await live(t, life);
  await last.part.look();
  t.deepEqual(last.issuer, issuer);
});

test('no root is made where that of an earlier start can not be read', async (t) => {
  const life = { etcd: await Etcd.start(t), stateDir: temporaryFolder(t), key: keyFile(t) };
  const { issuer } = await live(t, life);
  const file = join(life.stateDir, 'shared.json');
  await life.etcd.empty('/mesh/');
  const refused = {
    instanceOf: StateError,
    message: /shared\.json can't be read with this key: .*; give it the key/,
  };
  await t.throwsAsync(live(t, { ...life, key: keyFile(t, KEY.toUpperCase()) }), refused);
  const good = readFileSync(file);
  for (const bad of ['', '{}', 'null', '"text"', good.subarray(0, 200)]) {
    writeFileSync(file, bad);
    await t.throwsAsync(live(t, life), refused, String(bad));
  }
  t.deepEqual(await life.etcd.texts(PREFIX), []);
  writeFileSync(file, good);
  t.deepEqual((await live(t, life)).issuer, issuer);
  // Etcd has it, and so it is kept again.
  writeFileSync(file, '{}');
  t.deepEqual((await live(t, life)).issuer, issuer);
  await life.etcd.empty('/mesh/');
  t.deepEqual((await live(t, life)).issuer, issuer);
  // Another mesh is what one gets who wants one.
  await life.etcd.empty('/mesh/');
  rmSync(file);
  t.not((await live(t, life)).issuer.roots, issuer.roots);
});

test('one that was kept for too long is renewed under its root', async (t) => {
  const life = { etcd: await Etcd.start(t), stateDir: temporaryFolder(t), key: keyFile(t) };
  const { issuer } = await live(t, life);
  const kept = new KeptIssuer((await StateFolder.open(life.stateDir)).shared, AUTHORITY, life.key);
  const made = await kept.read();
  const { chain } = await (await Authority.create(t)).issuer([-20, -1]);
  if (made) await kept.write({ ...made, issuer: { ...made.issuer, chain } });
  await life.etcd.empty('/mesh/');
  const again = (await live(t, life)).issuer;
  t.is(again.roots, issuer.roots);
  t.not(again.chain, chain);
  t.is((await kept.read())?.issuer.chain, again.chain);
});

/** The issuer in etcd, with a certificate of these days. */
async function dated(t: ExecutionContext, { etcd, stateDir, key }: Life, days: readonly [number, number]) {
  const kept = new KeptIssuer((await StateFolder.open(stateDir)).shared, AUTHORITY, key);
  const made = await kept.read();
  if (!made) throw new Error('nothing is kept');
  const { chain } = await (await Authority.create(t)).issuer(days);
  const changed = { ...made, issuer: { ...made.issuer, chain } };
  await etcd.put(AUTHORITY, await seal(JSON.stringify(changed), KEY, AUTHORITY));
  return { chain, kept, changed };
}

test('an issuer that ended while all rested, or that a clock made which was ahead, is renewed at a start', async (t) => {
  const life = { etcd: await Etcd.start(t), stateDir: temporaryFolder(t), key: keyFile(t) };
  const { issuer } = await live(t, life);
  for (const days of [
    [-20, -1],
    [10, 100],
  ] as const) {
    const { chain, kept, changed } = await dated(t, life, days);
    // With what is kept, with the same that is kept, and without.
    for (const how of ['other', 'same', 'none'] as const) {
      await etcdHas(life.etcd, changed);
      if (how === 'same') await kept.write(changed);
      const stateDir = how === 'none' ? temporaryFolder(t) : life.stateDir;
      const again = (await live(t, { ...life, stateDir })).issuer;
      t.is(again.roots, issuer.roots);
      t.not(again.chain, chain, how);
      t.is(whyNotNow(again, Date.now()), undefined, how);
    }
  }
});

const etcdHas = async (etcd: Etcd, made: SharedIssuer): Promise<void> => {
  await etcd.put(AUTHORITY, await seal(JSON.stringify(made), KEY, AUTHORITY));
};

test('one that runs puts an issuer in the place of one of another time, once in an hour, and goes on with its own', async (t) => {
  const life = { etcd: await Etcd.start(t), stateDir: temporaryFolder(t), key: keyFile(t) };
  const { part, issuer } = await live(t, life);
  const { kept, changed } = await dated(t, life, [10, 100]);
  await part.look();
  const renewed = (await kept.read())?.issuer;
  t.is(renewed?.roots, issuer.roots);
  t.not(renewed?.chain, changed.issuer.chain);
  await etcdHas(life.etcd, changed);
  await t.throwsAsync(part.look(), {
    instanceOf: StateError,
    message: /the clock of a control plane is wrong/,
  });
  t.deepEqual((await kept.read())?.issuer, renewed);
});

test('an issuer that does not serve is not kept', async (t) => {
  const life = { etcd: await Etcd.start(t), stateDir: temporaryFolder(t), key: keyFile(t) };
  const plan = { etcd: { endpoints: [life.etcd.url], prefix: PREFIX }, keyFile: life.key };
  const folder = await StateFolder.open(life.stateDir);
  const served: string[] = [];
  const { part } = sharedPart(t, plan, folder, ({ chain }) => {
    served.push(chain);
    return Promise.reject(new Error('it does not serve'));
  });
  const issuer = await part.issuer();
  const { kept, changed } = await dated(t, life, [-1, 100]);
  for (let look = 0; look < 2; look += 1) await t.throwsAsync(part.look(), { message: 'it does not serve' });
  t.deepEqual(served, [changed.issuer.chain, changed.issuer.chain]);
  t.deepEqual((await kept.read())?.issuer, issuer);
});

test('an etcd that has lost all is given it by those that run, and one that starts meanwhile is of the same mesh', async (t) => {
  const etcd = await Etcd.start(t);
  const [folder, key] = [temporaryFolder(t), keyFile(t)];
  const shared = { etcd: { endpoints: etcd.url, prefix: PREFIX }, keyFile: key };
  const open = async (stateDir: string, listen: string) => {
    const config = { mesh: { shared }, services: { web: {}, basket: { port: 3000 } } };
    const plane = createControlPlane(config, { listen, stateDir });
    t.teardown(() => plane.close());
    return { plane, stateDir, control: await plane.listen() };
  };
  const one = await open(temporaryFolder(t), `127.0.0.1:${await freePort()}`);
  const two = await open(temporaryFolder(t), '127.0.0.1:0');
  const trustAnchors = join(folder, 'roots.pem');
  writeFileSync(trustAnchors, one.plane.roots());
  const joins = async (service: string, at: typeof one, ports?: string) => {
    const token = join(folder, service);
    writeFileSync(token, await at.plane.token(service), { mode: 0o600 });
    const identity = `spiffe://mesh.local/ns/default/sa/${service}`;
    const more = { name: service, control: at.control, trustAnchors, token };
    return startMeshSidecar(t, { identity, ...more, ...(ports !== undefined && { ports }) });
  };
  // What is lost while the connection stands.
  await etcd.empty('/mesh/');
  await until('it is there again', async () => (await etcd.texts(AUTHORITY)).length === 1);

  await etcd.lose();
  await one.plane.close();
  const again = await open(one.stateDir, String(one.control[0]));
  t.is(again.plane.roots(), two.plane.roots());
  t.is(readFileSync(join(one.stateDir, 'roots.pem'), 'utf8'), two.plane.roots());
  await etcd.begin(t);
  await until('it is there again', async () => (await etcd.texts(AUTHORITY)).length === 1);
  // Each is joined at another one, with the roots of before.
  const application = (await httpOrigin(t)).address;
  await joins('basket', two, `3000=${application}`);
  const web = await joins('web', again);
  await until('an answer', async () => (await ask(web)).status === 200);
});
