// Is a prefix of a real etcd followed: through kills, compaction, bad values, and several members?

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { type WatchMessage, base64, endOf, watch } from '../../src/discovery/etcd-client.js';
import { EtcdPrefix } from '../../src/discovery/etcd-prefix.js';
import { announcedSource, etcdSource } from '../../src/discovery/etcd.js';
import { freePort } from '../mesh/support.js';
import { temporaryFolder } from '../support/files.js';
import { must } from '../support/processes.js';
import { until, within } from '../support/wait.js';
import { Etcd, Followed } from './support.js';

const [A, B, C] = ['10.0.0.1:1', '10.0.0.2:1', '10.0.0.3:1'] as const;
const PREFIX = '/mesh/basket/';

test('keys come and go, values are addresses or JSON, and other prefixes are others', async (t) => {
  const etcd = await Etcd.start(t);
  await etcd.put(`${PREFIX}1`, A);
  await etcd.put('/mesh/basket-2/1', C);
  const followed = new Followed(t, [etcdSource({ endpoints: [etcd.url], prefix: PREFIX })]);
  await followed.has(A);
  await etcd.put(`${PREFIX}2`, { address: B, weight: 2, draining: true });
  await followed.has(A, B);
  t.deepEqual(followed.directory.endpoints('basket')[1], { address: B, weight: 2, draining: true });
  await etcd.put(`${PREFIX}1`, C);
  await followed.has(B, C);
  await etcd.put(`${PREFIX}1`, 'nowhere');
  await followed.happened('sourceProblem', /^\/mesh\/basket\/1: address: expected the address of one server/);
  t.deepEqual(followed.addresses(), [B, C]);
  await etcd.put(`${PREFIX}3`, '{');
  await etcd.put(`${PREFIX}4`, A);
  await followed.has(A, B, C);
  await etcd.remove(`${PREFIX}1`);
  await followed.has(A, B);
  await followed.happened('sourceProblem', /^\/mesh\/basket\/3: expected an address, or an endpoint in JSON/);
  await etcd.put(`${PREFIX}3`, { address: C, wieght: 3 });
  await followed.happened(
    'sourceProblem',
    /^\/mesh\/basket\/3: wieght: unknown key wieght; did you mean weight\?$/,
  );
  await followed.has(A, B);
  await etcd.put(`${PREFIX}3`, C);
  await followed.has(A, B, C);
  await etcd.put(`${PREFIX}3`, { address: '10.0.0.4:1', wieght: 3 });
  await until('it is told', () => followed.directory.status()[0]?.problem?.includes('wieght'));
  await followed.has(A, B, C);
  await etcd.remove(`${PREFIX}3`);
  await followed.has(A, B);
});

test('what other control planes write may be of a newer version, and say more', async (t) => {
  const etcd = await Etcd.start(t);
  await etcd.put(`${PREFIX}1`, { address: A, ports: [1], tomorrow: true });
  await etcd.put(`${PREFIX}own`, { address: B });
  const source = announcedSource({ endpoints: [etcd.url], prefix: PREFIX }, (name) => name === 'own');
  const followed = new Followed(t, [source]);
  await followed.has(A);
  t.deepEqual(followed.directory.endpoints('basket'), [{ address: A, ports: [1] }]);
});

test('a key with a lease goes with the lease', async (t) => {
  const etcd = await Etcd.start(t);
  const followed = new Followed(t, [etcdSource({ endpoints: [etcd.url], prefix: PREFIX })]);
  const { ID } = await etcd.ask<{ ID: string }>('/v3/lease/grant', { TTL: '60' });
  await etcd.ask('/v3/kv/put', { key: base64(`${PREFIX}1`), value: base64(A), lease: ID });
  await followed.has(A);
  await etcd.ask('/v3/lease/revoke', { ID });
  await followed.has();
});

