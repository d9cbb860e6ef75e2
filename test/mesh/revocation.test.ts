// Is who was revoked believed no more, and for how long does a sidecar know of it?

import { once } from 'node:events';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import tls from 'node:tls';
import test from 'ava';
import { MeshError } from '../../src/errors.js';
import { temporaryFolder } from '../support/files.js';
import { http2Origin, httpOrigin, proxyStatus, request } from '../support/http.js';
import { connect, tcpServer } from '../support/tcp.js';
import { PATIENCE_MS, until } from '../support/wait.js';
import { Mesh, type MeshSidecar, ask, freePort, idOf, numberOf } from './support.js';

/** Handshakes with the revoked that a sidecar has refused. */
const REFUSED = /^mesh_identity_rejections_total\{.*rejection="revoked".*\} (\d+)$/m;

/** Servers that did not believe it. */
const REFUSED_BY = /^mesh_upstream_identity_rejections_total\{.*rejection="refused_by_peer".*\} (\d+)$/m;

/** The serial number of what a sidecar shows, which it tells its control plane a moment after it is ready. */
const serialOf = (mesh: Mesh, sidecar: string): Promise<string> =>
  until(`the serial number of ${sidecar}`, () => {
    const { certificateSerial } = mesh.control.sidecars().find(({ name }) => name === sidecar) ?? {};
    return certificateSerial ?? undefined;
  });

test('by serial number: the caller of that certificate is refused, another of its identity is not', async (t) => {
  const mesh = await Mesh.start(t);
  const origin = await httpOrigin(t, (incoming, outgoing) => {
    if (incoming.url !== '/silent') outgoing.end();
  });
  const basket = await mesh.sidecar(t, 'basket', { ports: `3000=${origin.address}` });
  mesh.serve('basket', [basket.address]);
  const one = await mesh.sidecar(t, 'web', { name: 'one' });
  const two = await mesh.sidecar(t, 'web', { name: 'two' });
  for (const web of [one, two]) t.is((await ask(web)).status, 200);
  const serial = await serialOf(mesh, 'one');
  t.not(serial, await serialOf(mesh, 'two'));

  // What waits for its answer is told so; its connection ends, too, and takes nothing more.
  const before = origin.requests;
  const silent = ask(one, '/silent');
  await until('what is under way', () => origin.requests > before);
  mesh.control.revoke(serial);
  t.is((await silent).status, 403);
  const refused = await ask(one);
  t.is(`${refused.status} ${proxyStatus(refused.headers).details}`, '502 upstream_tls');
  await until('its own count', async () => (await numberOf(one, REFUSED_BY)) > 0);
  const unready = await until('its end', async () => {
    const { status, text } = await request(one.admin, { path: '/ready' });
    return status === 503 && text;
  });
  t.regex(unready, /was revoked/);
  await until('its handshake is refused', async () => (await numberOf(basket, REFUSED)) > 0);
  t.is((await ask(two)).status, 200);
  await mesh.happened('gone', (event) => (event['sidecar'] as { name: string }).name === 'one');
  const three = await mesh.sidecar(t, 'web', { name: 'three' });
  t.is((await ask(three)).status, 200, 'a new certificate of the same identity');

  t.true(mesh.control.allow(serial));
  await until('belief again', async () => (await ask(one)).status === 200);
  // Who was turned away a few times asks again after up to half a minute.
  await until(
    'its control plane',
    async () => (await request(one.admin, { path: '/ready' })).status === 200,
    2 * PATIENCE_MS,
  );
});

test('a workload of which nothing else changes is ready soon after it is believed again', async (t) => {
  const mesh = await Mesh.start(t);
  const web = await mesh.sidecar(t, 'web');
  const ready = async (): Promise<string> => {
    const { status, text } = await request(web.admin, { path: '/ready' });
    return `${status} ${text}`;
  };
  await until('the control plane', async () => (await ready()).startsWith('200'));
  mesh.control.revoke(idOf('web'));
  await until('the refusal', async () => /^503.*was revoked/s.test(await ready()));
  // Waits that went on doubling would take longer than this test waits.
  const lost = /^mesh_control_plane_connections_lost_total\{reason="(?:status|tls)"\} (\d+)$/gm;
  const tries = async (): Promise<number> => {
    const { text } = await request(web.admin, { path: '/metrics' });
    return [...text.matchAll(lost)].reduce((sum, [, count]) => sum + Number(count), 0);
  };
  await until('seven tries', async () => (await tries()) >= 7, 25_000);
  t.true(mesh.control.allow(idOf('web')));
  await until('belief again', async () => (await ready()).startsWith('200'));
});

