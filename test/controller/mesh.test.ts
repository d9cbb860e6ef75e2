// Does a mesh of real sidecars hold while its sources, its control plane and its endpoints come and go?

import { EventEmitter, on } from 'node:events';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type http from 'node:http';
import test, { type ExecutionContext } from 'ava';
import {
  type MeshControl,
  type MeshConfig,
  type Source,
  createControlPlane,
  fileSource,
  staticSource,
} from '../../src/index.js';
import type { MeshControlOptions } from '../../src/controller/types.js';
import type { Finding } from '../../src/mesh/admin/findings.js';
import { Ports, example } from '../docs/support.js';
import {
  type JoinOptions,
  type MeshSidecar,
  ask,
  freePort,
  load,
  startMeshSidecar,
} from '../mesh/support.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin, request } from '../support/http.js';
import { type Running, must, run, start } from '../support/processes.js';
import { cleanEnvironment } from '../support/sidecar.js';
import { PATIENCE_MS, until } from '../support/wait.js';
import { Etcd } from '../discovery/support.js';

const MESH = join(process.cwd(), 'dist', 'cli', 'main.js');
const tells: http.RequestListener = (incoming, outgoing) =>
  void outgoing.end(String(incoming.headers['x-mesh-peer']));

/** Where a sidecar joins. */
interface Place {
  readonly control: readonly string[];
  readonly trustAnchors: string;
  token(service: string): Promise<string>;
}

/** Starts a sidecar of a service; with `application` it answers for it. */
async function join_(
  t: ExecutionContext,
  place: Place,
  service: string,
  options: Partial<JoinOptions> & { application?: string } = {},
): Promise<MeshSidecar> {
  const token = join(temporaryFolder(t), 'token');
  writeFileSync(token, await place.token(service), { mode: 0o600 });
  return await startMeshSidecar(t, {
    identity: `spiffe://mesh.local/ns/default/sa/${service}`,
    name: service,
    token,
    control: place.control,
    trustAnchors: place.trustAnchors,
    ...(options.application !== undefined && { ports: `3000=${options.application}` }),
    ...options,
  });
}

/** A control plane in this process. */
async function embedded(
  t: ExecutionContext,
  config: MeshConfig,
  options: MeshControlOptions = {},
): Promise<{ plane: MeshControl; place: Place; counts: number[] }> {
  const plane = createControlPlane(config, { listen: '127.0.0.1:0', telemetryIntervalMs: 200, ...options });
  t.teardown(() => plane.close());
  const counts: number[] = [];
  plane.on('endpoints', (_, count) => counts.push(count));
  plane.on('error', (error) => t.fail(String(error)));
  const control = await plane.listen();
  const trustAnchors = join(temporaryFolder(t), 'roots.pem');
  writeFileSync(trustAnchors, plane.roots());
  return { plane, counts, place: { control, trustAnchors, token: async (service) => plane.token(service) } };
}

/** `mesh control`, as a process. */
class ControlProcess implements Place {
  process!: Running;

  constructor(
    readonly folder: string,
    readonly listen: string,
  ) {
    writeFileSync(join(folder, 'mesh.yaml'), 'services: { web: {}, basket: { port: 3000 } }\n');
  }

  get control(): string[] {
    return [this.listen];
  }

  get trustAnchors(): string {
    return join(this.folder, '.mesh', 'state', 'roots.pem');
  }

  async begin(t: ExecutionContext): Promise<void> {
    const options = { cwd: this.folder, env: cleanEnvironment() };
    this.process = start(t, process.execPath, [MESH, 'control', '--listen', this.listen], options);
    await this.says(/the control plane listens on/);
  }

  /** Waits until it has said something, from a number of characters on. */
  says(pattern: RegExp, from = 0): Promise<RegExpExecArray> {
    return until(`mesh control says ${pattern}`, () => {
      if (this.process.ended) throw new Error(this.process.stderr());
      return pattern.exec(this.said().slice(from)) ?? undefined;
    });
  }

  /** All that it has said. */
  said(): string {
    return this.process.stdout().toString();
  }

  /** What another command answers. */
  run(...args: string[]): Promise<string> {
    return must(process.execPath, [MESH, ...args], { cwd: this.folder, env: cleanEnvironment() });
  }

  async token(service: string): Promise<string> {
    return (await this.run('token', service)).trim();
  }
}

const more = (requests: ReturnType<typeof load>, count = 50): Promise<boolean> => {
  const before = requests.good();
  return until('more requests', () => requests.good() > before + count);
};

