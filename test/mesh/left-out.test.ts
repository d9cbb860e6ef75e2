// Does one bad name, cluster or address keep anything else from a sidecar, and is it told?

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import type { ControlEvent } from '../../src/mesh/control-plane.js';
import { Authority } from '../support/certificates.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin, proxyStatus } from '../support/http.js';
import { run } from '../support/processes.js';
import { cleanEnvironment } from '../support/sidecar.js';
import { until } from '../support/wait.js';
import { Mesh, type MeshSidecar, ask, freePort, idOf, startMeshSidecar } from './support.js';

type Test = Parameters<typeof Mesh.start>[0];

/** `web` calls `basket`, which calls others, too. */
async function shop(t: Test): Promise<{ mesh: Mesh; basket: MeshSidecar; web: MeshSidecar }> {
  const mesh = await Mesh.start(t);
  const origin = await httpOrigin(t);
  const basket = await mesh.sidecar(t, 'basket', { ports: `3000=${origin.address}` });
  mesh.serve('basket', [basket.address]);
  const web = await mesh.sidecar(t, 'web');
  await until('basket answers', async () => (await ask(web)).status === 200);
  return { mesh, basket, web };
}

/** Basket hears of a policy, and of a service that is new. */
async function takesWhatComes(
  t: Test & { is(a: unknown, b: unknown, message?: string): unknown },
  { mesh, basket, web }: Awaited<ReturnType<typeof shop>>,
): Promise<void> {
  mesh.serve('later', [basket.address], 3000, 'auto', 'basket');
  t.is((await ask(basket, '/', 'later')).status, 200, 'a name that is new');
  mesh.protect('basket', [], 'deny');
  await until('nobody may call basket', async () => (await ask(web)).status === 403);
}

/** Makes a name known that leads to a cluster. */
function lead(
  mesh: Mesh,
  name: string,
  cluster: Record<string, unknown> & { name: string },
  address: string,
): void {
  mesh.control.apply({
    upsert: {
      routeTables: [
        {
          name: cluster.name,
          virtualHosts: [
            { hosts: ['*'], routes: [{ action: { kind: 'forward', to: [{ cluster: cluster.name }] } }] },
          ],
        },
      ],
      clusters: [cluster],
      endpoints: [{ cluster: cluster.name, localities: [{ endpoints: [{ address }] }] }],
      services: [{ name, routeTable: cluster.name }],
    },
  });
}

const nacksOf = (event: ControlEvent) =>
  event['nacks'] as { resource: string; name: string; reason: string }[];

const ODD = [
  'api.v1.2',
  'host:0',
  '10.0.0.1:0',
  '[::1]:0',
  '0.0.0.0',
  '[::]',
  '224.0.0.1',
  '127.1',
  '1',
  'a.123',
  '-a.test',
  'a-.test',
  `${'a'.repeat(64)}.test`,
  `${'a.'.repeat(125)}test`,
];

test('whatever an application calls, its sidecar takes what comes', async (t) => {
  const all = await shop(t);
  const asked = ODD.map(async (host) => [host, (await ask(all.basket, '/', host)).status] as const);
  for (const [host, status] of await Promise.all(asked))
    t.true([400, 403].includes(status), `${host}: ${status}`);
  await takesWhatComes(t, all);
});

test('a name that can not be in force is left out and told; the rest is', async (t) => {
  const all = await shop(t);
  const { mesh, basket } = all;
  // A name that no route table can have.
  mesh.control.apply({ upsert: { services: [{ name: "it's:80", routeTable: 'basket.shop:3000' }] } });
  const { status, headers } = await ask(basket, '/', "it's");
  t.is(status, 503);
  t.is(proxyStatus(headers).details, 'config_refused');
  const told = await mesh.happened('nack', (event) => event['node'] === 'basket');
  t.like(nacksOf(told)[0], { resource: 'mesh.Name', name: "it's:80" });
  await takesWhatComes(t, all);
  const seen = () => mesh.control.sidecars().find(({ name }) => name === 'basket');
  t.is(seen()?.nacks.length, 1);
  mesh.control.apply({ delete: { services: ["it's:80"] } });
  await until('it is told no more', () => seen()?.nacks.length === 0);
});