test('who calls is told that it is not believed, over HTTP/2 too', async (t) => {
  const mesh = await Mesh.start(t);
  const origin = await http2Origin(t, (stream) => {
    stream.respond({ ':status': 200 });
    stream.end();
  });
  const basket = await mesh.sidecar(t, 'basket', { ports: `3000=${origin.address}/http2` });
  mesh.serve('basket', [basket.address], 3000, 'http2');
  const web = await mesh.sidecar(t, 'web');
  t.is((await ask(web)).status, 200);
  mesh.control.revoke(idOf('web'));
  const last = await until('the refusal', async () => {
    const { status, headers } = await ask(web);
    return status === 502 && proxyStatus(headers).details === 'upstream_tls';
  });
  t.true(last);
  t.true((await numberOf(web, REFUSED_BY)) > 0);
});

test('who opens a stream of bytes and is not believed is told by the reason and the count of its end', async (t) => {
  const mesh = await Mesh.start(t);
  const { address } = await tcpServer(t, async (peer) => {
    for (;;) await peer.send(await peer.read(5));
  });
  const basket = await mesh.sidecar(t, 'basket', { ports: `5432=${address}/tcp` });
  mesh.serve('basket', [basket.address], 5432, 'tcp');
  const port = await freePort();
  const web = await mesh.sidecar(t, 'web', {
    flags: { '--forward': `basket:80=127.0.0.1:${port}/tcp` },
  });
  await web.process.said(/forward:basket:80 listens on/);
  const believed = await connect(t, port);
  await believed.send('hello');
  t.is((await believed.read(5)).toString(), 'hello');
  mesh.control.revoke(idOf('web'));
  await believed.gone();
  const closed =
    /^mesh_connections_closed_total\{listener="forward:basket:80",reason="upstream_tls"\} (\d+)$/m;
  await until('the refusal', async () => {
    // It may be cut before it is known to be there.
    const peer = await connect(t, port).catch(() => undefined);
    await peer?.send('hello').catch(() => {});
    await peer?.gone();
    return (await numberOf(web, closed)) > 0;
  });
  t.true((await numberOf(web, REFUSED_BY)) > 0);
  await web.process.said(/a workload was not believed .*rejection=refused_by_peer/);
});

test('by serial number: the server of that certificate is left for another of its identity', async (t) => {
  const mesh = await Mesh.start(t);
  const says = async (name: string): Promise<MeshSidecar> => {
    const { address } = await httpOrigin(t, (_, outgoing) => void outgoing.end(name));
    return mesh.sidecar(t, 'basket', { name, ports: `3000=${address}` });
  };
  const [one, two] = [await says('one'), await says('two')];
  mesh.serve('basket', [one.address]);
  const web = await mesh.sidecar(t, 'web');
  t.is((await ask(web)).text, 'one');
  mesh.control.revoke(await serialOf(mesh, 'one'));
  await until('the refusal', async () => (await ask(web)).status === 502);
  const rejected = /^mesh_upstream_identity_rejections_total\{.*rejection="revoked".*\} (\d+)$/m;
  await until('its handshake is refused', async () => {
    t.is((await ask(web)).status, 502);
    return (await numberOf(web, rejected)) > 0;
  });
  mesh.serve('basket', [two.address]);
  await until('the other one', async () => (await ask(web)).text === 'two');
});

test('a sidecar that starts again without a control plane knows who was revoked', async (t) => {
  const mesh = await Mesh.start(t);
  const { address } = await httpOrigin(t);
  const state = join(temporaryFolder(t), 'state');
  const kept = { ports: `3000=${address}`, flags: { '--state-dir': state } };
  const basket = await mesh.sidecar(t, 'basket', kept);
  mesh.serve('basket', [basket.address]);
  const [web, till, other] = [
    await mesh.sidecar(t, 'web'),
    await mesh.sidecar(t, 'till', { name: 'till' }),
    await mesh.sidecar(t, 'till', { name: 'other' }),
  ];
  for (const caller of [web, till, other]) t.is((await ask(caller)).status, 200);
  mesh.control.revoke(idOf('web'));
  mesh.control.revoke(await serialOf(mesh, 'till'));
  for (const caller of [web, till]) {
    await until('the refusal', async () => (await ask(caller)).status === 502);
  }
  const file = join(state, 'denied.json');
  await until('both are kept', () => (JSON.parse(readFileSync(file, 'utf8')) as string[]).length === 2);
  t.is(statSync(file).mode & 0o777, 0o600);

  await basket.process.kill();
  await mesh.control.close();
  const flags = { ...kept.flags, '--inbound': basket.address };
  const again = await mesh.sidecar(t, 'basket', { ...kept, flags, token: '/nonexistent' });
  await until('who was not revoked', async () => (await ask(other)).status === 200);
  for (const caller of [web, till]) t.is((await ask(caller)).status, 502);
  t.true((await numberOf(again, REFUSED)) > 0);
});

