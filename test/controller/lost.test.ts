// What of several control planes holds when the etcd they share loses what it had, or does not answer?

import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Shared } from '../../src/controller/shared.js';
import { SharedDenied } from '../../src/controller/shared-denied.js';
import { EtcdError } from '../../src/discovery/etcd-client.js';
import { StateError } from '../../src/errors.js';
import { createControlPlane } from '../../src/index.js';
import type { ControlEvent, Sidecar } from '../../src/mesh/control-plane.js';
import { startControlPlane } from '../../src/mesh/native-control-plane.js';
import type { IssuerPlan } from '../../src/mesh/services.js';
import { ask, freePort, startMeshSidecar } from '../mesh/support.js';
import { Authority } from '../support/certificates.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin } from '../support/http.js';
import { PATIENCE_MS, until } from '../support/wait.js';
import { Etcd, sharedPart } from '../discovery/support.js';

const DENIED = '/mesh/control/denied/';
const WEB = 'spiffe://mesh.local/ns/default/sa/web';
const SERIAL = '4f1c09a2b7';

/** What one control plane knows of revocations, and was told of them. */
function follower(t: ExecutionContext, etcd: Etcd) {
  const told: string[] = [];
  const errors: unknown[] = [];
  const denied = new SharedDenied(
    { endpoints: [etcd.url], prefix: DENIED },
    {
      revoked: (whom) => told.push(`${whom} revoked`),
      allowed: (whom) => told.push(`${whom} allowed`),
      knows: () => {},
      failed: (error) => errors.push(error),
    },
  );
  t.teardown(() => denied.close());
  const access = { url: etcd.url };
  const put = async (whom: string): Promise<void> => {
    await denied.put(access, [whom]).finally(() => denied.late(whom));
  };
  return {
    told,
    errors,
    all: () => [...denied.all].sort(),
    revoke: (whom: string) => {
      denied.revoke(whom);
      return put(whom);
    },
    allow: async (whom: string) => {
      const was = denied.allow(whom);
      await put(whom);
      return was;
    },
    hold: (whoms: readonly string[]) => denied.put(access, denied.hold(whoms)),
  };
}

test('an etcd that lost what it had takes no revocation back, and gets them again', async (t) => {
  const etcd = await Etcd.start(t);
  const [one, two] = [follower(t, etcd), follower(t, etcd)];
  await one.revoke(WEB);
  await one.revoke(SERIAL);
  const both = [SERIAL, WEB].sort();
  await until('the other knows', () => two.all().length === 2);
  t.deepEqual([one.all(), two.all()], [both, both]);
  await etcd.empty('/mesh/');
  await until('both are there again', async () => (await etcd.texts(DENIED)).length === 2);
  t.deepEqual([one.all(), two.all()], [both, both]);
  t.deepEqual(two.told.toSorted(), [`${SERIAL} revoked`, `${WEB} revoked`].sort());
  // Who begins afterwards learns of them.
  const three = follower(t, etcd);
  await until('the third knows', () => three.all().length === 2);
  t.true(await three.allow(WEB));
  t.false(await three.allow(WEB));
  for (const { all } of [one, two]) await until('it is taken back', () => all().length === 1);
  t.true(two.told.includes(`${WEB} allowed`));
  t.is((await etcd.texts(DENIED)).filter((text) => text.includes('"denied":false')).length, 1);
  t.deepEqual(
    [one, two, three].flatMap(({ errors }) => errors),
    [],
  );
});

test('an etcd that is as it was some time ago takes no revocation back', async (t) => {
  const etcd = await Etcd.start(t);
  const [one, two] = [follower(t, etcd), follower(t, etcd)];
  await one.revoke(WEB);
  await one.allow(WEB);
  await until('the other knows that it was taken back', () => two.told.at(-1) === `${WEB} allowed`);
  await etcd.copy(t);
  await one.revoke(WEB);
  await one.revoke(SERIAL);
  const both = [SERIAL, WEB].sort();
  for (const { all } of [one, two]) await until('both are known', () => all().join() === both.join());
  await etcd.restore(t);
  const denied = async (): Promise<number> =>
    (await etcd.texts(DENIED)).filter((text) => text.includes('"denied":true')).length;
  await until('both are there again', async () => (await denied()) === 2);
  t.deepEqual([one.all(), two.all()], [both, both]);
  t.is(two.told.filter((event) => event === `${WEB} allowed`).length, 1);
});

