// Is a token used as often as it says when a member of the shared etcd takes a use, and its answer gets lost? And when many
// ask at a time?

import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { text } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../support/files.js';
import { serve } from '../support/http.js';
import { Etcd, sharedPart } from '../discovery/support.js';

const WEB = 'spiffe://mesh.local/ns/default/sa/web';
const HOUR_MS = 3_600_000;

/** A member that does what it is asked, and loses what it says of transactions. */
async function lossy(t: ExecutionContext, etcd: Etcd): Promise<string> {
  const server = createServer((request, response) => {
    void (async () => {
      const path = request.url ?? '/';
      const said = await etcd.ask<object>(path, JSON.parse(await text(request)) as object);
      if (path === '/v3/kv/txn') response.destroy();
      else response.end(JSON.stringify(said));
    })().catch(() => response.destroy());
  });
  return `http://${(await serve(t, server)).address}`;
}

test('a use whose answer got lost is found at another member, and is no second one', async (t) => {
  const etcd = await Etcd.start(t);
  const prefix = '/mesh/control/';
  const keyFile = join(temporaryFolder(t), 'operator.key');
  const shares = (...endpoints: string[]) => sharedPart(t, { etcd: { endpoints, prefix }, keyFile }).part;
  const plain = shares(etcd.url);
  const spends = async (part: typeof plain, token: string) => {
    const hash = createHash('sha256').update(token).digest('hex');
    return part.spend(hash, WEB, performance.now() + HOUR_MS);
  };
  const member = await lossy(t, etcd);
  for (const uses of [1, 2]) {
    const token = await plain.token(WEB, { uses, ttlMs: HOUR_MS });
    for (let use = 0; use < uses; use += 1) {
      // Each asks the lossy one first: whoever had an answer goes on with the one that gave it.
      t.deepEqual(await spends(shares(member, etcd.url), token), { allow: true }, `${use} of ${uses}`);
    }
    const refused = { allow: false, reason: 'the token is not known' } as const;
    for (const part of [plain, shares(member, etcd.url)]) t.deepEqual(await spends(part, token), refused);
  }
  // Which of them nobody hears of is known for a while only.
  const { kvs = [] } = await etcd.ask<{ kvs?: { lease?: string }[] }>('/v3/kv/range', {
    key: Buffer.from(`${prefix}spent/`).toString('base64'),
    range_end: Buffer.from(`${prefix}spent0`).toString('base64'),
  });
  t.is(kvs.length, 3);
  t.true(kvs.every(({ lease = '0' }) => lease !== '0'));
});

test('a use whose answer got lost is found at the only member, also once it is back', async (t) => {
  const etcd = await Etcd.start(t);
  const prefix = '/mesh/control/';
  const keyFile = join(temporaryFolder(t), 'operator.key');
  const shares = (...endpoints: string[]) => sharedPart(t, { etcd: { endpoints, prefix }, keyFile }).part;
  const plain = shares(etcd.url);
  const member = await lossy(t, etcd);
  for (const uses of [1, 2]) {
    const token = await plain.token(WEB, { uses, ttlMs: HOUR_MS });
    const hash = createHash('sha256').update(token).digest('hex');
    const spends = () => shares(member).spend(hash, WEB, performance.now() + HOUR_MS);
    for (let use = 0; use < uses; use += 1) t.deepEqual(await spends(), { allow: true }, `${use} of ${uses}`);
    t.deepEqual(await spends(), { allow: false, reason: 'the token is not known' });
  }
});

test('many who ask at a time are no leak of listeners', async (t) => {
  const etcd = await Etcd.start(t);
  const keyFile = join(temporaryFolder(t), 'operator.key');
  const { part } = sharedPart(t, { etcd: { endpoints: [etcd.url], prefix: '/mesh/control/' }, keyFile });
  const warnings: string[] = [];
  const warned = ({ name, message }: Error): void => void warnings.push(`${name}: ${message}`);
  process.on('warning', warned);
  t.teardown(() => process.off('warning', warned));
  await Promise.all(Array.from({ length: 50 }, () => part.token(WEB, { uses: 1, ttlMs: HOUR_MS })));
  // Node tells them a moment later.
  await turn();
  t.deepEqual(
    warnings.filter((warning) => /listener/i.test(warning)),
    [],
  );
});
