// Are certificates of a minute replaced under load, with no request failed? It takes the minute that the first ones live.

import test from 'ava';
import { httpOrigin } from '../support/http.js';
import { until } from '../support/wait.js';
import { Mesh, ask, load, numberOf } from './support.js';

const MINUTE = 60_000;

test('certificates of a minute are renewed under load until the first have ended, and no request fails', async (t) => {
  t.timeout(3 * MINUTE);
  const mesh = await Mesh.start(t, { certificateTtlMs: MINUTE });
  const { address } = await httpOrigin(t);
  const basket = await mesh.sidecar(t, 'basket', { ports: `3000=${address}` });
  mesh.serve('basket', [basket.address]);
  const web = await mesh.sidecar(t, 'web');
  const serials = (): (string | null)[] =>
    mesh.control.sidecars().map(({ certificateSerial }) => certificateSerial);
  // They are told a moment after the sidecars are ready.
  const first = await until('the first certificates', () => !serials().includes(null) && serials());
  const ends = mesh.control.sidecars().map(({ certificateNotAfterMs }) => certificateNotAfterMs ?? Infinity);
  t.is(new Set(first).size, 2, 'each has a certificate of its own');
  const requests = load(web);
  await until(
    'new certificates of both',
    () => serials().length === 2 && serials().every((serial) => serial !== null && !first.includes(serial)),
    MINUTE,
  );
  await until('the end of the first ones', () => Date.now() > Math.max(...ends), MINUTE);
  // Nobody has seen this one: the new certificates are shown, and not kept beside those of old connections.
  const other = await mesh.sidecar(t, 'basket', { name: 'basket-2', ports: `3000=${address}` });
  mesh.serve('basket', [other.address]);
  const served = () => numberOf(other, /^mesh_requests_total\{listener="inbound",.*\} (\d+)$/m);
  await until('requests to a new peer', async () => (await served()) > 50);
  const { good, bad } = await requests.stop();
  t.deepEqual(bad, []);
  t.true(good > 0);
  // And whoever is new believes one that was renewed.
  mesh.serve('basket', [basket.address]);
  const till = await mesh.sidecar(t, 'till');
  t.is((await ask(till)).status, 200);
});