test('what was said while etcd was away is said when it is back, and holds here until then', async (t) => {
  const etcd = await Etcd.start(t);
  const [one, two] = [follower(t, etcd), follower(t, etcd)];
  await one.revoke(WEB);
  await one.allow(WEB);
  // Who begins to follow between the two hears of the second alone.
  await until('the other knows that it was taken back', () => two.told.at(-1) === `${WEB} allowed`);
  await etcd.kill();
  await t.throwsAsync(one.revoke(WEB));
  t.deepEqual(one.all(), [WEB]);
  await etcd.begin(t);
  await until('the other knows', () => two.all().length === 1);
  t.deepEqual(one.all(), [WEB], 'what etcd had of before did not take it back');
  t.false(one.told.includes(`${WEB} allowed`));
});

test('what was said while nobody could ask etcd, for want of it or of the password, is said afterwards', async (t) => {
  const etcd = await Etcd.start(t);
  await etcd.protect('secret');
  const folder = temporaryFolder(t);
  const [keyFile, passwordFile] = [join(folder, 'operator.key'), join(folder, 'password')];
  writeFileSync(keyFile, 'a key of the operator, which is long enough');
  writeFileSync(passwordFile, 'secret\n');
  const plan = {
    etcd: { endpoints: [etcd.url], prefix: '/mesh/control/', user: 'root', passwordFile },
    keyFile,
  };
  const [one, two] = [sharedPart(t, plan).part, sharedPart(t, plan).part];
  for (const part of [one, two]) await part.learn(PATIENCE_MS);
  const knows = (...whoms: string[]) =>
    until(whoms.join(), () => [...two.denied([])].sort().join() === whoms.sort().join());
  await one.revoke(WEB);
  await knows(WEB);
  await one.allow(WEB);
  await knows();
  await etcd.kill();
  for (const whom of [WEB, SERIAL]) await t.throwsAsync(one.revoke(whom), { instanceOf: EtcdError });
  await etcd.begin(t);
  await knows(WEB, SERIAL);
  t.deepEqual([...one.denied([])].sort(), [WEB, SERIAL].sort(), 'what etcd had took nothing back');

  // Those who follow notice nothing of this.
  renameSync(passwordFile, `${passwordFile}.away`);
  await t.throwsAsync(one.allow(SERIAL), { instanceOf: EtcdError, message: /ENOENT/ });
  renameSync(`${passwordFile}.away`, passwordFile);
  await knows(WEB);
});

test('tokens of who is revoked go, also when etcd does not let them at once', async (t) => {
  const etcd = await Etcd.start(t);
  const keyFile = join(temporaryFolder(t), 'operator.key');
  const plan = { etcd: { endpoints: [etcd.url], prefix: '/mesh/control/' }, keyFile };
  const { part } = sharedPart(t, plan);
  await part.learn(PATIENCE_MS);
  await part.token(WEB, { uses: 1, ttlMs: 60_000 });
  const tokens = '/mesh/control/tokens/';
  // Before all others, and no token.
  await etcd.put(`${tokens}!`, 'nothing');
  await t.throwsAsync(part.revoke(WEB), { instanceOf: EtcdError });
  t.is((await etcd.texts(DENIED)).length, 1);
  await etcd.remove(`${tokens}!`);
  await until('they are gone', async () => (await etcd.texts(tokens)).length === 0);
  await part.token(WEB, { uses: 1, ttlMs: 60_000 });
  await part.allow(WEB);
  t.is((await etcd.texts(tokens)).length, 1, 'what was made afterwards stays');
});

test('who was revoked before is held, and etcd has the last word as soon as it answers', async (t) => {
  const etcd = await Etcd.start(t);
  const one = follower(t, etcd);
  await one.revoke(WEB);
  await one.allow(WEB);
  await etcd.kill();
  const two = follower(t, etcd);
  await two.hold([WEB, SERIAL]);
  t.deepEqual(two.all(), [SERIAL, WEB].sort());
  await etcd.begin(t);
  await until('it is taken back', () => two.told.includes(`${WEB} allowed`));
  await until('the other is there', () => one.told.includes(`${SERIAL} revoked`));
  t.deepEqual(two.all(), [SERIAL]);
});

test('what is no revocation is told, and what was known stays', async (t) => {
  const etcd = await Etcd.start(t);
  const one = follower(t, etcd);
  await one.revoke(WEB);
  await etcd.put(`${DENIED}x`, 'nothing');
  await until('it is told', () => one.errors.length > 0);
  await etcd.put(`${DENIED}x`, { whom: WEB });
  await until('it is told', () => one.errors.some((error) => /is no revocation/.test(String(error))));
  t.deepEqual(one.all(), [WEB]);
  await etcd.remove(`${DENIED}x`);
  const two = follower(t, etcd);
  await until('another knows', () => two.all().length === 1);
});

