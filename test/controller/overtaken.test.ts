// Does the last word of a control plane hold, whatever of an earlier one etcd has, or is still on its way there?

import { readFileSync, writeFileSync } from 'node:fs';
import * as http from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { isDeepStrictEqual } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { EtcdError } from '../../src/discovery/etcd-client.js';
import { StateError } from '../../src/errors.js';
import { createControlPlane } from '../../src/index.js';
import { temporaryFolder } from '../support/files.js';
import { serve } from '../support/http.js';
import { until } from '../support/wait.js';
import { Etcd } from '../discovery/support.js';

const WEB = 'spiffe://mesh.local/ns/default/sa/web';

/** A way to etcd on which some questions wait until they may pass, and some answers get lost. */
async function slowWay(t: ExecutionContext, etcd: Etcd) {
  let waits = 0;
  let open = (): void => {};
  let gate: Promise<void> | undefined;
  let lost = '';
  const server = http.createServer((request, response) => {
    void (async () => {
      const body = await text(request);
      if (gate && request.url === '/v3/lease/grant') {
        waits += 1;
        await gate;
      }
      const { method, headers } = request;
      const onward = http.request(new URL(request.url ?? '/', etcd.url), { method, headers, agent: false });
      onward.on('response', (answer) => {
        if (request.url === lost) {
          answer.resume().on('end', () => response.destroy());
          return;
        }
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        response.flushHeaders();
        answer.on('error', () => response.destroy()).pipe(response);
      });
      onward.on('error', () => response.destroy());
      response.on('close', () => onward.destroy());
      onward.end(body);
    })();
  });
  const url = `http://${(await serve(t, server)).address}`;
  const close = (): void => {
    gate = new Promise((resolve) => {
      open = resolve;
    });
  };
  const lose = (path: string): void => {
    lost = path;
  };
  return { url, close, waits: () => waits, open: () => open(), lose };
}

/** What etcd has of the one who was spoken of. */
async function entry(etcd: Etcd): Promise<unknown> {
  const [written = ''] = await etcd.texts('/mesh/control/denied/');
  return JSON.parse(written);
}

/** Control planes that share this etcd. */
function planes(t: ExecutionContext, etcd: Etcd) {
  const keyFile = join(temporaryFolder(t), 'operator.key');
  writeFileSync(keyFile, 'a key of the operator, which is long enough');
  return async ({ url = etcd.url, stateDir }: { url?: string; stateDir?: string } = {}) => {
    const shared = { etcd: { endpoints: url, prefix: '/mesh/control/' }, keyFile };
    const options = { listen: '127.0.0.1:0', ...(stateDir !== undefined && { stateDir }) };
    const made = createControlPlane({ mesh: { shared }, services: { web: {} } }, options);
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
  way.close();
  const taken = slow.allow(WEB);
  await until('it is on its way', () => way.waits() > 0);
  await slow.revoke(WEB);
  way.open();
  t.true(await taken);
  t.like(await entry(etcd), { whom: WEB, denied: true });
  await other.revoke('4f1c09');
  await until('both have heard of what came after', () => slow.revoked().includes('4f1c09'));
  t.deepEqual([slow.revoked().includes(WEB), other.revoked().includes(WEB)], [true, true]);
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
