// Is a mesh whole? Real sidecars, a real control plane, real certificates.

import { once } from 'node:events';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import { type Socket, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import type { AuthorizationPolicy } from '../../src/config/resources.js';
import { NameServer } from '../support/name-server.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin, proxyStatus, request, requestInTime } from '../support/http.js';
import { must, run } from '../support/processes.js';
import { until, within } from '../support/wait.js';
import { Mesh, type MeshSidecar, ask, freePort, idOf, load, numberOf } from './support.js';

type Test = Pick<ExecutionContext, 'teardown'>;

const tells: http.RequestListener = (incoming, outgoing) =>
  void outgoing.end(`${incoming.httpVersion} ${incoming.url} ${incoming.headers['x-mesh-peer']}`);

/** `web` calls `basket`. */
async function shop(
  t: Test,
  options: Parameters<typeof Mesh.start>[1] = {},
  application: http.RequestListener = tells,
): Promise<{ mesh: Mesh; basket: MeshSidecar; web: MeshSidecar }> {
  const mesh = await Mesh.start(t, options);
  const origin = await httpOrigin(t, application);
  const basket = await mesh.sidecar(t, 'basket', { ports: `3000=${origin.address}` });
  mesh.serve('basket', [basket.address]);
  const web = await mesh.sidecar(t, 'web');
  return { mesh, basket, web };
}

function allow(
  name: string,
  callers: readonly string[],
  methods: readonly string[] = [],
): AuthorizationPolicy {
  return {
    name,
    targets: [{ kind: 'listener', value: 'inbound' }],
    action: 'allow',
    rules: [
      { from: callers.map((caller) => ({ kind: 'identity', value: idOf(caller) })), methods: [...methods] },
    ],
  };
}

test('a name leads to a workload, whose application is told who calls', async (t) => {
  const { mesh, web } = await shop(t);
  for (const host of ['basket', 'basket:3000', 'basket.shop', 'basket.shop.mesh.test:80']) {
    const { status, text } = await ask(web, '/items', host, { 'x-mesh-peer': idOf('forged') });
    t.is(`${status} ${text}`, `200 1.1 /items ${idOf('web')}`, host);
  }
  const edge = await until('the edge', () =>
    mesh.control.edges().find(({ direction, requests }) => direction === 'outbound' && requests === 4),
  );
  t.like(edge, { identity: idOf('web'), service: 'basket.shop', port: 3000, mtls: true });
  const called = await until('the edge as the called sees it', () =>
    mesh.control.edges().find(({ direction, requests }) => direction === 'inbound' && requests === 4),
  );
  const told = {
    identity: idOf('basket'),
    peer: idOf('web'),
    service: 'basket.shop',
    port: 3000,
    mtls: true,
  };
  t.like(called, told);
  const ends = await numberOf(
    web,
    /^mesh_certificate_expiry_timestamp_seconds\{kind="workload",name="[^"]+"\} (\d+)$/m,
  );
  t.true(ends > Date.now() / 1000 + 3000 && ends < Date.now() / 1000 + 4000);
  t.deepEqual(
    mesh.control.sidecars().map(({ name, phase }) => [name, phase]),
    [
      ['basket', 'ready'],
      ['web', 'ready'],
    ],
  );
});

test('who comes without TLS is nobody, let in or not', async (t) => {
  const { mesh, web, basket } = await shop(t);
  const plain = () => requestInTime(basket.inbound, { headers: { 'x-mesh-peer': idOf('web') } });
  t.is((await plain()).status, 403);
  mesh.protect('basket', [], 'allow');
  await until('the policy', async () => (await plain()).status === 200);
  t.is((await plain()).text, '1.1 / undefined');
  t.is((await ask(web)).status, 200);
  const inbound = () => mesh.control.edges().filter(({ direction }) => direction === 'inbound');
  await until('both edges', () => inbound().some(({ mtls }) => mtls) && inbound().some(({ mtls }) => !mtls));
  t.deepEqual(
    inbound().map(({ peer, mtls, service, port }) => [peer, mtls, service, port]),
    [
      ['', false, 'basket.shop', 3000],
      [idOf('web'), true, 'basket.shop', 3000],
    ],
  );
  const [nobody] = inbound();
  t.true((nobody?.denied ?? 0) > 0 && (nobody?.requests ?? 0) > (nobody?.denied ?? 0));
});

test('HTTP/2 stays HTTP/2, and bytes stay bytes', async (t) => {
  const mesh = await Mesh.start(t);
  const server = http2.createServer((incoming, outgoing) => {
    outgoing.end(`${incoming.httpVersion} ${incoming.url} ${incoming.headers['x-mesh-peer']}`);
  });
  server.listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  await once(server, 'listening');
  const h2 = `127.0.0.1:${(server.address() as { port: number }).port}`;
  const echo = createServer((socket) => socket.on('error', () => {}).pipe(socket)).listen(0, '127.0.0.1');
  t.teardown(() => echo.close());
  await once(echo, 'listening');
  const echoed = `127.0.0.1:${(echo.address() as { port: number }).port}`;
  const ports = `3000=${h2}/http2,5432=${echoed}/tcp`;
  const basket = await mesh.sidecar(t, 'basket', { ports });
  mesh.serve('basket', [basket.address], 3000, 'http2');
  mesh.serve('ledger', [], 5432);
  // The same workload offers both: its other port is called by its own name.
  mesh.control.apply({
    upsert: {
      clusters: [{ name: 'ledger.shop:5432', workload: { serverName: 'p5432.basket.shop.mesh.test' } }],
      endpoints: [
        {
          cluster: 'ledger.shop:5432',
          localities: [{ endpoints: [{ address: basket.address, identity: idOf('basket') }] }],
        },
      ],
    },
  });
  const [plain, bytes] = [await freePort(), await freePort()];
  const web = await mesh.sidecar(t, 'web', {
    flags: { '--forward': `basket:3000=127.0.0.1:${plain},ledger:5432=127.0.0.1:${bytes}/tcp` },
  });
  await web.process.said(/forward:ledger:5432 listens on/);
  await web.process.said(/forward:basket:3000 listens on/);
  const session = http2.connect(`http://127.0.0.1:${plain}`);
  session.on('error', () => {});
  t.teardown(() => session.destroy());
  const stream = session.request({ ':path': '/items' });
  let text = '';
  stream.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  await within('the answer', once(stream, 'end'));
  t.is(text, `2.0 /items ${idOf('web')}`);
  const socket = connect(bytes, '127.0.0.1').on('error', () => {});
  socket.write('hello');
  const [back] = (await within('the echo', once(socket, 'data'))) as [Buffer];
  t.is(back.toString(), 'hello');
  socket.destroy();
});

test('names outside the mesh are passed through, unless only services may be called', async (t) => {
  const mesh = await Mesh.start(t);
  const outside = await httpOrigin(t, (_, outgoing) => void outgoing.end('outside'));
  const open = await mesh.sidecar(t, 'web', { name: 'open' });
  t.is((await ask(open, '/', outside.address)).text, 'outside');
  const series = new RegExp(
    `^mesh_requests_total\\{listener="outbound",route="[^"]*",cluster="${outside.address}",protocol="http1"\\} 1$`,
    'm',
  );
  t.regex((await request(open.admin, { path: '/metrics' })).text, series, 'egress is counted by its host');
  const edge = await until('its edge', () =>
    mesh.control.edges().find(({ service, port }) => `${service}:${port}` === outside.address),
  );
  t.like(edge, { identity: idOf('web'), direction: 'outbound', requests: 1, mtls: false });
  const below = await ask(open, '/', 'nobody.shop.mesh.test');
  t.is(`${below.status} ${proxyStatus(below.headers).details}`, '403 forward_denied', 'the mesh has its own');
  const closed = await mesh.sidecar(t, 'web', { name: 'closed', flags: { '--egress': 'known' } });
  t.is((await ask(closed, '/', outside.address)).status, 403);
  t.is((await ask(closed, '/', 'nobody')).status, 403);
});

test('a port that a service does not declare is refused, also where its name means something outside', async (t) => {
  const mesh = await Mesh.start(t);
  const [inside, outside] = [await httpOrigin(t, tells), await httpOrigin(t, tells)];
  const basket = await mesh.sidecar(t, 'basket', { ports: `3000=${inside.address}` });
  const names = await NameServer.start(t);
  names.host('basket.shop', ['127.0.0.1']);
  const flags = { '--dns-server': names.address };
  const web = await mesh.sidecar(t, 'web', { flags });
  const undeclared = `basket.shop:${outside.port}`;
  t.is((await ask(web, '/', undeclared)).status, 200, 'nobody has such a service');
  mesh.serve('basket', [basket.address]);
  const refused = await until('the service', async () => {
    const answer = await ask(web, '/', undeclared);
    return answer.status !== 200 && answer;
  });
  t.is(`${refused.status} ${proxyStatus(refused.headers).details}`, '403 port_undeclared');
  t.is((await ask(web, '/', 'basket.shop:3000')).status, 200);
  const { requests } = outside;
  const late = await mesh.sidecar(t, 'web', { name: 'late', flags });
  for (const host of [undeclared, `BASKET.shop.:${outside.port}`]) {
    const { status, headers } = await ask(late, '/', host);
    t.is(`${status} ${proxyStatus(headers).details}`, '403 port_undeclared', host);
  }
  t.is(outside.requests, requests);
  t.is((await ask(late, '/', outside.address)).status, 200, 'an address is no name of a service');
  // Nor is one that was declared, and called, once it is not declared any more.
  mesh.control.apply({ delete: { services: ['basket.shop:3000'] } });
  const dropped = await until('the end of the port', async () => {
    const answer = await ask(web, '/', 'basket.shop:3000');
    return answer.status !== 200 && answer;
  });
  t.is(`${dropped.status} ${proxyStatus(dropped.headers).details}`, '403 port_undeclared');
  mesh.remove('basket');
  await until('the end of the service', async () => (await ask(late, '/', undeclared)).status === 200);
});

test('policies decide, a change of them closes what is open, and audit only tells', async (t) => {
  let finish: (() => void) | undefined;
  const { mesh, web, basket } = await shop(t, {}, (incoming, outgoing) => {
    if (incoming.url !== '/slow') return void outgoing.end('done');
    outgoing.write('half');
    finish = () => void outgoing.end('half');
  });
  mesh.protect('basket', [allow('readers', ['web'], ['GET'])]);
  const post = () =>
    request(web.outbound, { method: 'POST', path: 'http://basket/', headers: { host: 'basket' }, body: 'x' });
  await until('the policy', async () => (await post()).status === 403);
  t.is((await ask(web)).status, 200);
  const till = await mesh.sidecar(t, 'till');
  t.is((await ask(till)).status, 403);

  const slow = http.get({
    host: '127.0.0.1',
    port: web.outbound,
    path: 'http://basket/slow',
    headers: { host: 'basket' },
    agent: false,
  });
  const [response] = (await within('the head', once(slow, 'response'))) as [http.IncomingMessage];
  await within('the first half', once(response, 'data'));
  response.on('error', () => {});
  const closed = new Promise<void>((resolve) => {
    response.on('close', resolve);
  });
  mesh.protect('basket', [allow('readers', ['till'])]);
  await within('the end of what is open', closed);
  t.false(response.complete);
  finish?.();
  await until('the other caller', async () => (await ask(till)).status === 200);
  t.is((await ask(web)).status, 403);

  mesh.protect('basket', [{ ...allow('nobody', []), mode: 'audit', rules: [] }]);
  await until('everybody again', async () => (await ask(web)).status === 200);
  await until(
    'what would be denied',
    async () => (await numberOf(basket, /^mesh_policy_audited_total\{.*\} ([1-9]\d*)$/m)) > 0,
  );
});

test('what servers read without its parameters is denied as they read it', async (t) => {
  const { mesh, web } = await shop(t);
  const rules = (...paths: string[]) => [
    { paths: paths.map((value) => ({ kind: 'prefix' as const, value })) },
  ];
  const targets = allow('public', []).targets;
  mesh.protect('basket', [
    { name: 'public', targets, action: 'allow', rules: rules('/pub') },
    { name: 'secret', targets, action: 'deny', rules: rules('/pub/secret') },
  ]);
  await until('the policy', async () => (await ask(web)).status === 403);
  for (const path of ['/pub', '/pub/items;v=1', '/pub/secrets', '/pub/a;b/c'])
    t.is((await ask(web, path)).status, 200, path);
  for (const path of [
    '/pub/secret;a=1',
    '/pub/secret;/x',
    '/pub/;a/secret',
    '/pub/secret%3Ba',
    '/pub;a/secret',
  ])
    t.is((await ask(web, path)).status, 403, path);
});

test('who is revoked is cut off, and gets no certificate', async (t) => {
  const { mesh, web } = await shop(t);
  t.is((await ask(web)).status, 200);
  mesh.control.revoke(idOf('web'));
  await until('the refusal', async () => (await ask(web)).status !== 200);
  await mesh.happened('gone', (event) => (event['sidecar'] as { name: string }).name === 'web');
  const again = await mesh.sidecar(t, 'web', { name: 'again', ready: false });
  await again.process.said(/no certificate.*revoked/);
  t.true(mesh.control.allow(idOf('web')));
  await again.process.said(/^mesh-sidecar: ready$/m);
});

test('a server that is revoked is left, with what is under way, in a tunnel too', async (t) => {
  const { mesh, web, basket } = await shop(t, {}, (incoming, outgoing) => {
    if (incoming.url === '/half') outgoing.write('half');
    else if (incoming.url !== '/silent') outgoing.end('done');
  });
  const port = web.outbound;
  const call = (path: string) =>
    http.get({ host: '127.0.0.1', port, path, headers: { host: 'basket' }, agent: false });
  t.is((await ask(web)).status, 200);
  const half = call('http://basket/half');
  const [response] = (await within('the head', once(half, 'response'))) as [http.IncomingMessage];
  response.on('error', () => {});
  await within('the first half', once(response, 'data'));
  const ended = new Promise<void>((resolve) => {
    response.on('close', resolve);
  });
  const silent = once(call('http://basket/silent'), 'response') as Promise<[http.IncomingMessage]>;
  const through = { host: '127.0.0.1', port, method: 'CONNECT', path: 'basket:3000' };
  const tunnel = http.request({ ...through, headers: { host: 'basket:3000' } }).end();
  const [, socket] = (await within('the tunnel', once(tunnel, 'connect'))) as [unknown, Socket];
  socket.on('error', () => {}).write('GET /half HTTP/1.1\r\nhost: basket\r\n\r\n');
  await within('what is in the tunnel', once(socket, 'data'));
  const closed = new Promise<void>((resolve) => {
    socket.on('close', resolve);
  });
  const open = () =>
    numberOf(web, /^mesh_upstream_connections_active\{cluster="basket\.shop:3000"\} (\d+)$/m);
  await until('all connections', async () => (await open()) >= 3);

  mesh.control.revoke(idOf('basket'));
  await within('the end of a response', ended);
  t.false(response.complete);
  await within('the end of a tunnel', closed);
  const [refused] = await within('an answer', silent);
  t.is(refused.statusCode, 502);
  t.is(proxyStatus(refused.headers).details, 'upstream_certificate: revoked');
  await until('no connection is left', async () => (await open()) === 0);
  const reasons = /^mesh_responses_total\{.*class="5xx",reason="upstream_certificate"\} (\d+)$/m;
  await until('the reason', async () => (await numberOf(web, reasons)) > 0);
  t.is((await ask(web)).status, 502);
  t.is((await request(basket.admin, { path: '/live' })).status, 200);
});

test('a token opens once, for its own identity', async (t) => {
  const mesh = await Mesh.start(t);
  const token = mesh.token('web');
  await mesh.sidecar(t, 'web', { token });
  const late = await mesh.sidecar(t, 'web', { token, name: 'late', ready: false });
  await late.process.said(/no certificate.*token_unknown/);
  const thief = await mesh.sidecar(t, 'till', { token: mesh.token('web'), ready: false });
  await thief.process.said(/no certificate.*token_other_identity/);
  const audits = mesh.events.filter(({ kind }) => kind === 'audit');
  t.is(audits.filter(({ refused }) => refused === null).length, 1);
});

test('TypeScript decides who gets a certificate', async (t) => {
  const asked: string[] = [];
  const mesh = await Mesh.start(t, {
    decide: ({ identity, proof }) => {
      asked.push(`${identity} ${proof}`);
      return identity.endsWith('/web') ? { allow: true } : { allow: false, reason: 'not today' };
    },
  });
  await mesh.sidecar(t, 'web');
  const till = await mesh.sidecar(t, 'till', { ready: false });
  await till.process.said(/no certificate.*not today/);
  t.deepEqual(asked.slice(0, 2).sort(), [`${idOf('till')} token`, `${idOf('web')} token`]);
});

test('openssl sees TLS 1.3 with one SPIFFE id, and is let in with no certificate of its own or a strange one', async (t) => {
  const { basket, mesh } = await shop(t);
  const folder = temporaryFolder(t);
  const [certificate, key] = [join(folder, 'c.pem'), join(folder, 'k.pem')];
  const san = `subjectAltName=URI:${idOf('web')}`;
  const make = `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=x -addext ${san}`;
  await must('openssl', [...make.split(' '), '-keyout', key, '-out', certificate]);
  const call = `s_client -connect ${basket.address} -servername p3000.basket.shop.mesh.test -alpn mesh/h1 -ign_eof`;
  const client = (more: readonly string[]) =>
    run('openssl', [...call.split(' '), '-CAfile', join(mesh.folder, 'roots.pem'), ...more], {
      input: 'GET / HTTP/1.1\r\nhost: basket\r\nconnection: close\r\n\r\n',
    });
  const nobody = await client([]);
  t.regex(nobody.stdout.toString(), /TLSv1\.3/);
  t.notRegex(nobody.stdout.toString(), /HTTP\/1\.1 200/);
  t.regex(nobody.stderr + nobody.stdout.toString(), /certificate required/);
  const strange = await client(['-cert', certificate, '-key', key]);
  t.notRegex(strange.stdout.toString(), /HTTP\/1\.1 200/);
  const old = await client(['-tls1_2']);
  t.notRegex(old.stdout.toString(), /HTTP\/1\.1 200/);
  const rejected = (name: string): Promise<number> =>
    numberOf(basket, new RegExp(`^mesh_identity_rejections_total\\{.*rejection="${name}".*\\} (\\d+)$`, 'm'));
  let counts: number[] = [];
  await until('the reasons', async () => {
    counts = [
      await rejected('no_certificate'),
      await rejected('authority_as_workload'),
      await rejected('tls_version'),
    ];
    return counts.every((count) => count === 1);
  }).catch((error: unknown) => t.fail(`${String(error)}: ${counts.join(', ')}`));
  const shown = await run('openssl', ['x509', '-noout', '-ext', 'subjectAltName'], {
    input: /-----BEGIN[\s\S]*?END CERTIFICATE-----/.exec(nobody.stdout.toString())?.[0] ?? '',
  });
  t.regex(shown.stdout.toString(), new RegExp(`URI:${idOf('basket')}\\s*$`));
});

test('endpoints come and go ten times a second, and no request fails', async (t) => {
  const { mesh, web, basket } = await shop(t);
  const origin = await httpOrigin(t, tells);
  const other = await mesh.sidecar(t, 'basket', { name: 'basket-2', ports: `3000=${origin.address}` });
  const requests = load(web);
  for (let change = 0; change < 30; change++) {
    mesh.serve('basket', change % 2 === 0 ? [basket.address, other.address] : [basket.address]);
    await setTimeout(100);
  }
  const { good, bad } = await requests.stop();
  t.deepEqual(bad, []);
  t.true(good > 0 && origin.requests > 0);
});

test('a sidecar that goes says so, and what was called last', async (t) => {
  // Its reports come every minute: only what it tells at its end can be there in time.
  const { mesh, web } = await shop(t, { telemetryIntervalMs: 60_000 });
  t.is((await ask(web)).status, 200);
  web.process.signal('SIGTERM');
  t.deepEqual(await web.process.exit, { code: 0, signal: null });
  await mesh.happened('gone');
  const told = mesh.events.filter(({ kind }) => kind === 'draining' || kind === 'gone');
  t.deepEqual(
    told.map(({ kind, ...details }) => [kind, (details['sidecar'] as { name: string }).name]),
    [
      ['draining', 'web'],
      ['gone', 'web'],
    ],
  );
  t.like(
    mesh.control.edges().find(({ identity }) => identity === idOf('web')),
    { service: 'basket.shop', requests: 1 },
  );
});

test('issuers and roots are replaced, and no request fails', async (t) => {
  const { mesh, web } = await shop(t, { certificateTtlMs: 60_000 });
  const requests = load(web);
  mesh.control.rotateIssuer();
  mesh.control.rotateRoot();
  await mesh.happened('rotated', (event) => (event['changes'] as string[]).includes('rootAnnounced'));
  const late = await mesh.sidecar(t, 'till');
  t.is((await ask(late)).status, 200);
  const before = requests.good();
  await until('more requests', () => requests.good() > before + 50);
  t.deepEqual((await requests.stop()).bad, []);
});

test('the control plane goes and comes back, and no request fails', async (t) => {
  const stateDir = temporaryFolder(t);
  const { mesh, web, basket } = await shop(t, { stateDir });
  t.is(statSync(stateDir).mode & 0o777, 0o700);
  const requests = load(web);
  await until('requests', () => requests.good() > 20);
  const [listen = ''] = mesh.control.addresses;
  await mesh.control.close();
  await web.process.said(/the control plane is gone/);
  const before = requests.good();
  await until('requests without a control plane', () => requests.good() > before + 50);
  mesh.events.length = 0;
  await mesh.open(listen);
  mesh.serve('basket', [basket.address]);
  await mesh.happened('ready', (event) => (event['sidecar'] as { name: string }).name === 'web');
  await mesh.happened('ready', (event) => (event['sidecar'] as { name: string }).name === 'basket');
  const after = requests.good();
  await until('requests afterwards', () => requests.good() > after + 50);
  t.deepEqual((await requests.stop()).bad, []);
});

test('who was revoked stays so when the control plane starts again', async (t) => {
  const stateDir = temporaryFolder(t);
  const { mesh, web, basket } = await shop(t, { stateDir });
  mesh.control.revoke(idOf('web'));
  const [listen = ''] = mesh.control.addresses;
  await mesh.control.close();
  t.is(statSync(join(stateDir, 'denied.json')).mode & 0o777, 0o600);
  await mesh.open(listen);
  mesh.serve('basket', [basket.address]);
  await mesh.happened('ready', (event) => (event['sidecar'] as { name: string }).name === 'basket');
  t.not((await ask(web)).status, 200);
  t.true(mesh.control.allow(idOf('web')));
  await until('belief again', async () => (await ask(web)).status === 200);
});

/** For how long it has not heard of its control plane. */
const silence = (sidecar: MeshSidecar): Promise<number> =>
  numberOf(sidecar, /^mesh_control_plane_silence_seconds (\d+)$/m);

test('a service may have any name: none leads a workload to itself', async (t) => {
  const mesh = await Mesh.start(t);
  const [own, other] = [await httpOrigin(t, tells), await httpOrigin(t, tells)];
  const basket = await mesh.sidecar(t, 'basket', { ports: `3000=${other.address}` });
  const web = await mesh.sidecar(t, 'web', { ports: `3000=${own.address}` });
  t.true((await ask(web, '/', 'application:3000')).status >= 500, 'no name server knows it');
  mesh.serve('application', [basket.address], 3000, 'auto', 'basket');
  await until('the service', async () => (await ask(web, '/', 'application:3000')).status === 200);
  t.deepEqual([own.requests, other.requests], [0, 1]);
});

test('a workload calls its own service by name, as a caller among others', async (t) => {
  const mesh = await Mesh.start(t);
  const origin = await httpOrigin(t, tells);
  const web = await mesh.sidecar(t, 'web', { ports: `3000=${origin.address}` });
  mesh.serve('web', [web.address]);
  const { status, text } = await ask(web, '/', 'web');
  t.is(status, 200, text);
  t.true(text.includes(idOf('web')), text);
  // What is no call of a workload still leads nowhere.
  const { outbound, inbound } = web;
  for (const port of [outbound, inbound]) t.is((await ask(web, '/', `127.0.0.1:${port}`)).status, 508);
});

test('roots that the operator gives go before those that were kept', async (t) => {
  const [before, after] = [await Mesh.start(t), await Mesh.start(t)];
  const state = join(temporaryFolder(t), 'state');
  const flags = { '--state-dir': state };
  const first = await before.sidecar(t, 'web', { flags });
  await first.process.kill();
  await before.control.close();
  const origin = await httpOrigin(t, tells);
  const basket = await after.sidecar(t, 'basket', { ports: `3000=${origin.address}` });
  after.serve('basket', [basket.address]);
  const web = await after.sidecar(t, 'web', { flags });
  t.regex(web.process.stderr(), /kept is of no use.*other roots than those of --trust-anchors/);
  t.notRegex(web.process.stderr(), /serving what was kept/);
  t.is((await ask(web)).status, 200);
  await web.process.kill();
  const again = await after.sidecar(t, 'web', { flags, token: '/nonexistent' });
  t.regex(again.process.stderr(), /serving what was kept/);
});

test('a sidecar is not ready before what it serves is kept', async (t) => {
  const mesh = await Mesh.start(t);
  const state = join(temporaryFolder(t), 'state');
  const sees = `test -s ${join(state, 'configuration.json')} && echo kept || echo lost; exec sleep 60`;
  const web = await mesh.sidecar(t, 'web', { flags: { '--state-dir': state }, command: ['sh', '-c', sees] });
  // The command is started when it is ready.
  t.is(await until('what the command sees', () => web.process.stdout().toString() || undefined), 'kept\n');
});

test('what was kept serves after a restart without a control plane', async (t) => {
  const mesh = await Mesh.start(t);
  const origin = await httpOrigin(t, tells);
  const basket = await mesh.sidecar(t, 'basket', { ports: `3000=${origin.address}` });
  mesh.serve('basket', [basket.address]);
  const state = join(temporaryFolder(t), 'state');
  const first = await mesh.sidecar(t, 'web', { flags: { '--state-dir': state } });
  t.is((await ask(first)).status, 200);
  await until('what is kept', () =>
    readFileSync(join(state, 'configuration.json'), 'utf8').includes('basket:80'),
  );
  t.is(statSync(join(state, 'identity.json')).mode & 0o777, 0o600);
  await first.process.kill();
  await mesh.control.close();
  // It was heard of last an hour ago.
  const file = join(state, 'configuration.json');
  const kept = JSON.parse(readFileSync(file, 'utf8')) as { heardAt: number };
  t.true(Math.abs(kept.heardAt - Date.now() / 1000) < 3600);
  writeFileSync(file, JSON.stringify({ ...kept, heardAt: kept.heardAt - 3600 }));
  const again = await mesh.sidecar(t, 'web', { flags: { '--state-dir': state }, token: '/nonexistent' });
  t.is((await ask(again)).status, 200);
  await until('the age of what it serves', async () => (await silence(again)) >= 3600);
  await again.process.kill();
  writeFileSync(file, '{');
  const odd = await mesh.sidecar(t, 'web', {
    flags: { '--state-dir': state },
    token: '/nonexistent',
    ready: false,
  });
  await odd.process.said(/^mesh-sidecar: error: the configuration that was kept can't be read: /m);
});
