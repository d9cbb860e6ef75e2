// Do the meshes of the manual work as it says: by hand, across machines, with policies and revocations? One at a time: each
// is half a dozen programs.

import { chmodSync, copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { createControlPlane } from '../../src/index.js';
import type { SidecarStatus } from '../../src/mesh/admin/types.js';
import { Etcd } from '../discovery/support.js';
import { MeshUp } from '../mesh/command.js';
import { type MeshSidecar, ask, startMeshSidecar } from '../mesh/support.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin, request } from '../support/http.js';
import type { Running } from '../support/processes.js';
import { until } from '../support/wait.js';
import { Ports, Shell, example, page, printed } from './support.js';

const SERVICES = 'services: { web: {}, basket: { port: 3000 } }\n';
const WEB = 'spiffe://mesh.local/ns/default/sa/web';
const PROGRAMS = {
  'web.mjs': example('docs/mesh.md', 'web.mjs'),
  'basket.mjs': example('docs/mesh.md', 'basket.mjs'),
};

/** Starts `mesh control`, and puts the roots where the manual's sidecars look for them. */
async function control(shell: Shell, command: string): Promise<Running> {
  const running = await shell.stay(command);
  await printed(running, /the control plane listens on/);
  await shell.type('cp .mesh/state/roots.pem .');
  return running;
}

/** A sidecar of `web`, which calls the others. */
async function caller(t: ExecutionContext, shell: Shell, ...where: string[]): Promise<MeshSidecar> {
  await shell.type('mesh token web > web.token');
  return startMeshSidecar(t, {
    identity: WEB,
    name: 'web',
    control: await Promise.all(where.map((each) => shell.ports.in(each))),
    trustAnchors: join(shell.folder, 'roots.pem'),
    token: join(shell.folder, 'web.token'),
  });
}

/** A server in a file, which listens on the port that the manual calls 3000. */
async function writeServer(shell: Shell, name: string): Promise<void> {
  shell.env['PORT'] = String(await shell.ports.of('3000'));
  await shell.write(name, PROGRAMS['basket.mjs']);
}

/** What `basket` says, once it is known. */
const answered = (sidecar: MeshSidecar): Promise<string> =>
  until('basket answers', async () => {
    const { status, text } = await ask(sidecar, '/items');
    return status === 200 && text;
  });

test.serial('docs/discovery.md: a control plane alone, and a sidecar that joins it', async (t) => {
  const etcd = await Etcd.start(t);
  const shell = await Shell.open(t, new Ports({ 2379: Number(new URL(etcd.url).port) }));
  await shell.write('mesh.yaml', example('docs/discovery.md', 'mesh.yaml'));
  for (const name of ['ledger.yaml', 'legacy.yaml']) await shell.write(name, '- 127.0.0.1:5432\n');
  const [serve = '', token = ''] = example('docs/discovery.md', 'control').trim().split('\n');
  await control(shell, serve);
  await shell.type(token);
  await writeServer(shell, 'basket.mjs');
  await shell.write('basket', '#!/bin/sh\nexec node basket.mjs\n');
  chmodSync(join(shell.folder, 'basket'), 0o755);
  await (await shell.stay(example('docs/discovery.md', 'sidecar'))).said(/^mesh-sidecar: ready$/m);
  t.is(await answered(await caller(t, shell, '10.0.0.5:4144')), `three items for ${WEB}`);
});

test.serial('docs/discovery.md: an issuer of yours signs, without the key of its root', async (t) => {
  const application = await httpOrigin(t, (_, outgoing) => void outgoing.end('here'));
  const shell = await Shell.open(t, new Ports({ 3000: application.port }));
  await shell.type(example('docs/discovery.md', 'issuer'));
  await shell.type('mv root.key elsewhere');
  await shell.write('issuer.yaml', example('docs/discovery.md', 'issuer.yaml'));
  await control(shell, 'mesh control issuer.yaml --listen 10.0.0.5:4144');
  t.is(await shell.type('cat roots.pem'), await shell.type('cat root.crt'));
  await shell.type('mesh token basket > token');
  const sidecar = example('docs/discovery.md', 'sidecar').replace(/ -- .*/, '');
  await (await shell.stay(sidecar)).said(/^mesh-sidecar: ready$/m);
  t.is(await answered(await caller(t, shell, '10.0.0.5:4144')), 'here');
});

test.serial('docs/discovery.md: two control planes over one etcd, of which one dies', async (t) => {
  const etcd = await Etcd.start(t);
  const application = await httpOrigin(t, (_, outgoing) => void outgoing.end('here'));
  const ports = new Ports({ 2379: Number(new URL(etcd.url).port), 3000: application.port });
  const [one, other] = [await Shell.open(t, ports), await Shell.open(t, ports)];
  for (const shell of [one, other]) {
    await shell.write('shared.yaml', example('docs/discovery.md', 'shared.yaml'));
  }
  const [key = '', serve = ''] = example('docs/discovery.md', 'one').trim().split('\n');
  await one.type(key);
  copyFileSync(join(one.folder, 'operator.key'), join(other.folder, 'operator.key'));
  const first = await control(one, serve);
  await control(other, example('docs/discovery.md', 'other'));
  await other.type('mesh token basket > token');
  const alone = '--control 10.0.0.5:4144';
  const both = '10.0.0.5:4144,10.0.0.6:4144';
  const sidecar = example('docs/discovery.md', 'sidecar').replace(alone, `--control ${both}`);
  await (await other.stay(sidecar.replace(/ -- .*/, ''))).said(/^mesh-sidecar: ready$/m);
  const web = await caller(t, other, ...both.split(','));
  t.is(await answered(web), 'here');
  await first.kill();
  await until('both are at the other one', async () => {
    // It fails as long as something is wrong.
    const sidecars = await other.type('mesh check 2>&1 || true');
    return !/left without a word|no sidecar/.test(sidecars);
  });
  t.is(await answered(web), 'here');
});

test.serial('docs/sidecar.md: a workload by hand', async (t) => {
  const application = await httpOrigin(t, (_, outgoing) => void outgoing.end('here'));
  const outside = await httpOrigin(t, (_, outgoing) => void outgoing.end('outside'));
  const shell = await Shell.open(t, new Ports({ 41000: application.port, 3000: outside.port }));
  await shell.write('mesh.yaml', SERVICES);
  await control(shell, 'mesh control --listen 127.0.0.1:4144');
  await shell.type('mesh token basket > token');
  await (await shell.stay(example('docs/sidecar.md', 'workload'))).said(/^mesh-sidecar: ready$/m);
  t.is(await answered(await caller(t, shell, '127.0.0.1:4144')), 'here');
  // A proxy for its own calls too.
  t.is(await shell.type('curl -sS -x http://127.0.0.1:4140 http://127.0.0.1:3000/'), 'outside');
});

test.serial('docs/image.md: the program beside an application, told the rest by variables', async (t) => {
  const shell = await Shell.open(t);
  await shell.write('mesh.yaml', SERVICES);
  await control(shell, 'mesh control --listen 127.0.0.1:4144');
  await shell.type('mesh token basket > token');
  await writeServer(shell, 'server.mjs');
  Object.assign(shell.env, {
    MESH_CONTROL: await shell.ports.in('127.0.0.1:4144'),
    MESH_TRUST_ANCHORS: 'roots.pem',
    MESH_TOKEN_FILE: 'token',
    MESH_IDENTITY: 'spiffe://mesh.local/ns/default/sa/basket',
    MESH_INBOUND: await shell.ports.in('127.0.0.1:4143'),
  });
  const [, entry = ''] = /^ENTRYPOINT (.*)$/m.exec(example('docs/image.md', 'Containerfile')) ?? [];
  const words = JSON.parse(entry) as string[];
  await (await shell.stay(words.join(' '))).said(/^mesh-sidecar: ready$/m);
  t.is(await answered(await caller(t, shell, '127.0.0.1:4144')), `three items for ${WEB}`);
});

/** A `web` that asks `basket` what it is asked itself, but for how it is. */
const ASKS = `
import http from 'node:http';
http.createServer(async ({ method, url }, response) => {
  if (url === '/healthz') return void response.end();
  const answer = await fetch('http://basket' + url, { method });
  response.writeHead(answer.status).end(await answer.text());
}).listen(process.env.PORT, '127.0.0.1');
`;

/** A mesh that runs, and the port of its `web`. */
async function up(t: ExecutionContext, mesh: string, files: Record<string, string>) {
  const running = MeshUp.start(t, mesh, { files: { ...PROGRAMS, ...files } });
  await running.allReady();
  const { application = '' } = await running.line(
    'web is ready',
    ({ copy = '', application: at }) => copy.startsWith('web') && at !== undefined,
  );
  return { running, port: Number(application.split(':')[1]) };
}

test.serial('docs/mesh-file.md: what no route takes goes to the service itself', async (t) => {
  const mesh = example('docs/mesh-file.md', 'mesh.yaml');
  const { running, port } = await up(t, mesh, { 'web.mjs': ASKS });
  t.is((await request(port, { path: '/items' })).status, 200);
  // It has come to basket, which allows nobody to do that.
  const slow = await request(port, { path: '/slow/items' });
  t.deepEqual([slow.status, slow.text.trim()], [403, 'Denied by policy.']);
  t.deepEqual((await running.json<SidecarStatus>('config', 'web-1')).nacks, []);
});

test.serial('docs/policy.md: what its rules allow and deny', async (t) => {
  const { port } = await up(t, example('docs/policy.md', 'mesh.yaml'), { 'web.mjs': ASKS });
  const asked = async (method: string, path: string) => (await request(port, { method, path })).status;
  t.is(await asked('GET', '/items'), 200);
  for (const [method, path] of [
    ['POST', '/items'],
    ['GET', '/admin'],
    ['POST', '/admin'],
  ] as const) {
    t.is(await asked(method, path), 403, `${method} ${path}`);
  }
});

test.serial('docs/policy.md: a policy that is tried says what the page says', async (t) => {
  const { running, port } = await up(t, example('docs/policy.md', 'audit.yaml'), { 'web.mjs': ASKS });
  const told = (what: RegExp) =>
    running.process
      .stdout()
      .toString()
      .split('\n')
      .filter((line) => what.test(line))
      .map((line) => (JSON.parse(line) as { text: string }).text);
  const steady = (line: string): string => line.replace(/unsaid=\d+/, 'unsaid=N');
  const [would = '', was = ''] = example('docs/policy.md', 'log').trim().split('\n');
  t.is((await request(port, { method: 'POST', path: '/items' })).status, 200);
  t.deepEqual(await until('the first line', () => some(told(/would be denied/))), [would]);
  const denied = await until('a line for several', async () => {
    t.is((await request(port, { path: '/admin' })).status, 403);
    return some(told(/was denied.*unsaid=/));
  });
  t.is(steady(denied[0] ?? ''), steady(was));
});

const some = <T>(list: T[]): T[] | undefined => (list.length > 0 ? list : undefined);

test.serial('docs/identity.md: a revocation, of an identity and of a certificate, and its end', async (t) => {
  const { running, port } = await up(t, example('docs/mesh.md', 'mesh.yaml'), {});
  const answers = (status: number) =>
    until(`web answers ${status}`, async () => (await request(port)).status === status);
  await answers(200);
  const told = (await running.mesh('config', 'basket-1')).stdout.toString();
  const serial = /^serial number: (\S+)$/m.exec(told)?.[1] ?? '';
  const commands = example('docs/identity.md', 'revoke').trim().split('\n');
  t.is(commands.length, 4);
  for (const command of commands) {
    const [, ...args] = command.replace('4f1c09a2b7', serial).split(' ');
    const { code, stderr } = await running.mesh(...args);
    t.deepEqual([code, stderr], [0, '']);
    await answers(command.endsWith('--undo') ? 200 : 502);
  }
  t.pass();
});

test.serial('docs/identity.md: a decision is told by the event that it names', async (t) => {
  const text = page('docs/identity.md').replaceAll('\n', ' ');
  const [, event = '', kind = ''] = /each decision is an event `(\w+)` with `kind: '(\w+)'`/.exec(text) ?? [];
  const plane = createControlPlane({ services: { web: {} } }, { listen: '127.0.0.1:0' });
  t.teardown(() => plane.close());
  const kinds = new Set<string>();
  plane.on(event as 'control', (told) => kinds.add(told.kind));
  const addresses = await plane.listen();
  const folder = temporaryFolder(t);
  const [trustAnchors, token] = [join(folder, 'roots.pem'), join(folder, 'token')];
  writeFileSync(trustAnchors, plane.roots());
  writeFileSync(token, await plane.token('web'), { mode: 0o600 });
  await startMeshSidecar(t, {
    identity: 'spiffe://mesh.local/ns/default/sa/web',
    control: addresses,
    trustAnchors,
    token,
  });
  t.true(kinds.has(kind), [...kinds].join());
});
