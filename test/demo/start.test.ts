// Does `npm start` show real traffic, answer to curl and end cleanly, as the first thing that a newcomer tries?

import { once } from 'node:events';
import net from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { type Running, start } from '../support/processes.js';
import { until, within } from '../support/wait.js';

/** Starting may build what is stale. */
const PATIENCE_MS = 120_000;

/** Makes sure that somebody has the port, if it isn't somebody else already. */
async function occupied(t: ExecutionContext, port: number): Promise<void> {
  const server = net.createServer((socket) => socket.destroy());
  t.teardown(() => server.close());
  server.listen(port, '127.0.0.1');
  await once(server, 'listening').catch((error: NodeJS.ErrnoException) => t.is(error.code, 'EADDRINUSE'));
}

/** Waits until it has printed something; the first group of the match. */
async function printed(running: Running, pattern: RegExp): Promise<string> {
  return until(
    `it prints ${pattern}`,
    () => {
      const text = running.stdout().toString();
      const match = pattern.exec(text);
      if (!match && running.ended) throw new Error(`it ended, and said:\n${text}\n${running.stderr()}`);
      return match ? (match[1] ?? match[0]) : undefined;
    },
    PATIENCE_MS,
  );
}

/** Whether any process of a group is left. */
function groupLives(leader: number): boolean {
  try {
    process.kill(-leader, 0);
    return true;
  } catch {
    return false;
  }
}

test('npm start: a shop with a live table, curl through it, Ctrl-C, exit code 0, nothing left', async (t) => {
  t.timeout(2 * PATIENCE_MS);
  await Promise.all([occupied(t, 8080), occupied(t, 4191)]);
  // A group of its own, as a shell makes one: Ctrl-C reaches npm, the demo and the services at once.
  const running = start(t, 'npm', ['start'], { detached: true });
  t.teardown(() => {
    if (groupLives(running.pid)) process.kill(-running.pid, 'SIGKILL');
  });

  const front = await printed(running, /curl (http:\/\/\S+\/)\n/);
  for (const port of [8080, 4191]) {
    t.true(running.stdout().toString().includes(`127.0.0.1:${port} is in use by another program`));
  }
  const metrics = await printed(running, /curl (http:\/\/\S+\/metrics)\n/);
  const page = await fetch(front, { signal: AbortSignal.timeout(PATIENCE_MS) });
  t.is(page.status, 200);
  const { catalogue, basket } = (await page.json()) as { catalogue: { items: unknown[] }; basket: object };
  t.is(catalogue.items.length, 3);
  t.deepEqual(basket, { items: 3, total: 13.5 });
  t.is((await fetch(new URL('/items', front))).status, 200);

  await printed(running, /^route +requests\/s +success +p50 +p95 +p99 +endpoints$/m);
  for (const [route, endpoints] of [
    ['shop', '1/1'],
    ['items', '2/2'],
    ['catalogue', '2/2'],
    ['basket', '1/1'],
  ] as const) {
    await printed(
      running,
      new RegExp(
        String.raw`^${route} +[\d.]+ +100\.0 % +[\d.]+ ms +[\d.]+ ms +[\d.]+ ms +${endpoints}$`,
        'm',
      ),
    );
  }

  const numbers = await (await fetch(metrics)).text();
  t.regex(numbers, /^mesh_requests_total\{listener="front",route="shop",.*\} \d+$/m);

  const escape = String.fromCodePoint(27);
  t.false(running.stdout().toString().includes(escape), 'in a pipe lines are plain');
  process.kill(-running.pid, 'SIGINT');
  const { code, signal } = await within('its end', running.exit);
  t.deepEqual({ code, signal }, { code: 0, signal: null });
  t.true(running.stdout().toString().endsWith('\ndraining\nclosed\n'));
  t.is(running.stderr(), '');
  t.false(groupLives(running.pid), 'no process is left');
});