test('mesh control tells what policy decides, and applies its file again when asked', async (t) => {
  const control = new ControlProcess(temporaryFolder(t), `127.0.0.1:${await freePort()}`);
  const policies = 'policies: [{ name: readers, to: basket, from: web, allow: [GET /items] }]\n';
  writeFileSync(
    join(control.folder, 'mesh.yaml'),
    `services: { web: {}, basket: { port: 3000 } }\n${policies}`,
  );
  await control.begin(t);
  control.process.signal('SIGHUP');
  await control.says(/^applied: 0 resources changed$/m);
  const application = (await httpOrigin(t, tells)).address;
  await join_(t, control, 'basket', { application });
  const web = await join_(t, control, 'web');
  await until('a refusal', async () => (await ask(web, '/admin?key=secret')).status === 403);
  const id = 'spiffe://mesh.local/ns/default/sa/web';
  const [line] = await control.says(
    new RegExp(
      `^policy: basket denied ${id} GET /admin to port 3000: no_rule of readers(, and \\d+ more)?$`,
      'm',
    ),
  );
  t.notRegex(line, /secret/);
});

test('a sidecar at every address of its machine is where it says, or where it calls the control plane from', async (t) => {
  const { plane, place } = await embedded(t, { services: { web: {}, basket: { port: 3000 } } });
  const application = (await httpOrigin(t, tells)).address;
  const web = await join_(t, place, 'web');
  const port = await freePort();
  for (const [flags, address] of [
    [{ '--inbound': `0.0.0.0:${port}` }, `127.0.0.1:${port}`],
    [{ '--inbound': `:${port}`, '--advertise': `127.0.0.2:${port}` }, `127.0.0.2:${port}`],
  ] as const) {
    const basket = await join_(t, place, 'basket', { application, flags });
    const own = plane.sidecars().find(({ name }) => name === 'basket');
    t.is(own?.inboundAddress, address);
    const { text } = await until('an answer', async () => {
      const answer = await ask(web);
      return answer.status === 200 && answer;
    });
    t.is(text, 'spiffe://mesh.local/ns/default/sa/web');
    basket.process.signal('SIGTERM');
    await basket.process.exit;
  }
});

test('a copy joins when its application listens, and no caller is sent there before', async (t) => {
  const { plane, place } = await embedded(t, { services: { web: {}, basket: { port: 3000 } } });
  const web = await join_(t, place, 'web');
  const folder = temporaryFolder(t);
  /** A copy whose application listens once it may. */
  const begin = async (name: string): Promise<{ sidecar: MeshSidecar; listen: () => void }> => {
    const [port, may] = [await freePort(), join(folder, name)];
    const application = `while [ ! -e '${may}' ]; do sleep 0.02; done; exec '${process.execPath}' -e "$0"`;
    const server = `require('http').createServer((_, to) => to.end('${name}')).listen(${port}, '127.0.0.1')`;
    const command = ['sh', '-c', application, server];
    const sidecar = await join_(t, place, 'basket', {
      name,
      application: `127.0.0.1:${port}`,
      command,
      ready: false,
    });
    await sidecar.process.said(/waits until the command listens on /);
    return { sidecar, listen: () => writeFileSync(may, '') };
  };
  const phase = (name: string) => plane.sidecars().find((own) => own.name === name)?.phase;
  const one = await begin('basket-1');
  await until('it is there', () => phase('basket-1') === 'connected');
  const { status, text } = await request(one.sidecar.admin, { path: '/ready' });
  t.is(`${status} ${text}`, '503 the application does not listen yet\n');
  t.is((await ask(web)).status, 503);
  one.listen();
  await one.sidecar.process.said(/^mesh-sidecar: ready$/m);
  t.is((await request(one.sidecar.admin, { path: '/ready' })).status, 200);
  await until('an answer', async () => (await ask(web)).text === 'basket-1');

  const requests = load(web);
  const two = await begin('basket-2');
  await until('it is there', () => phase('basket-2') === 'connected');
  await more(requests);
  two.listen();
  await until('an answer of the second', async () => (await ask(web)).text === 'basket-2');
  await more(requests);
  t.deepEqual((await requests.stop()).bad, []);
});

