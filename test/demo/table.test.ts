// Does the live table tell what happened lately, and draw it where it should?

import test from 'ava';
import { TableDrawer } from '../../src/demo/screen.js';
import { HEADING, Window, render } from '../../src/demo/table.js';
import type { ProxyStats, RouteStats } from '../../src/index.js';
import { STATS } from '../cli/world.js';

/** Statistics in which one route has done so much. */
function after(requests: number, failures: number, buckets: [number | null, number][]): ProxyStats {
  const [first] = STATS.routes as readonly [RouteStats];
  const route: RouteStats = {
    ...first,
    requests,
    failures,
    duration: { ...first.duration, count: requests, buckets },
  };
  return { ...STATS, routes: [route] };
}

test('a row is what happened within the window', (t) => {
  const window = new Window(10_000);
  t.deepEqual(window.rows(after(100, 50, [[500, 100]]), 0), [
    { route: 'api', perSecond: 0, success: 0.5, p50: 500, p95: 500, p99: 500, endpoints: '1/1' },
  ]);
  const [row] = window.rows(
    after(200, 51, [
      [1, 90],
      [20, 9],
      [500, 101],
    ]),
    5000,
  );
  t.deepEqual(row, {
    route: 'api',
    perSecond: 20,
    success: 0.99,
    p50: 1,
    p95: 20,
    p99: 20,
    endpoints: '1/1',
  });
  // The first look has left the window: the second is what counts.
  window.rows(after(200, 51, [[500, 101]]), 12_000);
  const [later] = window.rows(after(230, 51, [[500, 131]]), 14_000);
  t.is(later?.perSecond, 30 / 9);
});

test('a route that rests has no percentiles', (t) => {
  const window = new Window(10_000);
  window.rows(after(10, 0, [[1, 10]]), 0);
  const [row] = window.rows(after(10, 0, [[1, 10]]), 1000);
  t.deepEqual(row, {
    route: 'api',
    perSecond: 0,
    success: null,
    p50: null,
    p95: null,
    p99: null,
    endpoints: '1/1',
  });
  if (row) t.regex(render(row), /^api +0\.0 +- +- +- +- +1\/1$/);
});

test('a row stands below its heading', (t) => {
  const row = render({
    route: 'a',
    perSecond: 1,
    success: 1,
    p50: 0.05,
    p95: 12,
    p99: 120,
    endpoints: '2/2',
  });
  t.is(row.length, HEADING.length);
  t.regex(row, /0\.05 ms +12 ms +120 ms/);
});

test('a terminal shows the table in place, a pipe gets lines', (t) => {
  const drawn = (isTTY: boolean): string => {
    let text = '';
    const drawer = new TableDrawer({ isTTY, write: (part: string) => (text += part) }, 'heading');
    drawer.draw(['a', 'b']);
    drawer.draw(['c', 'd']);
    return text;
  };
  t.is(drawn(false), 'heading\na\nb\nc\nd\n');
  const up = `${String.fromCodePoint(27)}[3A${String.fromCodePoint(27)}[J`;
  t.regex(drawn(true), /heading.*\na\nb\n/);
  t.is(drawn(true).split(up).length, 2);
});
