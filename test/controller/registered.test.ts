// When is a sidecar an endpoint?

import test from 'ava';
import { Registry } from '../../src/controller/registered.js';
import type { Sidecar } from '../../src/mesh/control-plane.js';
import { until } from '../support/wait.js';
import { Followed } from '../discovery/support.js';

const ID = 'spiffe://mesh.local/ns/default/sa/basket';

function sidecar(name: string, more: Partial<Sidecar> = {}): Sidecar {
  return {
    name,
    identity: ID,
    address: '10.0.0.9:50000',
    inboundAddress: `10.0.0.1:${name.length}`,
    services: [{ service: 'basket', port: 3000 }],
    phase: 'ready',
    version: '0.1.0',
    pid: 1,
    instance: '1',
    turn: 1,
    sharesName: false,
    sinceMs: 0,
    certificateNotAfterMs: null,
    certificateSerial: null,
    telemetryAtMs: null,
    nacks: [],
    has: [],
    ...more,
  };
}

test('from the moment it is ready until it drains and goes', async (t) => {
  const registry = new Registry();
  const followed = new Followed(t, [registry.source(ID)]);
  registry.heard({ kind: 'connected', sidecar: sidecar('a', { phase: 'connected' }) });
  registry.heard({ kind: 'ready', sidecar: sidecar('a') });
  await followed.has('10.0.0.1:1');
  t.deepEqual(followed.directory.endpoints('basket'), [{ address: '10.0.0.1:1', ports: [3000] }]);
  registry.heard({ kind: 'ready', sidecar: sidecar('bb') });
  await followed.has('10.0.0.1:1', '10.0.0.1:2');
  registry.heard({ kind: 'draining', sidecar: sidecar('a', { phase: 'draining' }) });
  await followed.has('10.0.0.1:1', '10.0.0.1:2');
  registry.heard({ kind: 'gone', sidecar: sidecar('a', { phase: 'draining' }) });
  await followed.has('10.0.0.1:2');
});

test('who it is follows from its certificate; one that offers nothing is none', async (t) => {
  const registry = new Registry();
  const followed = new Followed(t, [registry.source(ID)]);
  registry.heard({ kind: 'ready', sidecar: sidecar('thief', { identity: `${ID}-not` }) });
  registry.heard({ kind: 'ready', sidecar: sidecar('client', { services: [] }) });
  registry.heard({ kind: 'ready', sidecar: sidecar('all', { inboundAddress: '0.0.0.0:4143' }) });
  registry.heard({ kind: 'ready', sidecar: sidecar('own', { inboundAddress: '10.0.0.9:4143' }) });
  await followed.has('10.0.0.9:4143');
});

test('one that left without a word stays a while, and as long as nobody else is there', async (t) => {
  const registry = new Registry({ lostMs: 1 });
  const followed = new Followed(t, [registry.source(ID)]);
  for (const name of ['a', 'bb']) registry.heard({ kind: 'ready', sidecar: sidecar(name) });
  await followed.has('10.0.0.1:1', '10.0.0.1:2');
  registry.heard({ kind: 'gone', sidecar: sidecar('bb') });
  await followed.has('10.0.0.1:1');
  registry.heard({ kind: 'gone', sidecar: sidecar('a') });
  registry.heard({ kind: 'ready', sidecar: sidecar('ccc') });
  await followed.has('10.0.0.1:3');
  t.false(followed.told.some((list) => list.length === 0));
});

test('those of an earlier life stay until they come again, and what was lost of events is looked up', async (t) => {
  const registry = new Registry({ lostMs: 1 });
  registry.restore(ID, [{ address: '10.0.0.1:1', ports: [3000] }, { address: '10.0.0.1:2' }]);
  const followed = new Followed(t, [registry.source(ID)]);
  await followed.has('10.0.0.1:1', '10.0.0.1:2');
  registry.look([sidecar('a'), sidecar('bb')]);
  await followed.has('10.0.0.1:1', '10.0.0.1:2');
  registry.look([sidecar('bb')]);
  await followed.has('10.0.0.1:2');
});

