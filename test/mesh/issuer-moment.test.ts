// What of those who ask for something in the moment in which another issuer is taken? And of who reads roots and rates
// afterwards?

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mock } from 'node:test';
import test, { type ExecutionContext } from 'ava';
import type { Core } from '../../src/cli/io.js';
import { LeftBehind } from '../../src/controller/left.js';
import { Orchestrator } from '../../src/controller/orchestrator.js';
import type { ControlEvent } from '../../src/mesh/control-plane.js';
import { MeshAdmin } from '../../src/mesh/admin/server.js';
import { startControlPlane } from '../../src/mesh/native-control-plane.js';
import { FakeWorld } from '../cli/world.js';
import { Authority } from '../support/certificates.js';
import { temporaryFolder } from '../support/files.js';
import { until } from '../support/wait.js';
import { edge, source } from './status.js';
import { freePort, startMeshSidecar } from './support.js';

const LOOK_MS = 60_000;

/** The files of an issuer, another one to take its place, and a minute that passes when it is told to. */
async function operator(t: ExecutionContext) {
  mock.timers.enable({ apis: ['setInterval'] });
  t.teardown(() => mock.timers.reset());
  const folder = temporaryFolder(t);
  const plan = { chain: join(folder, 'crt'), key: join(folder, 'key'), roots: join(folder, 'roots') };
  const [first, second] = [
    await (await Authority.create(t)).issuer(),
    await (await Authority.create(t)).issuer(),
  ];
  const write = (issuer: typeof first): void => {
    for (const part of ['chain', 'key', 'roots'] as const) writeFileSync(plan[part], issuer[part]);
  };
  write(first);
  const replace = (): void => {
    write(second);
    mock.timers.tick(LOOK_MS);
  };
  return { folder, mesh: { certificates: { issuer: plan } }, first, second, replace, write };
}

test.serial('who asks meanwhile waits, and has what was asked for', async (t) => {
  const { mesh, second, replace } = await operator(t);
  const config = { mesh, services: { web: {} } };
  const asked: Promise<unknown>[] = [];
  let starts = 0;
  const plane = new Orchestrator(
    config,
    {
      start: (options) => {
        // What listens nowhere is a try.
        if (options.listen.length > 0) starts += 1;
        if (starts === 2 && options.listen.length > 0) {
          // Nobody serves now.
          t.throws(() => plane.roots());
          const other = { mesh, services: { web: {}, basket: { port: 3000 } } };
          asked.push(plane.apply(other), plane.token('web'), plane.revoke('4f1c'));
        }
        return startControlPlane(options);
      },
      validateResources: () => [],
    },
    { listen: `127.0.0.1:${await freePort()}` },
  );
  t.teardown(() => plane.close());
  const restarted = new Promise<string>((resolve) => {
    plane.on('restarted', () => resolve(plane.roots()));
  });
  await plane.listen();
  replace();
  t.is(await restarted, second.roots);
  const [resources, token] = await Promise.all(asked);
  t.true(Number(resources) > 0);
  t.regex(String(token), /^mesh-token-/);
  t.regex(await plane.token('basket'), /^mesh-token-/);
  t.true(await plane.allow('4f1c'));
});

test.serial('where neither issuer can be served it goes on trying, and listens again', async (t) => {
  const { mesh, first, second, replace, write } = await operator(t);
  let isBroken = false;
  let tries = 0;
  const core: ConstructorParameters<typeof Orchestrator>[1] = {
    start: async (options) => {
      if (isBroken && options.listen.length > 0) {
        tries += 1;
        throw new Error(options.issuer?.roots === second.roots ? 'no room for it' : 'nor for it');
      }
      return startControlPlane(options);
    },
    validateResources: () => [],
  };
  // Listened on again later: meanwhile no outgoing connection is to be given its port.
  const listen = `127.0.0.1:${await freePort()}`;
  const plane = new Orchestrator({ mesh, services: { web: {} } }, core, { listen });
  t.teardown(() => plane.close());
  const errors: string[] = [];
  plane.on('error', (error) => errors.push(String(error)));
  let restarts = 0;
  plane.on('restarted', () => (restarts += 1));
  const addresses = await plane.listen();
  await plane.revoke('4f1c');
  const token = await plane.token('web');
  isBroken = true;
  replace();
  await until('it has tried twice again', () => tries >= 6);
  t.deepEqual(errors, [
    'StateError: the control plane listens nowhere, and tries again each second: ' +
      'the issuer that is to serve: no room for it; the one before: nor for it',
  ]);
  await t.throwsAsync(plane.token('web'), { message: /does not listen/ });
  t.is(restarts, 0);
  // Files of which the core makes nothing are no end of it either.
  write({ ...second, key: 'broken' });
  isBroken = false;
  await until('it listens again', () => restarts === 1);
  t.is(plane.roots(), first.roots);
  t.deepEqual(plane.revoked(), ['4f1c']);
  t.regex(await plane.token('web'), /^mesh-token-/);
  replace();
  await until('the other one serves', () => restarts === 2);
  t.is(plane.roots(), second.roots);
  // What was handed out before opens still, where it was said to.
  const folder = temporaryFolder(t);
  const [trustAnchors, file] = [join(folder, 'anchors'), join(folder, 'token')];
  writeFileSync(trustAnchors, plane.roots());
  writeFileSync(file, token, { mode: 0o600 });
  const identity = 'spiffe://mesh.local/ns/default/sa/web';
  const web = await startMeshSidecar(t, {
    name: 'web',
    identity,
    control: addresses,
    trustAnchors,
    token: file,
    ready: false,
  });
  await web.process.said(/a certificate came/);
});