test('etcd is killed and started again under load: no request fails, no cluster is emptied', async (t) => {
  const etcd = await Etcd.start(t);
  const { plane, place, counts } = await embedded(t, {
    services: {
      web: {},
      basket: { port: 3000, discover: { etcd: { endpoints: etcd.url, prefix: '/mesh/basket/' } } },
    },
  });
  const application = (await httpOrigin(t, tells)).address;
  const one = await join_(t, place, 'basket', { application, name: 'basket-1' });
  const two = await join_(t, place, 'basket', { application, name: 'basket-2' });
  await etcd.put('/mesh/basket/1', one.address);
  const web = await join_(t, place, 'web');
  await until('the first answer', async () => (await ask(web)).status === 200);
  t.is((await ask(web)).text, 'spiffe://mesh.local/ns/default/sa/web');
  const requests = load(web);
  for (let round = 0; round < 2; round += 1) {
    await more(requests);
    await etcd.kill();
    await until('the failure', () => plane.sources().find(({ state }) => state === 'failing'));
    await more(requests);
    await etcd.begin(t);
    await etcd.put('/mesh/basket/2', two.address);
    await until('both', () => counts.at(-1) === 2);
    await more(requests);
    await etcd.remove('/mesh/basket/2');
    await until('one', () => counts.at(-1) === 1);
  }
  t.deepEqual((await requests.stop()).bad, []);
  t.false(counts.includes(0));
});

test('an endpoint of a mesh service has to prove its identity, whatever its source says', async (t) => {
  const { place } = await embedded(
    t,
    { services: { web: {}, basket: { port: 3000 }, thief: { port: 3000 } } },
    {
      discovery: {
        basket: async function* () {
          yield { set: [thief.address] };
        },
      },
    },
  );
  const application = (await httpOrigin(t, tells)).address;
  const thief = await join_(t, place, 'thief', { application });
  const web = await join_(t, place, 'web');
  const answer = await until('the refusal', async () => {
    const asked = await ask(web);
    return asked.status === 502 && asked;
  });
  t.regex(String(answer.headers['proxy-status']), /error=tls_certificate_error; details="upstream_name"/);
  t.is((await ask(web, '/', 'thief')).status, 200);
});

test('sidecars join mesh control by themselves, across its restarts, and leave when they drain', async (t) => {
  const control = new ControlProcess(temporaryFolder(t), `127.0.0.1:${await freePort()}`);
  await control.begin(t);
  t.is(statSync(join(control.folder, '.mesh', 'state')).mode & 0o777, 0o700);
  const application = (await httpOrigin(t, tells)).address;
  const one = await join_(t, control, 'basket', {
    application,
    name: 'basket-1',
    flags: { '--lame-duck': '1s' },
  });
  const web = await join_(t, control, 'web');
  await until('the first answer', async () => (await ask(web)).status === 200);
  await control.says(
    /^audit: spiffe:\/\/mesh\.local\/ns\/default\/sa\/web from .* by token: a certificate, serial/m,
  );
  const requests = load(web);
  for (let round = 0; round < 2; round += 1) {
    await more(requests);
    await until('what is kept', () =>
      readFileSync(join(control.folder, '.mesh', 'state', 'endpoints.json'), 'utf8').includes(one.address),
    );
    await control.process.kill();
    await more(requests);
    await control.begin(t);
    await control.says(/^web: ready/m);
    await control.says(/^basket-1: ready/m);
    await more(requests);
  }
  const odd = await join_(t, control, 'basket', { name: 'odd', ports: `4000=${application}` });
  await control.says(
    /^basket: registered: odd offers port 4000, and basket has 3000; its 1 endpoints serve on$/m,
  );
  const two = await join_(t, control, 'basket', { application, name: 'basket-2' });
  await control.says(/^basket: 3 endpoints/m);
  const three = control.said().length;
  one.process.signal('SIGTERM');
  await control.says(/^basket-1: draining/m, three);
  await one.process.exit;
  await control.says(/^basket: 2 endpoints/m, three);
  await more(requests);
  t.deepEqual((await requests.stop()).bad, []);

  const [finding] = JSON.parse(await control.run('check', '-o', 'json')) as Finding[];
  t.like(finding, { level: 'warning', what: 'odd does not offer port 3000 of basket' });
  t.regex(await control.run('config', 'basket-2'), new RegExp(`inbound: ${two.address}`));
  t.regex(await control.run('edges'), /sa\/web\tbasket\.default:3000/);

  const web_ = 'spiffe://mesh.local/ns/default/sa/web';
  t.is(await control.run('revoke', 'web'), `${web_}: revoked\n`);
  await until('it is not believed', async () => (await ask(web)).status === 502);
  t.is(await control.run('revoke', 'web', '--undo'), `${web_}: believed again\n`);
  await until('it is believed again', async () => (await ask(web)).status === 200);

  writeFileSync(
    join(control.folder, 'mesh.yaml'),
    'services: { web: {}, basket: { port: 3000 } }\npolicies: [{ to: basket, from: basket, allow: true }]\n',
  );
  await control.says(/^applied: /m);
  await until('the policy', async () => (await ask(web)).status === 403);

  const both = control.said().length;
  for (const last of [odd, two]) {
    last.process.signal('SIGTERM');
    await last.process.exit;
  }
  await control.says(/^basket: 0 endpoints/m, both);
  // Revoked, `web` was cut off; it asks again after up to half a minute.
  const isBack = ({ what }: Finding): boolean =>
    !/^no sidecar is connected|is connected and not ready$/.test(what);
  const check = async () => {
    const options = { cwd: control.folder, env: cleanEnvironment() };
    const checked = await run(process.execPath, [MESH, 'check', '-o', 'json'], options);
    const all = JSON.parse(checked.stdout.toString()) as Finding[];
    return all.every(isBack) && { code: checked.code, findings: all };
  };
  const { code, findings } = await until('web is back', check, 2 * PATIENCE_MS);
  // `web` has no endpoints either, and is not missed: it only calls others.
  t.deepEqual(
    findings.map(({ level, what }) => `${level}: ${what}`),
    ['error: basket has no endpoints: calls to it fail'],
  );
  t.is(code, 1);
  control.process.signal('SIGTERM');
  t.deepEqual(await control.process.exit, { code: 0, signal: null });
  t.regex(control.process.stdout().toString(), /^closed$/m);
});