test('what one control plane tells another: who is there, who drains and left, and who is lost with it', async (t) => {
  const [one, two] = [new Registry(), new Registry({ lostMs: 1 })];
  one.onChange(() => two.told(one.own()));
  const followed = new Followed(t, [two.source(ID)]);
  for (const name of ['a', 'bb']) one.heard({ kind: 'ready', sidecar: sidecar(name) });
  await followed.has('10.0.0.1:1', '10.0.0.1:2');
  one.heard({ kind: 'draining', sidecar: sidecar('a', { phase: 'draining' }) });
  one.heard({ kind: 'gone', sidecar: sidecar('a', { phase: 'draining' }) });
  await until('the goodbye', () => followed.directory.endpoints('basket')[0]?.draining);
  // Whoever told of them is gone: the last one stays, one that said goodbye does not.
  two.told([]);
  await followed.has('10.0.0.1:2');
  // It comes to this one.
  two.heard({ kind: 'ready', sidecar: sidecar('bb') });
  two.heard({ kind: 'ready', sidecar: sidecar('ccc') });
  await followed.has('10.0.0.1:2', '10.0.0.1:3');
  t.deepEqual(
    two.own().map(({ address, identity }) => [address, identity]),
    [
      ['10.0.0.1:2', ID],
      ['10.0.0.1:3', ID],
    ],
  );
});

test('of two of one name at two control planes the one that came last is an endpoint, and the same for both', async (t) => {
  const [one, two] = [new Registry(), new Registry()];
  const followed = [one, two].map((registry) => new Followed(t, [registry.source(ID)]));
  const tell = (): void => {
    two.told(one.own());
    one.told(two.own());
    two.told(one.own());
  };
  const has = (address: string) =>
    until('both agree', () =>
      followed.every(({ directory }) => {
        const able = directory.endpoints('basket').filter(({ draining }) => draining !== true);
        return able.length === 1 && able[0]?.address === address;
      }),
    );
  const ready = (registry: Registry, instance: string, turn: number): void =>
    registry.heard({
      kind: 'ready',
      sidecar: sidecar('a', { instance, turn, inboundAddress: `10.0.0.${instance}:1` }),
    });
  ready(one, '1', 1);
  tell();
  await has('10.0.0.1:1');
  ready(two, '2', 2);
  tell();
  await has('10.0.0.2:1');
  t.deepEqual(one.own(), []);
  // Its word was on its way as it lost its name.
  ready(one, '1', 1);
  tell();
  t.deepEqual(one.own(), []);
  ready(one, '1', 3);
  tell();
  await has('10.0.0.1:1');
  // It comes to the other control plane, as itself.
  ready(two, '1', 4);
  tell();
  await has('10.0.0.1:1');
});

test('what a control plane knows of its last life is told to no other, and doubted when others do not know it', async (t) => {
  const endpoints = [1, 2, 3].map((last) => ({ address: `10.0.0.1:${last}`, ports: [3000] }));
  const registry = new Registry({ lostMs: 1 });
  registry.restore(ID, endpoints);
  const followed = new Followed(t, [registry.source(ID)]);
  await followed.has('10.0.0.1:1', '10.0.0.1:2', '10.0.0.1:3');
  t.deepEqual(registry.own(), []);
  registry.heard({ kind: 'ready', sidecar: sidecar('a') });
  const who = { name: 'a', instance: '1', pid: 1, turn: 1 };
  t.deepEqual(registry.own(), [{ address: '10.0.0.1:1', ports: [3000], identity: ID, sidecar: who }]);
  // One is there, and one left while nobody here could hear of it.
  registry.told([{ address: '10.0.0.1:2', ports: [3000], identity: ID }]);
  await followed.has('10.0.0.1:1', '10.0.0.1:2');

  // Others may tell of nobody since none of their own is there: those of before have their time, and no more.
  const alone = new Registry({ lostMs: 1, returnMs: 1 });
  alone.restore(ID, endpoints.slice(0, 1));
  const last = new Followed(t, [alone.source(ID)]);
  await last.has('10.0.0.1:1');
  alone.told([]);
  await last.has();
});

test('who comes again where it was does not drain any more, though another one says so late', async (t) => {
  const registry = new Registry();
  const followed = new Followed(t, [registry.source(ID)]);
  const drains = (): (boolean | undefined)[] =>
    followed.directory.endpoints('basket').map(({ draining }) => draining);
  registry.heard({ kind: 'ready', sidecar: sidecar('a') });
  await followed.has('10.0.0.1:1');
  registry.told([{ address: '10.0.0.1:1', ports: [3000], identity: ID, draining: true }]);
  registry.heard({ kind: 'ready', sidecar: sidecar('bb') });
  await followed.has('10.0.0.1:1', '10.0.0.1:2');
  t.deepEqual(drains(), [undefined, undefined]);
  // It may have gone to the other one.
  registry.heard({ kind: 'gone', sidecar: sidecar('a') });
  await until('it drains', () => drains()[0]);
  t.deepEqual(drains(), [true, undefined]);
});
