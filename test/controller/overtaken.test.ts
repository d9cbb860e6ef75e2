// Does the last word of a control plane hold, whatever of an earlier one is still on its way to etcd?

import { writeFileSync } from 'node:fs';
import * as http from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import { createControlPlane } from '../../src/index.js';
import { temporaryFolder } from '../support/files.js';
import { serve } from '../support/http.js';
import { until } from '../support/wait.js';
import { Etcd } from '../discovery/support.js';

const WEB = 'spiffe://mesh.local/ns/default/sa/web';

/** A way to etcd on which some questions wait until they may pass. */
async function slowWay(t: ExecutionContext, etcd: Etcd) {
  let waits = 0;
  let open = (): void => {};
  let gate: Promise<void> | undefined;
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
  return { url, close, waits: () => waits, open: () => open() };
}

test('a revocation is not undone by an earlier word that arrives after it', async (t) => {
  const etcd = await Etcd.start(t);
  const way = await slowWay(t, etcd);
  const keyFile = join(temporaryFolder(t), 'operator.key');
  writeFileSync(keyFile, 'a key of the operator, which is long enough');
  const plane = async (url: string) => {
    const shared = { etcd: { endpoints: url, prefix: '/mesh/control/' }, keyFile };
    const made = createControlPlane({ mesh: { shared }, services: { web: {} } }, { listen: '127.0.0.1:0' });
    t.teardown(() => made.close());
    await made.listen();
    return made;
  };
  const [slow, other] = [await plane(way.url), await plane(etcd.url)];
  await slow.revoke(WEB);
  await until('the other knows it', () => other.revoked().includes(WEB));
  way.close();
  const taken = slow.allow(WEB);
  await until('it is on its way', () => way.waits() > 0);
  await slow.revoke(WEB);
  way.open();
  t.true(await taken);
  // What etcd has and tells after all of it.
  const last = async (): Promise<unknown> => {
    const [entry = ''] = await etcd.texts('/mesh/control/denied/');
    return JSON.parse(entry);
  };
  t.like(await last(), { whom: WEB, denied: true });
  await other.revoke('4f1c09');
  await until('both have heard of what came after', () => slow.revoked().includes('4f1c09'));
  t.deepEqual([slow.revoked().includes(WEB), other.revoked().includes(WEB)], [true, true]);
});