test('thousands of keys are read in pages of one moment', async (t) => {
  const etcd = await Etcd.start(t);
  const address = (at: number): string => `10.0.${at >> 8}.${at & 255}:1`;
  const keys = Array.from({ length: 2500 }, (_, at) => at + 1);
  for (let from = 0; from < keys.length; from += 100) {
    await Promise.all(keys.slice(from, from + 100).map((at) => etcd.put(`${PREFIX}${at}`, address(at))));
  }
  const followed = new Followed(t, [etcdSource({ endpoints: [etcd.url], prefix: PREFIX })]);
  await followed.has(...keys.map(address).sort());
  t.is((await until('the first list', () => followed.told[0])).length, 2500);
});

test('etcd is killed and comes back: what is known stays, and what changed meanwhile is seen', async (t) => {
  const etcd = await Etcd.start(t);
  await etcd.put(`${PREFIX}1`, A);
  await etcd.put(`${PREFIX}2`, B);
  // One of its members is never there.
  const dead = `http://127.0.0.1:${await freePort()}`;
  const followed = new Followed(t, [etcdSource({ endpoints: [dead, etcd.url], prefix: PREFIX })]);
  await followed.has(A, B);
  for (let round = 0; round < 3; round += 1) {
    followed.events.length = 0;
    await etcd.kill();
    await followed.happened('sourceFailed');
    t.deepEqual(followed.addresses(), [A, B]);
    await etcd.begin(t);
    await etcd.remove(`${PREFIX}2`);
    await followed.has(A);
    await etcd.put(`${PREFIX}2`, B);
    await followed.has(A, B);
  }
  t.false(followed.told.some((list) => list.length === 0));
});

test('what was compacted can not be watched, and is said to be', async (t) => {
  const etcd = await Etcd.start(t);
  for (let at = 0; at < 5; at += 1) await etcd.put(`${PREFIX}1`, A);
  await etcd.ask('/v3/kv/compaction', { revision: '4', physical: true });
  const stop = new AbortController();
  t.teardown(() => stop.abort());
  const request = { key: base64(PREFIX), range_end: endOf(PREFIX), start_revision: '2' };
  let last: WatchMessage | undefined;
  for await (const message of watch({ url: etcd.url }, request, stop.signal)) {
    last = message;
    if (message.canceled === true) break;
  }
  t.is(last?.compact_revision, '4');
});

test('etcd is followed over TLS as a user with a password, once it is trusted and the password is right', async (t) => {
  const folder = temporaryFolder(t);
  const [certificate, key] = [join(folder, 'etcd.pem'), join(folder, 'etcd.key')];
  const make = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=etcd';
  const names = ['-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', certificate];
  await must('openssl', [...make.split(' '), ...names]);
  const etcd = await Etcd.start(t, {
    scheme: 'https',
    flags: ['--cert-file', certificate, '--key-file', key],
  });
  const passwordFile = join(folder, 'password');
  writeFileSync(passwordFile, 'wrong\n');
  etcd.trust(certificate);
  await etcd.put(`${PREFIX}1`, A);
  for (const name of ['root', 'mesh']) {
    await etcd.ask('/v3/auth/user/add', { name, password: 'secret' });
    await etcd.ask('/v3/auth/role/add', { name });
    await etcd.ask('/v3/auth/user/grant', { user: name, role: name });
  }
  const perm = { permType: 'READ', key: base64(PREFIX), range_end: endOf(PREFIX) };
  await etcd.ask('/v3/auth/role/grant', { name: 'mesh', perm });
  await etcd.ask('/v3/auth/enable', {});
  const options = { endpoints: [etcd.url], prefix: PREFIX, user: 'mesh', passwordFile };
  const strangers = new Followed(t, [etcdSource(options)]);
  await strangers.happened('sourceFailed', /self-signed certificate/);
  const followed = new Followed(t, [etcdSource({ ...options, roots: certificate })]);
  await followed.happened('sourceFailed', /authentication failed, invalid user ID or password/);
  writeFileSync(passwordFile, 'secret\n');
  await followed.has(A);
});

test('following ends when it is told to, also before the first change was asked for', async (t) => {
  const etcd = await Etcd.start(t);
  const end = new AbortController();
  const keys = new EtcdPrefix(PREFIX, (text) => text).follow({ url: etcd.url }, end.signal);
  t.deepEqual((await keys.next()).value, new Map());
  end.abort();
  await t.throwsAsync(within('the end', keys.next()), { any: true, name: 'AbortError' });
});
