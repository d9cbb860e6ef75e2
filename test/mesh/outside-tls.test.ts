// Is a server outside of the mesh called by TLS, and believed by its name and roots alone?

import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import type { MeshConfig } from '../../src/index.js';
import { Authority } from '../support/certificates.js';
import { httpsOrigin } from '../support/tls.js';
import { until } from '../support/wait.js';
import { type Line, MeshUp } from './command.js';

/** Asks again and again, and says what it is told. */
const ASKS = `
const asked = async () => {
  const answer = await fetch('http://billing/', { signal: AbortSignal.timeout(5000) });
  const text = (await answer.text()).trim();
  return answer.ok ? text : String(answer.status);
};
for (;;) {
  console.log('billing says ' + await asked());
  await new Promise((resolve) => setTimeout(resolve, 200));
}
`;

test('a service outside of the mesh is called by TLS', async (t) => {
  const authority = await Authority.create(t);
  const origin = await httpsOrigin(t, await authority.sign({ names: ['billing.test'] }), { name: 'paid' });
  const billing = { address: origin.address, tls: { serverName: 'billing.test', roots: authority.root } };
  const mesh = MeshUp.start(
    t,
    { services: { web: { run: 'exec node web.mjs' }, billing } },
    { files: { 'web.mjs': ASKS } },
  );
  await mesh.printed('web.1', 'billing says paid');
  t.is(origin.names[0], 'billing.test');
});

test('who has another name, or is vouched for by others, is not sent anything', async (t) => {
  const [authority, stranger] = await Promise.all([Authority.create(t), Authority.create(t, 'stranger')]);
  const certificate = await authority.sign({ names: ['billing.test'] });
  for (const tls of [
    { serverName: 'other.test', roots: authority.root },
    { serverName: 'billing.test', roots: stranger.root },
    { serverName: 'billing.test' },
  ]) {
    const origin = await httpsOrigin(t, certificate);
    const mesh = MeshUp.start(
      t,
      { services: { web: { run: 'exec node web.mjs' }, billing: { address: origin.address, tls } } },
      { files: { 'web.mjs': ASKS } },
    );
    await mesh.printed('web.1', 'billing says 502');
    t.is(origin.handshakes, 0, JSON.stringify(tls));
  }
});

test('roots that come later than the file that names them are taken then', async (t) => {
  const authority = await Authority.create(t);
  const origin = await httpsOrigin(t, await authority.sign({ names: ['billing.test'] }), { name: 'paid' });
  const meshWith = (tls: object): MeshConfig => ({
    services: {
      web: { run: 'exec node web.mjs' },
      billing: { address: origin.address, tls: { serverName: 'billing.test', ...tls } },
    },
  });
  const mesh = MeshUp.start(t, meshWith({}), { files: { 'web.mjs': ASKS } });
  await mesh.printed('web.1', 'billing says 502');
  mesh.write(meshWith({ roots: 'later.pem' }));
  await mesh.line('it is refused', ({ event }) => event === 'refused');
  copyFileSync(authority.root, join(mesh.folder, 'later.pem'));
  await mesh.printed('web.1', 'billing says paid');
  t.is(origin.names.at(-1), 'billing.test');
});

test('roots that change alone are told to who calls, rubbish in them is told to the operator', async (t) => {
  const [authority, stranger] = await Promise.all([Authority.create(t), Authority.create(t, 'stranger')]);
  const origin = await httpsOrigin(t, await authority.sign({ names: ['billing.test'] }), { name: 'paid' });
  const meshWith = (rest: object): MeshConfig => ({
    services: {
      web: { run: 'exec node web.mjs' },
      billing: { address: origin.address, tls: { serverName: 'billing.test', roots: 'roots.pem' } },
      ...rest,
    },
  });
  const mesh = MeshUp.start(t, meshWith({}), {
    files: { 'web.mjs': ASKS, 'roots.pem': readFileSync(stranger.root, 'utf8') },
  });
  const roots = join(mesh.folder, 'roots.pem');
  const applied = ({ event, resources = 0 }: Line): boolean => event === 'applied' && resources > 0;
  await mesh.printed('web.1', 'billing says 502');
  writeFileSync(roots, 'rubbish');
  await mesh.line('it is refused', ({ event }) => event === 'refused');
  copyFileSync(authority.root, roots);
  await mesh.line('it is applied', applied);
  await mesh.printed('web.1', 'billing says paid');
  t.is(origin.names.at(-1), 'billing.test');
  // Without the file the last roots hold, and all else can change.
  rmSync(roots);
  mesh.write(meshWith({ ledger: { address: origin.address } }));
  await until('another change', () => mesh.lines().filter(applied).length > 1);
});