test('policies for a service hold for who answers for it by another identity, whoever names that', async (t) => {
  const identityOf = (name: string): string => `spiffe://mesh.local/ns/default/sa/${name}`;
  const [written, told, other] = [await freePort(), await freePort(), await freePort()];
  const endpoint = (port: number, name: string) => ({
    address: `127.0.0.1:${port}`,
    identity: identityOf(name),
  });
  const config: MeshConfig = {
    services: {
      web: {},
      basket: { port: 3000, discover: { endpoints: [endpoint(written, 'basket-v2')] } },
      cart: { port: 3000 },
    },
    policies: [
      { to: 'basket', deny: 'GET /basket' },
      { to: 'cart', deny: 'GET /cart' },
    ],
  };
  const feed = new EventEmitter();
  const { plane, place } = await embedded(t, config, {
    discovery: {
      cart: async function* (signal) {
        yield { set: [endpoint(told, 'cart-v2')] };
        for await (const [set] of on(feed, 'set', { signal })) yield { set };
      },
    },
  });
  const application = (await httpOrigin(t, tells)).address;
  const ids = { ...place, token: async (name: string) => plane.token(identityOf(name)) };
  await join_(t, ids, 'basket-v2', { application, inbound: written });
  await join_(t, ids, 'cart-v2', { application, inbound: told });
  await join_(t, ids, 'cart-v3', { application, inbound: other });
  await join_(t, ids, 'nobody', { application });
  const web = await join_(t, ids, 'web');
  const strangers = (): string[] => plane.strangers().map(({ name }) => name);
  const statusOf = async (service: string, path: string): Promise<number> =>
    (await ask(web, path, service)).status;
  const isSo = async (service: string): Promise<void> => {
    await until(`${service} answers`, async () => (await statusOf(service, '/')) === 200);
    t.is(await statusOf(service, `/${service}`), 403, service);
    t.is(await statusOf(service, service === 'cart' ? '/basket' : '/cart'), 200, service);
  };
  await isSo('basket');
  await isSo('cart');
  t.deepEqual(strangers().toSorted(), ['cart-v3', 'nobody']);

  // One that the source names later.
  feed.emit('set', [endpoint(other, 'cart-v3')]);
  await until('the other one is known', () => strangers().toSorted().join() === 'cart-v2,nobody');
  // Its callers may hear of it before it hears who may call.
  await until('it is closed', async () => (await statusOf('cart', '/cart')) === 403);
  await isSo('cart');
  // Another file, in which they answer for nobody.
  await plane.apply({ services: { web: {}, basket: { port: 3000 }, cart: { port: 3000 } } });
  await until('all are strange', () => strangers().length === 3);
});

