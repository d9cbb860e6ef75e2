/**
 * `npm start`: a small shop behind the proxy, visitors, and what the proxy sees of them.
 *
 * Ctrl-C drains: the visitors leave, requests under way end, the proxy and the shop close, exit code 0. A second one
 * ends at once.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { ListenError, type Listening, type MeshProxy, createProxy } from '../index.js';
import { Visitors } from './client.js';
import { TableDrawer } from './screen.js';
import { Shop } from './shop.js';
import { HEADING, Window, render } from './table.js';

/** How often the table is drawn. */
const DRAW_MS = 1000;
/** What the table tells of: the last seconds. */
const WINDOW_MS = 10_000;
/** A signal that comes this soon after another is its echo. */
const ECHO_MS = 500;
/** How long requests under way may go on after Ctrl-C. */
const DRAIN_MS = 2000;

const FRONT = '127.0.0.1:8080';
const ADMIN = '127.0.0.1:4191';
const ANY_PORT = '127.0.0.1:0';

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** Listens where it is wanted, or on a free port when somebody else is there. */
async function listen(shop: Shop): Promise<{ proxy: MeshProxy; listening: Listening }> {
  let [front, admin] = [FRONT, ADMIN];
  for (;;) {
    const proxy = createProxy(shop.config(front), { admin });
    try {
      return { proxy, listening: await proxy.listen() };
    } catch (error) {
      await proxy.close();
      if (!(error instanceof ListenError) || error.code !== 'EADDRINUSE') throw error;
      if (error.listener === 'admin' && admin === ADMIN) admin = ANY_PORT;
      else if (error.listener === 'front' && front === FRONT) front = ANY_PORT;
      else throw error;
      say(`${error.address} is in use by another program: taking a free port instead`);
    }
  }
}

/**
 * Resolves at the first signal; a second one ends at once. npm sends what the terminal has sent already once more, so
 * a signal that comes right after the first is the same.
 */
function interrupted(): Promise<void> {
  return new Promise((resolve) => {
    let first: number | undefined;
    const onSignal = (): void => {
      first ??= performance.now();
      if (performance.now() - first > ECHO_MS) process.exit(1);
      resolve();
    };
    process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  });
}

/** Draws what happened, again and again until the end. */
async function watch(proxy: MeshProxy, ended: Promise<void>): Promise<void> {
  const window = new Window(WINDOW_MS);
  const table = new TableDrawer(process.stdout, HEADING);
  window.rows(await proxy.stats(), performance.now());
  for (;;) {
    const timer = new AbortController();
    const tick = sleep(DRAW_MS, true, { signal: timer.signal }).catch(() => false);
    const goesOn = await Promise.race([tick, ended.then(() => false)]);
    timer.abort();
    if (!goesOn) return;
    table.draw(window.rows(await proxy.stats(), performance.now()).map(render));
  }
}

async function main(): Promise<void> {
  const ended = interrupted();
  const shop = await Shop.open();
  try {
    const { proxy, listening } = await listen(shop);
    const at = (name: string): string | undefined =>
      listening.addresses.find(({ listener }) => listener === name)?.address;
    const [front = '', between = '', admin] = [at('front'), at('between'), at('admin')];
    shop.direct(between);
    say(`The shop is open:  curl http://${front}/`);
    if (admin) say(`Its numbers:       curl http://${admin}/metrics`);
    say('Ctrl-C drains and ends it. The last ten seconds:\n');
    const visitors = new Visitors(front);
    await watch(proxy, ended);
    say('\ndraining');
    visitors.stop();
    await proxy.drain({ timeoutMs: DRAIN_MS });
    visitors.close();
  } finally {
    await shop.close();
  }
  say('closed');
}

await main();
