// In what order are the proxies measured? Round by round, each proxy once in every round: A, B, C, A, B, C.
//
// What the machine does beside the benchmark so falls on all of them alike, and a ratio is always one of figures that
// were taken seconds apart.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { peers } from '../peers/index.mjs';
import { spread } from './judge.mjs';
import { build } from './places.mjs';
import { accepting, freePort, PeerError, saying, start, stop } from './processes.mjs';

/** Starts a participant. */
async function launch(bench, row, participant) {
  const { id, peer, shape } = participant;
  if (!peer) return { id, address: bench.origin.http, load: [] };
  const folder = join(build, row.id, id);
  mkdirSync(folder, { recursive: true });
  const port = await freePort();
  const path = (name) => join(folder, name);
  const { origin, certificate, control, authority } = bench;
  const setup = { shape, port, folder, origin, certificate, control, authority };
  const { files, command, env, says, load } = await peers[peer].plan(setup);
  for (const [name, text] of Object.entries(files)) writeFileSync(path(name), text);
  const [program, ...args] = command(path);
  const own = { log: path('log.txt'), env: { ...process.env, ...env } };
  const begun = performance.now();
  const child = start(bench.cores.proxy, program, args, own);
  try {
    if (says) await saying(child, says, path('log.txt'));
    else await accepting(child, port, path('log.txt'));
  } catch (error) {
    await stop(child);
    throw error;
  }
  return {
    id,
    child,
    address: `127.0.0.1:${port}`,
    load: load ?? [],
    log: path('log.txt'),
    readyMs: performance.now() - begun,
  };
}

const land = (live) => (live.child ? stop(live.child) : undefined);

/**
 * Measures a row: for each round the figures of each participant. One that answers wrongly is out of the row, with
 * the reason.
 */
export async function measureRow(bench, row, participants, tell) {
  const failed = new Map();
  const rounds = [];
  const lives = new Map();
  const take = async (participant, measure) => {
    if (failed.has(participant.id)) return undefined;
    try {
      const live = lives.get(participant.id) ?? (await launch(bench, row, participant));
      if (!row.once) lives.set(participant.id, live);
      try {
        return await measure(bench, live);
      } finally {
        if (row.once) await land(live);
      }
    } catch (error) {
      if (!(error instanceof PeerError)) throw error;
      failed.set(participant.id, error.message);
      return undefined;
    }
  };
  try {
    // Compilers, pools and caches warm up; what starts anew every time is measured cold on purpose.
    const warm = { ...bench, seconds: Math.max(0.5, bench.seconds / 2) };
    if (!row.once)
      for (const participant of participants) await take(participant, (_, live) => row.measure(warm, live));
    for (let round = 1; round <= bench.rounds; round += 1) {
      tell(`${row.id}: round ${round} of ${bench.rounds}`);
      const turns = [];
      while (turns.length < (row.turns ?? 1)) {
        const figures = {};
        for (const participant of participants)
          figures[participant.id] = await take(participant, row.measure);
        turns.push(figures);
      }
      rounds.push(row.turns ? middles(turns) : turns[0]);
    }
  } finally {
    for (const live of lives.values()) await land(live);
  }
  return { rounds, failed: Object.fromEntries(failed) };
}

/** The median of each participant's figures over the turns of a round. One that fell out has none. */
function middles(turns) {
  const round = {};
  for (const id of Object.keys(turns[0])) {
    const each = turns.map((turn) => turn[id]);
    if (each.includes(undefined)) continue;
    const names = Object.keys(each[0]);
    round[id] = Object.fromEntries(
      names.map((name) => [name, spread(each.map((figures) => figures[name])).median]),
    );
  }
  return round;
}
