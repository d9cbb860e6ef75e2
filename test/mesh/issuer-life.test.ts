// Is it told in time that an issuer ends which somebody gave and nobody here renews?

import { mock } from 'node:test';
import test from 'ava';
import { createControlPlane } from '../../src/index.js';
import { check } from '../../src/mesh/admin/findings.js';
import { lifeOf, standingOf } from '../../src/mesh/issuer-life.js';
import { Authority } from '../support/certificates.js';
import { status } from './status.js';

const DAY_MS = 86_400_000;
const LOOK_MS = 60_000;

test('the end of a chain is the end of the certificate in it that ends first', async (t) => {
  const authority = await Authority.create(t);
  const [long, short] = [await authority.issuer(), await authority.issuer([-18, 2])];
  t.deepEqual(lifeOf(long.chain + short.chain), lifeOf(short.chain));
  t.is(lifeOf(''), undefined);
  const life = { notBeforeMs: 0, notAfterMs: 100 };
  t.deepEqual(
    [79, 80, 99, 100].map((atMs) => standingOf(life, atMs)),
    ['good', 'ending', 'ending', 'ended'],
  );
});

test('mesh check tells it', (t) => {
  const at = (atMs: number) =>
    check({ ...status([]), issuer: { notBeforeMs: 0, notAfterMs: 1000_000 }, atMs })[0];
  t.is(at(799_999)?.level, 'ok');
  t.like(at(-300_000), {
    level: 'error',
    what:
      'the issuer is good from 1970-01-01T00:00:00Z to 1970-01-01T00:16:40Z, ' +
      "and the control plane's clock says 1969-12-31T23:55:00Z",
  });
  t.like(at(800_000), { level: 'warning', what: 'the issuer ends in 200 s of 1000 s' });
  t.like(at(1000_000), { level: 'error', what: 'the issuer has ended: nobody gets a certificate' });
});

test.serial('a control plane tells once that a fifth is left, and once that it has ended', async (t) => {
  mock.timers.enable({ apis: ['setInterval', 'Date'], now: Date.now() });
  t.teardown(() => mock.timers.reset());
  const issuer = await (await Authority.create(t)).issuer([-18, 2]);
  const plane = createControlPlane({ services: { web: {} } }, { listen: '127.0.0.1:0', issuer });
  t.teardown(() => plane.close());
  const told: string[] = [];
  plane.on('issuer', (standing, life) => {
    t.deepEqual(life, lifeOf(issuer.chain));
    told.push(standing);
  });
  await plane.listen();
  t.deepEqual(told, ['ending']);
  mock.timers.tick(LOOK_MS);
  t.deepEqual(told, ['ending']);
  mock.timers.setTime(Date.now() + 2 * DAY_MS);
  for (let turn = 0; turn < 2; turn += 1) mock.timers.tick(LOOK_MS);
  t.deepEqual(told, ['ending', 'ended']);
});
