// Does each cluster of a weighted split get its share?

import test from 'ava';
import { keepAliveAgent, httpOrigin, request } from '../support/http.js';
import { startSidecar, web } from '../support/sidecar.js';

const COUNT = 2000;

/**
 * Whether a count is what chance allows: five standard deviations of a binomial distribution. A right split is
 * judged wrong once in two million runs.
 */
function plausible(seen: number, share: number): boolean {
  return Math.abs(seen - COUNT * share) <= 5 * Math.sqrt(COUNT * share * (1 - share));
}

test('weights are shares, and zero is nothing', async (t) => {
  const names = ['a', 'b', 'c', 'none'];
  const origins = await Promise.all(names.map((name) => httpOrigin(t, (_, outgoing) => outgoing.end(name))));
  const [a, b, c, none] = origins.map(({ address }) => ({ endpoints: [address] }));
  const proxy = await startSidecar(
    t,
    web(
      {
        routes: [
          {
            to: [
              { cluster: 'a', weight: 70 },
              { cluster: 'b', weight: 25 },
              { cluster: 'c', weight: 5 },
              { cluster: 'none', weight: 0 },
            ],
          },
        ],
      },
      { clusters: { a: a ?? {}, b: b ?? {}, c: c ?? {}, none: none ?? {} } },
    ),
  );
  const agent = keepAliveAgent(t, { maxSockets: 20 });
  const seen = new Map<string, number>();
  await Promise.all(
    Array.from({ length: COUNT }, async () => {
      const { text } = await request(proxy.port(), { agent });
      seen.set(text, (seen.get(text) ?? 0) + 1);
    }),
  );
  t.true(plausible(seen.get('a') ?? 0, 0.7), String(seen.get('a')));
  t.true(plausible(seen.get('b') ?? 0, 0.25), String(seen.get('b')));
  t.true(plausible(seen.get('c') ?? 0, 0.05), String(seen.get('c')));
  t.false(seen.has('none'));
});