test('nobody is sent to a service by the name of one whose policies that does not go by', async (t) => {
  const identity = 'spiffe://mesh.local/ns/default/sa/basket';
  const inbound = await freePort();
  const mesh = (...to: string[]): MeshConfig => ({
    services: { web: {}, basket: { port: 3000 }, front: { port: 3000 } },
    policies: [{ to, deny: 'GET /secret' }],
  });
  const feed = new EventEmitter();
  const { plane, place } = await embedded(t, mesh('front'), {
    discovery: {
      front: async function* (signal) {
        yield { set: [] };
        for await (const [set] of on(feed, 'set', { signal })) yield { set };
      },
    },
  });
  const told: string[] = [];
  plane.on('source', ({ service, reason }) => {
    if (service === 'front') told.push(reason ?? '');
  });
  const application = (await httpOrigin(t, tells)).address;
  await join_(t, place, 'basket', { application, inbound });
  const web = await join_(t, place, 'web');
  const isSo = (what: string, statuses: string): Promise<boolean> =>
    until(what, async () => {
      const paths = [ask(web, '/', 'front'), ask(web, '/secret', 'front'), ask(web, '/secret', 'basket')];
      return (await Promise.all(paths)).map(({ status }) => status).join(' ') === statuses;
    });
  feed.emit('set', [{ address: `127.0.0.1:${inbound}`, identity }]);
  const reason = `127.0.0.1:${inbound} is not called: no policy for front alone holds for ${identity}`;
  await until('it is told', () => told.includes(reason));
  await isSo('it is not called', '503 503 200');
  await plane.apply(mesh('front', 'basket'));
  await isSo('it goes by the same policies', '200 403 403');
  await plane.apply(mesh('front'));
  await isSo('it does so no more', '503 503 200');
  t.deepEqual(told, [reason, reason]);
});

test('endpoints of the mesh file, and sources of the package in own code', async (t) => {
  const file = join(temporaryFolder(t), 'ledger.yaml');
  writeFileSync(file, '- 127.0.0.1:1\n- 127.0.0.1:2\n');
  const wrapped: Source = async function* (signal) {
    yield* staticSource(['127.0.0.1:3'])(signal);
  };
  const mesh = (...endpoints: string[]): MeshConfig => ({
    services: { basket: { port: 3000, discover: { endpoints } }, ledger: {}, stock: {}, web: {} },
  });
  const discovery = { ledger: fileSource(file), stock: wrapped };
  const { plane, place } = await embedded(t, mesh('127.0.0.1:4'), { discovery });
  const sources = () =>
    plane
      .sources()
      .flatMap(({ service, name, endpoints }) => (service === 'web' ? [] : [[service, name, endpoints]]));
  t.deepEqual(sources(), [
    ['basket', 'endpoints', 1],
    ['ledger', 'own', 2],
    ['stock', 'own', 1],
  ]);
  const application = (await httpOrigin(t, tells)).address;
  const basket = await join_(t, place, 'basket', { application });
  const caller = await join_(t, place, 'web');
  t.is((await ask(caller)).status, 502);
  await plane.apply(mesh(basket.address));
  await until('an answer', async () => (await ask(caller)).status === 200);
});

test('docs/discovery.md: a source of your own in ten lines', async (t) => {
  const folder = temporaryFolder(t);
  const application = (await httpOrigin(t, tells)).address;
  let endpoints: string[] = [];
  const registry = await httpOrigin(t, (_, outgoing) => void outgoing.end(JSON.stringify(endpoints)));
  const ports = new Ports({ 8500: registry.port });
  writeFileSync(join(folder, 'ledger.yaml'), '- 127.0.0.1:1\n');
  const code = (await ports.in(example('docs/discovery.md', 'source'))).replaceAll(
    /'((roots|ledger)\.\w+)'/g,
    (_, file: string) => JSON.stringify(join(folder, file)),
  );
  const running = start(t, process.execPath, ['--input-type=module', '-e', code], {
    env: cleanEnvironment(),
  });
  const token = await until('a token', () => {
    if (running.ended) throw new Error(running.stderr());
    return /^\S+$/m.exec(running.stdout().toString())?.[0];
  });
  const place: Place = {
    control: [`127.0.0.1:${await ports.of('4144')}`],
    trustAnchors: join(folder, 'roots.pem'),
    token: async () => token,
  };
  const basket = await join_(t, place, 'basket', { application });
  const caller = await join_(t, place, 'basket', { name: 'caller' });
  t.is((await ask(caller)).status, 503);
  endpoints = [basket.address];
  await until('an answer', async () => (await ask(caller)).status === 200);
});
