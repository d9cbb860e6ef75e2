// Does `npm start` show a real mesh, answer to curl and end cleanly, as the first thing that a newcomer tries?

import { once } from 'node:events';
import net from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { example } from '../docs/support.js';
import { lives, offspring } from '../support/pids.js';
import { type Running, must, start } from '../support/processes.js';
import { until, within } from '../support/wait.js';

/** Starting may build what is stale. */
const PATIENCE_MS = 120_000;

/** Makes sure that somebody has the port until the test ends, if it isn't somebody else already, who may leave it. */
async function occupied(t: ExecutionContext, port: number): Promise<void> {
  const server = net.createServer((socket) => socket.destroy());
  t.teardown(() => server.close());
  server.on('error', (error: NodeJS.ErrnoException) => t.is(error.code, 'EADDRINUSE'));
  const take = (): void => {
    if (!server.listening) server.listen(port, '127.0.0.1');
  };
  const again = setInterval(take, 20);
  t.teardown(() => clearInterval(again));
  take();
  await once(server, 'listening').catch(() => {});
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

/** The shop, started as a newcomer does, and its page. */
async function open(t: ExecutionContext): Promise<{ running: Running; page: string }> {
  // A group of its own, as a shell makes one: Ctrl-C reaches npm and the demo at once.
  const [npm = '', ...args] = example('README.md', 'start').trim().split(' ');
  const running = start(t, npm, args, { detached: true });
  t.teardown(() => {
    if (groupLives(running.pid)) process.kill(-running.pid, 'SIGKILL');
  });
  return { running, page: await printed(running, /curl (http:\/\/\S+\/)\n/) };
}

test.serial(
  'npm start: a shop of sidecars with a live table, curl, Ctrl-C, exit code 0, nothing left',
  async (t) => {
    t.timeout(2 * PATIENCE_MS);
    await Promise.all([occupied(t, 8080), occupied(t, 4191)]);
    const { running, page } = await open(t);
    for (const port of [8080, 4191]) {
      t.true(running.stdout().toString().includes(`127.0.0.1:${port} is in use by another program`));
    }
    const answer = await fetch(page, { signal: AbortSignal.timeout(PATIENCE_MS) });
    t.is(answer.status, 200);
    const { catalogue, basket } = (await answer.json()) as {
      catalogue: { items: unknown[] };
      basket: object;
    };
    t.is(catalogue.items.length, 3);
    t.deepEqual(basket, { items: 3, total: 13.5 });
    await printed(running, /^service +copies +restarts +requests\/s +success +mTLS +p50 +p95 +p99$/m);
    // Those who come from the street prove nothing; the services prove themselves to each other.
    for (const [service, copies, mtls] of [
      ['web', '1/1', '0.0 %'],
      ['catalogue', '2/2', '100.0 %'],
      ['basket', '1/1', '100.0 %'],
    ] as const) {
      const row = [service, copies, '0', String.raw`[\d.]+`, String.raw`[\d.]+ %`, mtls];
      const times = Array<string>(3).fill(String.raw`[\d.]+ ms`);
      await printed(running, new RegExp(`^${[...row, ...times].join(' +')}$`, 'm'));
    }

    t.is((await fetch(new URL('/items', page))).status, 403, 'the policies of the file hold');
    const metrics = await printed(running, /curl (http:\/\/\S+\/metrics)\n/);
    t.regex(await (await fetch(metrics)).text(), /^mesh_requests_total\{.*\} \d+$/m);
    const hint = await printed(running, /npx (mesh edges --socket \S+)\n/);
    const [, ...args] = hint.split(' ');
    const edge = async (to: string) => {
      const said = await must(process.execPath, ['dist/cli/main.js', ...args, '-o', 'json']);
      return (JSON.parse(said) as { from: string; to: string; mtls: number }[]).find(
        (each) => each.to === to,
      );
    };
    const web = 'spiffe://mesh.local/ns/default/sa/web';
    for (const to of ['catalogue.default:80', 'basket.default:80']) {
      // Both ends tell of it, each in its own time.
      t.like(await until(`the edge to ${to}`, () => edge(to)), { from: web, mtls: 1 });
    }

    const pids = offspring(running.pid);
    t.true(pids.length >= 8, 'four sidecars, four services');
    process.kill(-running.pid, 'SIGINT');
    const { code, signal } = await within('its end', running.exit, PATIENCE_MS);
    t.deepEqual({ code, signal }, { code: 0, signal: null });
    const text = running.stdout().toString();
    t.notRegex(text, /^==> /m, 'whoever runs the tests has built it: it is not built twice');
    t.regex(text, /\ndraining; a second signal ends at once\n[^]*\nclosed\n$/);
    t.false(text.includes(String.fromCodePoint(27)), 'in a pipe lines are plain');
    t.is(running.stderr(), '');
    t.false(groupLives(running.pid), 'no process is left');
    t.deepEqual(pids.filter(lives), []);
  },
);

test.serial('npm start: killed, it takes all that it started with it', async (t) => {
  t.timeout(2 * PATIENCE_MS);
  const { running } = await open(t);
  const pids = offspring(running.pid);
  t.true(pids.length >= 8, 'four sidecars, four services');
  process.kill(-running.pid, 'SIGKILL');
  await running.exit;
  await until('all have gone', () => !pids.some(lives), PATIENCE_MS);
  t.pass();
});