test('without roots of the system, a server that is judged by them fails alone', async (t) => {
  const mesh = await Mesh.start(t);
  const origin = await httpOrigin(t);
  const env = ['env', 'SSL_CERT_FILE=/none', 'SSL_CERT_DIR=/none'] as const;
  const basket = await startMeshSidecar(t, {
    identity: idOf('basket'),
    name: 'basket',
    control: mesh.control.addresses,
    trustAnchors: join(mesh.folder, 'roots.pem'),
    token: mesh.token('basket'),
    ports: `3000=${origin.address}`,
    under: env,
    flags: { '--with-parent': String(process.pid) },
  });
  mesh.serve('basket', [basket.address]);
  const web = await mesh.sidecar(t, 'web');
  lead(
    mesh,
    'billing:80',
    { name: 'billing', tls: { serverName: 'billing.test' } },
    `127.0.0.1:${await freePort()}`,
  );
  const { status, headers } = await ask(basket, '/', 'billing');
  t.is(status, 503);
  t.is(proxyStatus(headers).details, 'config_refused');
  const told = await mesh.happened('nack', (event) => event['node'] === 'basket');
  t.like(nacksOf(told)[0], { name: 'billing' });
  t.regex(nacksOf(told)[0]?.reason ?? '', /tls\.roots: the system has no root certificates/);
  await takesWhatComes(t, { mesh, basket, web });
});

test('roots that are none are refused by the control plane', async (t) => {
  const mesh = await Mesh.start(t);
  const rubbish = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
  const authority = await Authority.create(t);
  for (const roots of [rubbish, `${readFileSync(authority.root, 'utf8')}${rubbish}`]) {
    const cluster = { name: 'billing', tls: { serverName: 'billing.test', roots } };
    t.throws(() => lead(mesh, 'billing:80', cluster, '127.0.0.1:1'), {
      message: /clusters\[0\]\.tls\.roots: .*certificate [12] of the inline PEM can't be a root/s,
    });
  }
});

test('roots that are none are told by mesh validate, where they were written', async (t) => {
  const folder = temporaryFolder(t);
  const authority = await Authority.create(t);
  const good = readFileSync(authority.root, 'utf8');
  const rubbish = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
  const file = join(folder, 'mesh.yaml');
  const validate = async (...more: string[]) => {
    const main = join(process.cwd(), 'dist', 'cli', 'main.js');
    const { code, stderr } = await run(process.execPath, [main, 'validate', file, ...more], {
      env: cleanEnvironment(),
    });
    return { code, stderr: stderr.toString() };
  };
  writeFileSync(
    file,
    `services:
  web: { port: 3000 }
  open: { address: 127.0.0.1:1, tls: { serverName: open.test } }
  good: { address: 127.0.0.1:1, tls: { serverName: good.test, roots: good.pem } }
  bad:
    address: 127.0.0.1:1
    tls:
      serverName: bad.test
      roots: bad.pem
`,
  );
  writeFileSync(join(folder, 'good.pem'), good);
  for (const [text, reason] of [
    [good + rubbish, /certificate 2 of .*bad\.pem.* can't be a root/],
    ['rubbish', /bad\.pem.* holds no certificate/],
  ] as const) {
    writeFileSync(join(folder, 'bad.pem'), text);
    const { code, stderr } = await validate();
    t.is(code, 64);
    t.regex(stderr, reason);
    t.regex(stderr, /mesh\.yaml:9:\d+/);
    t.regex(stderr, /services\.bad\.tls\.roots/);
    t.is((await validate('--no-files')).code, 0);
  }
  writeFileSync(join(folder, 'bad.pem'), good);
  t.is((await validate()).code, 0);
});

test('an address that a route leads to is called by the application as well', async (t) => {
  for (const first of ['maint', 'itself']) {
    const all = await shop(t);
    const origin = await httpOrigin(t);
    const hosts = { maint: 'maint', itself: origin.address };
    lead(all.mesh, 'maint:80', { name: origin.address }, origin.address);
    for (const which of [first, 'maint', 'itself'] as ('maint' | 'itself')[]) {
      t.is((await ask(all.basket, '/', hosts[which])).status, 200, `${which}, ${first} first`);
    }
    await takesWhatComes(t, all);
  }
});
