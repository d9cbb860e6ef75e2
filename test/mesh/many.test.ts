// How many endpoints may a service have, and who says that there are too many?

import test from 'ava';
import { MeshError } from '../../src/errors.js';
import { httpOrigin } from '../support/http.js';
import { until } from '../support/wait.js';
import { MOST_BYTES } from './hostile/siege.js';
import { Mesh, ask, idOf, numberOf } from './support.js';

const CLUSTER = 'basket.shop:3000';
const REFUSED = /^mesh_control_plane_resources_refused_total (\d+)$/m;

test('a service may have 10,000 endpoints that have identities, and its control plane refuses too many', async (t) => {
  const mesh = await Mesh.start(t);
  const { address } = await httpOrigin(t);
  const basket = await mesh.sidecar(t, 'basket', { ports: `3000=${address}` });
  mesh.serve('basket', []);
  const web = await mesh.sidecar(t, 'web');
  t.is((await ask(web)).status, 503);
  const apply = (count: number): void => {
    const others = Array.from({ length: count - 1 }, (_, number) => ({
      address: `10.${number >> 14}.${(number >> 7) & 127}.${number & 127}:4143`,
      identity: idOf('basket'),
    }));
    // They are there, and are not called.
    const localities = [
      { endpoints: [{ address: basket.address, identity: idOf('basket') }] },
      { zone: 'elsewhere', priority: 1, endpoints: others },
    ];
    mesh.control.apply({ upsert: { endpoints: [{ cluster: CLUSTER, localities }] } });
  };
  apply(10_000);
  await until('an endpoint', async () => (await ask(web)).status === 200);
  t.is(await numberOf(web, REFUSED), 0);
  const peak = web.process.peakBytes();
  t.log(`${Math.round(peak / 1024 / 1024)} MB`);
  t.true(peak < MOST_BYTES, `${peak} bytes`);

  const error = t.throws(() => apply(20_000), { instanceOf: MeshError });
  t.regex(
    error.message,
    /`basket\.shop:3000` would be refused by sidecars: all endpoints hold too many fields/,
  );
  t.is((await ask(web)).status, 200, 'what was before serves');
  t.is(await numberOf(web, REFUSED), 0);
});
