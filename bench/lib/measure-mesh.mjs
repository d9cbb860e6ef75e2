// What do sidecars of a mesh hold, and how soon are they there?

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { load } from './load.mjs';
import { memoryOf, saying, treeOf } from './processes.mjs';

/** Long enough for what a start needs to be given back. */
const SETTLES_MS = 1500;

/** The larger one of the two in a pair, without the shell above them, in megabytes. */
function larger(pid) {
  const [, ...pair] = treeOf(pid);
  const all = pair.map(memoryOf);
  return {
    rss: Math.max(...all.map(({ rss }) => rss)) / 1e6,
    user: Math.max(...all.map(({ user }) => user)) / 1e6,
  };
}

/** Resident memory of a sidecar at rest, and while a pair carries 1,000 requests a second by HTTP/2 and mutual TLS. */
export async function pairMemory(bench, live) {
  await sleep(SETTLES_MS);
  const rest = larger(live.child.pid);
  const rate = ['rate', '--protocol', 'h2', '--rate', '1000', '--connections', '4', '--streams', '64'];
  const loaded = load(bench.cores.load, [...rate, '--seconds', '5', '--to', live.address]);
  const seen = [];
  const watching = { ends: false };
  const watch = (async () => {
    while (!watching.ends) {
      seen.push(larger(live.child.pid));
      await sleep(200);
    }
  })();
  try {
    await loaded;
  } finally {
    watching.ends = true;
    await watch;
  }
  return {
    rest: rest.rss,
    loaded: Math.max(...seen.map(({ rss }) => rss)),
    user: Math.max(...seen.map(({ user }) => user)),
  };
}

/** Resident memory of a process that has nothing to do, in megabytes. */
export async function restMemory(_, live) {
  await sleep(SETTLES_MS);
  const { rss, user } = memoryOf(live.child.pid);
  return { rest: rss / 1e6, user: user / 1e6 };
}

/** Milliseconds from the start of a sidecar until it serves: key, certificate, configuration, listeners. */
export const readiness = (_, live) => ({ ready: live.readyMs });

/** How many changes a round has: the first one after a start pays for what nobody has run yet. */
const CHANGES = 7;

/**
 * Milliseconds from a change of one service's endpoints until the last subscriber has acknowledged it, the median of
 * several one after the other, the longest of them, and the memory of the control plane meanwhile.
 */
export async function propagation(bench, live) {
  const lines = () => readFileSync(live.log, 'utf8').trim().split('\n');
  const spans = [];
  for (let change = 0; change < CHANGES; change += 1) {
    const times = lines().length + 1;
    const { at } = await bench.control.ask({ change: 0 });
    await saying(live.child, { what: '"at"', times }, live.log);
    spans.push(JSON.parse(lines().at(-1)).at - at);
  }
  spans.sort((a, b) => a - b);
  const control = memoryOf(bench.control.child.pid).rss / 1e6;
  return { last: spans[CHANGES >> 1], longest: spans.at(-1), control };
}
