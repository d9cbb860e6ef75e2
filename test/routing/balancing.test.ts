// Do all balancers send requests where they should, weights and priorities included?

import test from 'ava';
import type { ClusterConfig } from '../../src/config/index.js';
import { type Origin, httpOrigin, keepAliveAgent, request } from '../support/http.js';
import { startSidecar, web } from '../support/sidecar.js';
import { closedPort } from '../support/tcp.js';
import { until } from '../support/wait.js';

type Test = Parameters<typeof startSidecar>[0];

/** Servers that answer with their number. */
function servers(t: Test, count: number): Promise<Origin[]> {
  return Promise.all(
    Array.from({ length: count }, (_, n) => httpOrigin(t, (_incoming, outgoing) => outgoing.end(String(n)))),
  );
}

/** Sends requests, at most a few at once, and counts who answered. */
async function counted(
  t: Test,
  port: number,
  count: number,
  headers?: (n: number) => Record<string, string>,
): Promise<number[]> {
  const agent = keepAliveAgent(t, { maxSockets: 8 });
  const seen: number[] = [];
  await Promise.all(
    Array.from({ length: count }, async (_, n) => {
      const { status, text } = await request(port, { agent, ...(headers && { headers: headers(n) }) });
      if (status !== 200) throw new Error(`${status} ${text}`);
      seen[Number(text)] = (seen[Number(text)] ?? 0) + 1;
    }),
  );
  return seen;
}

for (const balance of ['ewma', 'leastRequest', 'roundRobin', 'random'] as const) {
  test(`${balance}: everybody gets some`, async (t) => {
    const origins = await servers(t, 4);
    const proxy = await startSidecar(
      t,
      web(
        { routes: [{ to: 'app' }] },
        { clusters: { app: { balance, endpoints: origins.map(({ address }) => address) } } },
      ),
    );
    const seen = await counted(t, proxy.port(), 400);
    if (balance === 'roundRobin') t.deepEqual(seen, [100, 100, 100, 100]);
    // Whoever was slow once gets little for a while.
    await until('everybody gets some', async () => {
      if (origins.every((_, n) => (seen[n] ?? 0) > 20)) return true;
      for (const [n, count] of (await counted(t, proxy.port(), 100)).entries())
        seen[n] = (seen[n] ?? 0) + (count ?? 0);
      return false;
    });
    t.is(seen.length, 4);
  });
}

test('roundRobin: weights are shares', async (t) => {
  const origins = await servers(t, 3);
  const weights = [1, 2, 5];
  const endpoints = origins.map(({ address }, n) => ({ address, weight: weights[n] ?? 1 }));
  const proxy = await startSidecar(
    t,
    web({ routes: [{ to: 'app' }] }, { clusters: { app: { balance: 'roundRobin', endpoints } } }),
  );
  t.deepEqual(await counted(t, proxy.port(), 160), [20, 40, 100]);
});

for (const balance of ['ringHash', 'maglev'] as const) {
  test(`${balance}: a key stays where it is, and most stay when a server goes`, async (t) => {
    const origins = await servers(t, 5);
    const config = (members: Origin[]) =>
      web(
        { routes: [{ to: 'app', hashKey: { header: 'x-user' } }] },
        { clusters: { app: { balance, endpoints: members.map(({ address }) => address) } } },
      );
    const proxy = await startSidecar(t, config(origins));
    const where = async (key: number): Promise<string> =>
      (await request(proxy.port(), { headers: { 'x-user': `user ${key}` } })).text;
    const keys = Array.from({ length: 100 }, (_, n) => n);
    const before: string[] = [];
    for (const key of keys) before.push(await where(key));
    for (const key of keys) t.is(await where(key), before[key] ?? '');
    t.is(new Set(before).size, 5);
    await proxy.reload(config(origins.slice(1)));
    let moved = 0;
    for (const key of keys) {
      const now = await where(key);
      if (now !== before[key]) {
        moved += 1;
        if (balance === 'ringHash') t.is(before[key], '0');
      }
    }
    t.true(moved >= before.filter((place) => place === '0').length);
    t.true(moved < 50, `${moved} moved`);
  });
}

test('hash keys: a cookie, a query parameter, the address; the first that is present', async (t) => {
  const origins = await servers(t, 5);
  const proxy = await startSidecar(
    t,
    web(
      { routes: [{ to: 'app', hashKey: [{ cookie: 'id' }, { query: 'user' }, 'sourceAddress'] }] },
      { clusters: { app: { balance: 'maglev', endpoints: origins.map(({ address }) => address) } } },
    ),
  );
  const places = async (ask: (n: number) => Parameters<typeof request>[1]): Promise<Set<string>> => {
    const seen = new Set<string>();
    for (let n = 0; n < 30; n += 1) seen.add((await request(proxy.port(), ask(n))).text);
    return seen;
  };
  t.is((await places(() => ({ headers: { cookie: 'a=b; id=7; c=d' } }))).size, 1);
  t.true((await places((n) => ({ headers: { cookie: `id=${n}` } }))).size > 1);
  t.is((await places((n) => ({ path: `/?user=7&n=${n}` }))).size, 1);
  t.true((await places((n) => ({ path: `/?user=${n}` }))).size > 1);
  t.is((await places((n) => ({ path: `/?n=${n}` }))).size, 1, 'the address decides');
  t.is((await places((n) => ({ path: `/?user=${n}`, headers: { cookie: 'id=7' } }))).size, 1);
});

const priorities = (first: string[], second: string[]): ClusterConfig => ({
  endpoints: [
    ...first.map((address) => ({ address })),
    ...second.map((address) => ({ address, priority: 1 })),
  ],
});

test('priorities: the lower ones take all, and the higher ones what is left when those are gone', async (t) => {
  const origins = await servers(t, 2);
  const [main, spare] = origins.map(({ address }) => address) as [string, string];
  const dead = `127.0.0.1:${await closedPort()}`;
  const config = (first: string) =>
    web({ routes: [{ to: 'app' }] }, { clusters: { app: priorities([first], [spare]) } });
  const proxy = await startSidecar(t, config(main));
  t.deepEqual(await counted(t, proxy.port(), 50), [50]);
  await proxy.reload(config(dead));
  const seen = await counted(t, proxy.port(), 50);
  t.is(seen[1], 50);
});

test('health as configured: draining and unhealthy servers take nothing', async (t) => {
  const origins = await servers(t, 3);
  const health = ['healthy', 'draining', 'unhealthy'] as const;
  const endpoints = origins.map(({ address }, n) => ({ address, health: health[n] ?? ('healthy' as const) }));
  const proxy = await startSidecar(t, web({ routes: [{ to: 'app' }] }, { clusters: { app: { endpoints } } }));
  t.deepEqual(await counted(t, proxy.port(), 50), [50]);
});