/** The serial number of what listens there shows. */
async function serialAt(address: string): Promise<string> {
  const [host, port] = address.split(':');
  const socket = tls.connect({ host: String(host), port: Number(port), rejectUnauthorized: false });
  await once(socket, 'secureConnect');
  const { serialNumber } = socket.getPeerCertificate();
  socket.destroy();
  return serialNumber;
}

test('the control plane is not revoked: who believed it no more would not hear that it is taken back', async (t) => {
  const mesh = await Mesh.start(t);
  const [address] = mesh.control.addresses;
  const control = 'spiffe://mesh.test/ns/mesh/sa/control';
  for (const whom of [control, (await serialAt(String(address))).toLowerCase()]) {
    const error = t.throws(() => mesh.control.revoke(whom), { instanceOf: MeshError }, whom);
    t.is(error.code, 'MESH_OPTION_INVALID');
    t.regex(error.message, /^reserved: that is the control plane/);
  }
  t.deepEqual(mesh.control.revoked(), []);

  // What a sidecar has heard of it all the same, it does not believe.
  const state = join(temporaryFolder(t), 'state');
  const flags = { '--state-dir': state };
  const web = await mesh.sidecar(t, 'web', { flags });
  mesh.control.revoke(idOf('till'));
  const file = join(state, 'denied.json');
  await until('it is kept', () => (JSON.parse(readFileSync(file, 'utf8')) as string[]).length === 1);
  await web.process.kill();
  await mesh.happened('gone');
  writeFileSync(file, JSON.stringify([control]), { mode: 0o600 });
  mesh.events.length = 0;
  await mesh.sidecar(t, 'web', { flags });
  await mesh.happened('ready');
});

test('a control plane that may not know all adds to what a sidecar knows, until it knows', async (t) => {
  const stateDir = temporaryFolder(t);
  const mesh = await Mesh.start(t, { stateDir });
  const [listen] = mesh.control.addresses;
  mesh.control.revoke(idOf('old'));
  const state = join(temporaryFolder(t), 'state');
  mesh.protect('web', []);
  await mesh.sidecar(t, 'web', { flags: { '--state-dir': state } });
  const known = (): string[] =>
    (JSON.parse(readFileSync(join(state, 'denied.json'), 'utf8')) as string[]).toSorted();
  const knows = (...names: string[]): Promise<unknown> =>
    until(`${names.join(', ')}`, () => known().join() === names.map((name) => idOf(name)).join());
  const early = readFileSync(join(stateDir, 'denied.json'));
  mesh.control.revoke(idOf('till'));
  await knows('old', 'till');

  // It comes back with what it had stored before.
  await mesh.control.close();
  writeFileSync(join(stateDir, 'denied.json'), early);
  mesh.events.length = 0;
  await mesh.open(String(listen), { awaitsRevoked: true });
  await mesh.happened('ready');
  mesh.control.revoke(idOf('zoo'));
  await knows('old', 'till', 'zoo');
  t.deepEqual(mesh.control.revoked(), [idOf('old'), idOf('zoo')]);
  mesh.control.knowsRevoked(true);
  await knows('old', 'zoo');
});

test('a sidecar is not ready before it knows who is revoked', async (t) => {
  const mesh = await Mesh.start(t, { awaitsRevoked: true });
  mesh.protect('web', []);
  const web = await mesh.sidecar(t, 'web', { ready: false });
  await until('roots and policies', () => mesh.control.sidecars()[0]?.has.length === 2);
  t.is((await request(web.admin, { path: '/ready' })).status, 503);
  mesh.control.knowsRevoked(true);
  await web.process.said(/^mesh-sidecar: ready$/m);
});
