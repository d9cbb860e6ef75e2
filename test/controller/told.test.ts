// What is told of endpoints that nobody is sent to, and when?

import test from 'ava';
import { Told } from '../../src/controller/told.js';
import type { SourceEvent } from '../../src/discovery/types.js';
import type { ControlPlane } from '../../src/mesh/control-plane.js';
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