test.serial('what is refused at first is taken once it is good, and is told once', async (t) => {
  const { mesh, first, second, replace } = await operator(t);
  let isEarly = true;
  let tries = 0;
  const core: ConstructorParameters<typeof Orchestrator>[1] = {
    start: async (options) => {
      if (options.listen.length === 0) {
        tries += 1;
        if (isEarly) throw new Error('it is not valid yet');
      }
      return startControlPlane(options);
    },
    validateResources: () => [],
  };
  const plane = new Orchestrator({ mesh, services: { web: {} } }, core, { listen: '127.0.0.1:0' });
  t.teardown(() => plane.close());
  const errors: string[] = [];
  plane.on('error', (error) => errors.push(String(error)));
  let restarts = 0;
  plane.on('restarted', () => (restarts += 1));
  await plane.listen();
  for (const times of [1, 2, 3]) {
    replace();
    await until('it is tried', () => tries === times);
    // It is known what came of it.
    await plane.token('web');
  }
  t.deepEqual(errors, ['Error: it is not valid yet']);
  t.is(plane.roots(), first.roots);
  isEarly = false;
  mock.timers.tick(LOOK_MS);
  await until('it serves', () => restarts === 1);
  t.is(plane.roots(), second.roots);
  t.is(errors.length, 1);
});

test('what fails again is told again once all was well', (t) => {
  const behind = new LeftBehind();
  const tells = (what: string): boolean => behind.isNews(new Error(what));
  t.deepEqual([tells('a'), tells('a'), tells('b'), tells('b')], [true, false, true, false]);
  behind.well();
  t.true(tells('b'));
});

class RealWorld extends FakeWorld {
  override loadCore(): Promise<Core> {
    return import('../../src/index.js');
  }

  override loadControlPlane() {
    return Promise.resolve(startControlPlane);
  }
}

test.serial('mesh control writes the roots that are trusted now where it was told to', async (t) => {
  const { folder, mesh, first, second, replace } = await operator(t);
  const [file, anchors] = [join(folder, 'mesh.yaml'), join(folder, 'anchors.pem')];
  writeFileSync(file, JSON.stringify({ mesh, services: { web: {} } }));
  const world = new RealWorld();
  const listen = `127.0.0.1:${await freePort()}`;
  const ended = world.run('control', file, '--listen', listen, '--trust-anchors-out', anchors);
  t.teardown(async () => {
    world.signals.emit('SIGTERM');
    await ended;
  });
  await until('it listens', () => world.out.includes('the control plane listens on'));
  t.is(readFileSync(anchors, 'utf8'), first.roots);
  replace();
  await until('the other roots', () => readFileSync(anchors, 'utf8') === second.roots);
  t.is(world.err, '');
});

test.serial('rates are of what is counted since a control plane began anew', async (t) => {
  let requests = 1000;
  const admin = await MeshAdmin.start(
    source({ edges: () => [edge({ requests })] }),
    join(temporaryFolder(t), 'socket'),
  );
  t.teardown(() => admin.close());
  requests = 1;
  t.true((admin.status().edges[0]?.rate ?? 0) < 0);
  admin.countAnew();
  t.is(admin.status().edges[0]?.rate, 0);
});

test.serial('what the one before tells late is not of those who are with the next one', async (t) => {
  const { mesh, replace } = await operator(t);
  const told: ((event: ControlEvent) => void)[] = [];
  const core: ConstructorParameters<typeof Orchestrator>[1] = {
    start: (options) => {
      if (options.listen.length > 0) told.push(options.onEvent);
      return startControlPlane(options);
    },
    validateResources: () => [],
  };
  const listen = `127.0.0.1:${await freePort()}`;
  const plane = new Orchestrator({ mesh, services: { basket: { port: 3000 } } }, core, { listen });
  t.teardown(() => plane.close());
  let restarts = 0;
  plane.on('restarted', () => (restarts += 1));
  const counts: number[] = [];
  plane.on('endpoints', (_, count) => counts.push(count));
  await plane.listen();
  const says = (which: number, kind: string, name: string): void =>
    told[which]?.({
      kind,
      sidecar: {
        name,
        identity: 'spiffe://mesh.local/ns/default/sa/basket',
        inboundAddress: `10.0.0.1:${name.length}`,
        services: [{ service: 'basket', port: 3000, protocol: 'auto' }],
        phase: kind === 'ready' ? 'ready' : 'draining',
      },
    });
  says(0, 'ready', 'a');
  await until('it is there', () => counts.at(-1) === 1);
  replace();
  await until('the next one serves', () => restarts === 1);
  says(1, 'ready', 'a');
  says(0, 'gone', 'a');
  says(1, 'ready', 'bb');
  await until('both are there', () => counts.at(-1) === 2);
  t.pass();
});
