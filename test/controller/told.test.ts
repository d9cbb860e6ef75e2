// What is told of endpoints that nobody is sent to, and when?

import test from 'ava';
import { Told } from '../../src/controller/told.js';
import type { SourceEvent } from '../../src/discovery/types.js';
import type { ControlPlane, MeshBatch } from '../../src/mesh/control-plane.js';
import { checkMeshConfig } from '../../src/mesh/load.js';
import { identityOf } from '../../src/mesh/names.js';

test('endpoints that a mesh leaves out are told once it is in force, and not when it is refused', (t) => {
  const services = { front: { port: 3000, discover: { registered: true } }, basket: { port: 3000 } };
  const before = checkMeshConfig({ services }).compiled;
  const policies = [{ to: 'front', allow: ['GET /items'] }];
  const after = checkMeshConfig({ services, policies }).compiled;
  const endpoints = [{ address: '127.0.0.1:4143', identity: identityOf('basket', before.settings) }];
  const said: SourceEvent[] = [];
  const told = new Told((service) => (service === 'front' ? endpoints : []), {
    endpoints: () => {},
    source: (event) => said.push(event),
    trouble: (error) => t.fail(String(error)),
  });
  told.all(before);
  const refuses = {
    apply: () => {
      throw new Error('no');
    },
  } as unknown as ControlPlane;
  t.throws(() => told.apply(refuses, after), { message: 'no' });
  t.deepEqual(said, []);
  const takes = { apply: () => {} } as unknown as ControlPlane;
  told.apply(takes, after);
  t.deepEqual(
    said.map(({ kind, service }) => [kind, service]),
    [['sourceProblem', 'front']],
  );
  told.apply(takes, after);
  t.is(said.length, 1);
});

test('a service is told the ports of those that it answers for, as long as it does', (t) => {
  const services = { front: { port: 3000, discover: { registered: true } }, basket: { port: 4000 } };
  const mesh = checkMeshConfig({ services }).compiled;
  const identity = identityOf('basket', mesh.settings);
  let endpoints: { address: string; identity: string }[] = [];
  const told = new Told((service) => (service === 'front' ? endpoints : []), {
    endpoints: () => {},
    source: () => {},
    trouble: (error) => t.fail(String(error)),
  });
  const batches: MeshBatch[] = [told.all(mesh)];
  const control = { apply: (batch: MeshBatch) => void batches.push(batch) } as unknown as ControlPlane;
  const says = (): unknown => {
    const all = batches.splice(0);
    t.deepEqual(
      all.flatMap((batch) => batch.delete?.workloads ?? []),
      [],
    );
    const upserted = all.flatMap((batch) => batch.upsert?.workloads ?? []);
    return upserted.filter(({ name }) => name === identity).map(({ ports }) => ports);
  };
  t.deepEqual(says(), [[4000]]);
  endpoints = [{ address: '127.0.0.1:4143', identity }];
  told.changed(control, mesh, new Set(['front']));
  t.deepEqual(says(), [[3000, 4000]]);
  const more = { ...services, basket: { port: 4000, ports: { admin: 4001 } } };
  const after = checkMeshConfig({ services: more }).compiled;
  told.apply(control, after);
  t.deepEqual(says(), [[3000, 4000, 4001]]);
  endpoints = [];
  told.changed(control, after, new Set(['front']));
  t.deepEqual(says(), [[4000, 4001]]);
});
