// Does a sidecar hear and say what it has to while somebody decides about its next certificate?

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import type { Sidecar } from '../../src/mesh/control-plane.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin } from '../support/http.js';
import { until } from '../support/wait.js';
import { Mesh, ask, idOf } from './support.js';

/** Makes a certificate of an hour that is kept one that is to be renewed. */
function age(state: string): void {
  const file = join(state, 'identity.json');
  const kept = JSON.parse(readFileSync(file, 'utf8')) as { obtained: { secs_since_epoch: number } };
  kept.obtained.secs_since_epoch -= 3_000;
  writeFileSync(file, JSON.stringify(kept));
}

test('a renewal that nobody decides about keeps back no revocation, and no farewell', async (t) => {
  let asked = 0;
  const mesh = await Mesh.start(t, {
    decide: ({ identity, proof }) => {
      if (proof !== 'certificate' || identity !== idOf('basket')) return { allow: true };
      asked += 1;
      return new Promise(() => {});
    },
  });
  const state = join(temporaryFolder(t), 'state');
  const ports = `3000=${(await httpOrigin(t)).address}`;
  const before = await mesh.sidecar(t, 'basket', { ports, flags: { '--state-dir': state } });
  mesh.serve('basket', [before.address]);
  const web = await mesh.sidecar(t, 'web');
  t.is((await ask(web)).status, 200);
  await before.process.kill();
  age(state);
  const flags = { '--state-dir': state, '--inbound': before.address };
  const basket = await mesh.sidecar(t, 'basket', { ports, flags, token: '/nonexistent' });
  await until('a renewal', () => asked > 0);
  t.is((await ask(web)).status, 200);
  mesh.control.revoke(idOf('web'));
  await until('nobody lets it in', async () => (await ask(web)).status === 502);
  t.false(
    mesh.events.some(({ refused }) => String(refused).startsWith('undecided')),
    'it was heard before that was over',
  );
  basket.process.signal('SIGTERM');
  await mesh.happened('draining', ({ sidecar }) => (sidecar as Sidecar).name === 'basket');
});