/** What a control plane shares, without the control plane. */
async function shared(t: ExecutionContext, etcd: Etcd) {
  const keyFile = join(temporaryFolder(t), 'operator.key');
  writeFileSync(keyFile, 'a key of the operator, which is long enough');
  const renewed: string[] = [];
  const part = new Shared(
    { etcd: { endpoints: [etcd.url], prefix: '/mesh/control/' }, keyFile },
    startControlPlane,
    { trustDomain: 'mesh.local', certificateTtlMs: 60_000 },
    {
      tell: () => {},
      renewed: ({ chain }) => Promise.resolve(void renewed.push(chain)),
      revoked: () => {},
      allowed: () => {},
      elsewhere: () => {},
      knows: () => {},
      failed: () => {},
    },
  );
  t.teardown(() => part.close());
  return { part, renewed, issuer: await part.issuer() };
}

test('the issuer is put back, and one of another root is not taken', async (t) => {
  const etcd = await Etcd.start(t);
  const one = await shared(t, etcd);
  await etcd.empty('/mesh/');
  await one.part.look();
  const two = await shared(t, etcd);
  t.is(two.issuer.chain, one.issuer.chain);
  // A control plane that starts before anybody has looked makes an issuer of its own.
  await etcd.empty('/mesh/');
  const three = await shared(t, etcd);
  t.not(three.issuer.roots, one.issuer.roots);
  await t.throwsAsync(one.part.look(), { instanceOf: StateError, message: /the root of another mesh/ });
  t.deepEqual(one.renewed, []);
});

/** A control plane over an etcd that need not answer: the issuer is the operator's. */
async function plane(t: ExecutionContext, etcd: Etcd, issuer: IssuerPlan, listen: string) {
  const mesh = {
    shared: { etcd: { endpoints: etcd.url, prefix: '/mesh/control/' } },
    certificates: { issuer },
  };
  const config = { mesh, services: { basket: {}, web: {} } };
  const control = createControlPlane(config, { listen, telemetryIntervalMs: 100 });
  t.teardown(() => control.close());
  const events: string[] = [];
  control.on('control', ({ kind, sidecar }: ControlEvent) => {
    if (sidecar) events.push(`${kind} ${(sidecar as Sidecar).name}`);
  });
  const [address = ''] = await control.listen();
  const happened = (event: string) => until(event, () => events.includes(event));
  return { control, happened, address };
}

test('a control plane that starts while etcd is silent takes no revocation back, and learns of them', async (t) => {
  const etcd = await Etcd.start(t);
  const folder = temporaryFolder(t);
  const issuer = { chain: join(folder, 'crt'), key: join(folder, 'key'), roots: join(folder, 'roots') };
  const made = await (await Authority.create(t)).issuer();
  for (const part of ['chain', 'key', 'roots'] as const) writeFileSync(issuer[part], made[part]);
  const one = await plane(t, etcd, issuer, `127.0.0.1:${await freePort()}`);
  const joins = async (service: string, ports?: string) => {
    const token = join(folder, service);
    writeFileSync(token, await one.control.token(service), { mode: 0o600 });
    const identity = `spiffe://mesh.local/ns/default/sa/${service}`;
    const more = { name: service, control: [one.address], trustAnchors: issuer.roots, token };
    return startMeshSidecar(t, { identity, ...more, ...(ports !== undefined && { ports }) });
  };
  const basket = await joins('basket', `80=${(await httpOrigin(t)).address}`);
  const web = await joins('web');
  const answers = (status: number) => until(`${status}`, async () => (await ask(web)).status === status);
  await answers(200);
  await one.control.revoke(WEB);
  await answers(502);
  await etcd.kill();
  await one.control.close();

  const two = await plane(t, etcd, issuer, one.address);
  for (const name of ['basket', 'web']) await two.happened(`ready ${name}`);
  // Who reports has heard what is said at the beginning.
  await ask(basket);
  await until('its report', () => two.control.edges().some(({ identity }) => identity.endsWith('/basket')));
  t.is((await ask(web)).status, 502);
  await etcd.begin(t);
  await two.happened('gone web');
  t.is((await ask(web)).status, 502);
  t.true(await two.control.allow(WEB));
  await answers(200);
});
