// Does the last word of a control plane hold, whatever of an earlier one etcd has, or is still on its way there?

import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import * as http from 'node:http';
import { join } from 'node:path';
import type { Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { isDeepStrictEqual } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { EtcdError } from '../../src/discovery/etcd-client.js';
import { StateError } from '../../src/errors.js';
import { createControlPlane } from '../../src/index.js';
import type { ControlEvent, Sidecar } from '../../src/mesh/control-plane.js';
import { ask, freePort, startMeshSidecar } from '../mesh/support.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin, serve } from '../support/http.js';
import { until } from '../support/wait.js';
import { Etcd } from '../discovery/support.js';

const WEB = 'spiffe://mesh.local/ns/default/sa/web';

/** A way to etcd on which a question, or its answer, waits until it may pass, or gets lost; and which may end. */
async function slowWay(t: ExecutionContext, etcd: Etcd) {
  let held = '';
  let lost = '';
  let waits = 0;
  let pass = (): void => {};
  let gate: Promise<void> | undefined;
  const hold = (what: string): void => {
    held = what;
    gate = new Promise((resolve) => {
      pass = resolve;
    });
  };
  const passes = async (what: string): Promise<void> => {
    if (what !== held) return;
    waits += 1;
    await gate;
  };
  const server = http.createServer((request, response) => {
    void (async () => {
      const { method, headers, url: path = '/' } = request;
      const body = await text(request);
      await passes(`question ${path}`);
      const onward = http.request(new URL(path, etcd.url), { method, headers, agent: false });
      onward.end(body);
      response.on('close', () => onward.destroy());
      const [answer] = (await once(onward, 'response')) as [http.IncomingMessage];
      if (path === lost) {
        answer.resume().on('end', () => response.destroy());
        return;
      }
      await passes(`answer ${path}`);
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      response.flushHeaders();
      answer.on('error', () => response.destroy()).pipe(response);
    })().catch(() => response.destroy());
  });
  const connections = new Set<Socket>();
  let isCut = false;
  server.on('connection', (socket) => {
    connections.add(socket);
    if (isCut) socket.destroy();
  });
  const cut = (): void => {
    isCut = true;
    for (const socket of connections) socket.destroy();
  };
  const lose = (path: string): void => {
    lost = path;
  };
  const url = `http://${(await serve(t, server)).address}`;
  return { url, hold, waits: () => waits, pass: () => pass(), lose, cut };
}

/** What etcd has of the one who was spoken of. */
async function entry(etcd: Etcd): Promise<unknown> {
  const entries = (await etcd.texts('/mesh/control/denied/')).map((written): unknown => JSON.parse(written));
  return entries.find((each) => (each as { whom: string }).whom === WEB);
}

interface Plane {
  readonly url?: string;
  readonly stateDir?: string;
  readonly listen?: string;
}

/** Control planes that share this etcd. */
function planes(t: ExecutionContext, etcd: Etcd) {
  const keyFile = join(temporaryFolder(t), 'operator.key');
  writeFileSync(keyFile, 'a key of the operator, which is long enough');
  return async ({ url = etcd.url, stateDir, listen = '127.0.0.1:0' }: Plane = {}) => {
    const shared = { etcd: { endpoints: url, prefix: '/mesh/control/' }, keyFile };
    const options = { listen, telemetryIntervalMs: 100, ...(stateDir !== undefined && { stateDir }) };
    const made = createControlPlane({ mesh: { shared }, services: { web: {}, basket: {} } }, options);
    t.teardown(() => made.close());
    await made.listen();
    return made;
  };
}

test('a revocation is not undone by an earlier word that arrives after it', async (t) => {
  const etcd = await Etcd.start(t);
  const way = await slowWay(t, etcd);
  const plane = planes(t, etcd);
  const [slow, other] = [await plane({ url: way.url }), await plane()];
  await slow.revoke(WEB);
  await until('the other knows it', () => other.revoked().includes(WEB));
  way.hold('question /v3/lease/grant');
  const taken = slow.allow(WEB);
  await until('it is on its way', () => way.waits() > 0);
  await slow.revoke(WEB);
  way.pass();
  t.true(await taken);
  t.like(await entry(etcd), { whom: WEB, denied: true });
  await other.revoke('4f1c09');
  await until('both have heard of what came after', () => slow.revoked().includes('4f1c09'));
  t.deepEqual([slow.revoked().includes(WEB), other.revoked().includes(WEB)], [true, true]);
});

test('what another says after a word holds, though it is heard before that word is known to be taken', async (t) => {
  const etcd = await Etcd.start(t);
  const way = await slowWay(t, etcd);
  const plane = planes(t, etcd);
  const [slow, other] = [await plane({ url: way.url }), await plane()];
  way.hold('answer /v3/kv/txn');
  const said = slow.revoke(WEB);
  await until('etcd has taken it', () => way.waits() > 0);
  await until('the other knows it', () => other.revoked().includes(WEB));
  t.true(await other.allow(WEB));
  await other.revoke('4f1c09');
  await until('what was said after all that is heard', () => slow.revoked().includes('4f1c09'));
  way.pass();
  await said;
  await until('it is taken back', () => slow.revoked().join() === '4f1c09');
  t.like(await entry(etcd), { denied: false });
  t.deepEqual(other.revoked(), ['4f1c09']);
});

test('a revocation is not undone by an earlier word of another whose answer got lost', async (t) => {
  const etcd = await Etcd.start(t);
  const way = await slowWay(t, etcd);
  const plane = planes(t, etcd);
  const [unheard, other] = [await plane({ url: way.url }), await plane()];
  await unheard.revoke(WEB);
  way.lose('/v3/kv/txn');
  await t.throwsAsync(unheard.allow(WEB), { instanceOf: EtcdError });
  await until('the other heard it nevertheless', () => other.revoked().length === 0);
  await other.revoke(WEB);
  way.lose('');
  await until('it has heard of it', () => unheard.revoked().includes(WEB));
  t.like(await entry(etcd), { denied: true });
  t.deepEqual(other.revoked(), [WEB]);
  // Who takes it back now does.
  t.true(await unheard.allow(WEB));
  t.like(await entry(etcd), { denied: false });
});

test('a control plane that does not hear etcd takes no revocation back that its sidecars know of', async (t) => {
  const etcd = await Etcd.start(t);
  const way = await slowWay(t, etcd);
  const plane = planes(t, etcd);
  const [listen, later] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
  const first = await plane({ listen });
  const trustAnchors = join(temporaryFolder(t), 'roots.pem');
  writeFileSync(trustAnchors, first.roots());
  const joins = async (name: string, control: readonly string[], ports?: string) => {
    const token = join(temporaryFolder(t), 'token');
    writeFileSync(token, await first.token(name), { mode: 0o600 });
    const identity = `spiffe://mesh.local/ns/default/sa/${name}`;
    const more = { control, trustAnchors, token, ...(ports !== undefined && { ports }) };
    return startMeshSidecar(t, { identity, name, ...more });
  };
  const basket = await joins('basket', [listen, later], `80=${(await httpOrigin(t)).address}`);
  const second = await plane({ listen: later, url: way.url });
  const web = await joins('web', [later]);
  const answers = (status: number) => until(`${status}`, async () => (await ask(web)).status === status);
  await answers(200);
  const errors: unknown[] = [];
  second.on('error', (error) => errors.push(error));
  way.cut();
  await until('it is told that etcd is gone', () => errors.length > 0);
  await first.revoke(WEB);
  await answers(502);
  const come: string[] = [];
  second.on('control', ({ kind, sidecar }: ControlEvent) => {
    if (sidecar) come.push(`${kind} ${(sidecar as Sidecar).name}`);
  });
  await first.close();
  await until('basket is at the other', () => come.includes('ready basket'));
  // Who reports has heard what is said at the beginning.
  await ask(basket);
  await until('its report', () => second.edges().some(({ identity }) => identity.endsWith('/basket')));
  t.deepEqual(second.revoked(), []);
  t.is((await ask(web)).status, 502);
});

test('what etcd has not heard is said by the next life of who said it', async (t) => {
  const etcd = await Etcd.start(t);
  const plane = planes(t, etcd);
  const stateDir = temporaryFolder(t);
  const first = await plane({ stateDir });
  const words = (): unknown => JSON.parse(readFileSync(join(stateDir, 'unsaid.json'), 'utf8'));
  const nothing = { place: '/mesh/control/', said: [], voids: [] };
  await first.revoke(WEB);
  t.true(await first.allow(WEB));
  t.deepEqual(words(), nothing);
  const token = await first.token('web');
  await etcd.kill();
  await t.throwsAsync(first.revoke(WEB), { instanceOf: EtcdError });
  t.like(words(), { said: [{ whom: WEB, denied: true }], voids: [WEB] });
  await first.close();
  await etcd.begin(t);
  t.like(await entry(etcd), { denied: false });

  const second = await plane({ stateDir });
  t.deepEqual(second.revoked(), [WEB]);
  await until('etcd has heard it', () => isDeepStrictEqual(words(), nothing));
  t.like(await entry(etcd), { denied: true });
  t.deepEqual(await etcd.texts('/mesh/control/tokens/'), [], token);

  // Once said it is said: what others say afterwards holds.
  const other = await plane();
  t.true(await other.allow(WEB));
  await second.close();
  t.deepEqual((await plane({ stateDir })).revoked(), []);

  writeFileSync(join(stateDir, 'unsaid.json'), '{"place":"/mesh/control/","said":[{}]}');
  await t.throwsAsync(plane({ stateDir }), {
    instanceOf: StateError,
    message: /unsaid\.json makes no sense/,
  });
});
