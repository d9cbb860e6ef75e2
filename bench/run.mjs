// npm run bench [-- --only h1-100,tls --rounds 7 --seconds 2 --peers haproxy,sidecar --out FOLDER]
//
// What does our proxy cost beside HAProxy, nginx and Node's http-proxy? All on one core each, in turns, on loopback.
// A whole run leaves its results in bench/results/, a part of one in .build/bench/results/.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Failure, main, say, step } from '../scripts/lib/run.mjs';
import { ensurePeers, makeCertificate } from './lib/install.mjs';
import { makeAuthority } from './lib/authority.mjs';
import { startControl } from './lib/control.mjs';
import { judge } from './lib/judge.mjs';
import { buildLoad, startOrigin } from './lib/load.mjs';
import { build, here } from './lib/places.mjs';
import { stop } from './lib/processes.mjs';
import { markdown, plain } from './lib/report.mjs';
import { measureRow } from './lib/rounds.mjs';
import { peers } from './peers/index.mjs';
import { rows } from './rows.mjs';

/** All rows that have a control plane beside them. */
const MESH = 'mesh';

const USAGE = `npm run bench [-- OPTIONS]
  --only ROW,...    some rows: ${rows.map(({ id }) => id).join(' ')};
                    or \`mesh\`: all that have a control plane beside them
  --peers PEER,...  some proxies: ${Object.keys(peers).join(' ')}
  --rounds N        rounds; default 7, below 5 nothing is claimed
  --seconds S       length of each measurement; default 2
  --cores L,P       the core of load and origin and the core of the proxy; default 0,1
  --out FOLDER      where latest.json and latest.md go`;

await main(async () => {
  const options = readOptions();
  if (options.help) return say(USAGE);
  const chosen = choose(options);
  if (chosen.length === 0) throw new Failure('no row is left to measure with these proxies');
  const bench = await prepare(options, chosen);
  const machine = describeMachine();
  bench.origin = await startOrigin(bench.cores.load);
  const lines = [];
  try {
    if (chosen.some(({ row }) => row.mesh)) bench.control = await startControl(bench);
    for (const { row, participants } of chosen) {
      const measured = await measureRow(bench, row, participants, say);
      lines.push(...judge(row, participants, measured));
    }
  } finally {
    if (bench.control) await stop(bench.control.child);
    await stop(bench.origin.child);
  }
  const result = {
    date: new Date().toISOString(),
    rounds: bench.rounds,
    seconds: bench.seconds,
    machine,
    peers: bench.versions,
    lines,
  };
  say(plain(result));
  mkdirSync(options.out, { recursive: true });
  writeFileSync(join(options.out, 'latest.json'), `${JSON.stringify(result, null, 2)}\n`);
  writeFileSync(join(options.out, 'latest.md'), markdown(result));
  // A proxy that failed has its line in the table; the run as a whole is no success either.
  if (lines.some(({ figures }) => figures.some(({ failed }) => failed))) process.exitCode = 1;
  say(`\nwritten to ${join(options.out, 'latest.md')}`);
});

function readOptions() {
  const text = { type: 'string' };
  let values;
  try {
    const options = { only: text, peers: text, rounds: text, seconds: text, cores: text, out: text };
    ({ values } = parseArgs({ options: { ...options, help: { type: 'boolean' } } }));
  } catch (error) {
    throw new Failure(`${error.message}\n${USAGE}`, { cause: error });
  }
  const list = (name, known) => {
    const names = values[name]?.split(',') ?? known;
    const unknown = names.find((each) => !known.includes(each));
    if (unknown !== undefined)
      throw new Failure(`--${name}: nothing is called ${unknown}: ${known.join(' ')}`);
    return names;
  };
  const number = (name, fallback, isValid) => {
    const value = Number(values[name] ?? fallback);
    if (!isValid(value)) throw new Failure(`--${name} ${values[name]}: not a useful number`);
    return value;
  };
  const isPart = values.only !== undefined || values.peers !== undefined;
  const folder = isPart ? join(build, 'results') : join(here, 'results');
  return {
    help: values.help,
    only: list('only', [...rows.map(({ id }) => id), MESH]),
    peers: list('peers', Object.keys(peers)),
    rounds: number('rounds', 7, (value) => Number.isInteger(value) && value >= 1 && value <= 1000),
    seconds: number('seconds', 2, (value) => value >= 0.2 && value <= 600),
    cores: readCores(values.cores ?? '0,1'),
    out: values.out ?? folder,
  };
}

function readCores(text) {
  const [load, proxy, ...more] = text.split(',').map(Number);
  const isCore = (core) => Number.isInteger(core) && core >= 0;
  if (!isCore(load) || !isCore(proxy) || load === proxy || more.length > 0) {
    throw new Failure(`--cores ${text}: expected two different cores, such as 0,1`);
  }
  return { load, proxy };
}

/** The rows asked for, each with the participants asked for that the row can use. */
function choose(options) {
  return rows
    .filter(({ id, mesh }) => options.only.includes(id) || (mesh && options.only.includes(MESH)))
    .map((row) => ({
      row,
      participants: row.participants
        .filter(({ peer }) => !peer || options.peers.includes(peer))
        .map((each) => Object.assign({ label: each.name ?? labelOf(each) }, each)),
    }))
    .filter(({ participants }) => participants.some(({ peer }) => peer));
}

function labelOf({ id, peer }) {
  return id === peer ? peers[peer].name : `${peers[peer].name}, ${id.replace('-', ' ')}`;
}

/** Installs and builds what the chosen rows need. */
async function prepare(options, chosen) {
  if (process.platform !== 'linux')
    throw new Failure('the benchmark needs Linux: it reads /proc and pins processes');
  if (availableParallelism() < 2)
    throw new Failure('the benchmark needs two cores: one for the proxy, one for the load');
  mkdirSync(build, { recursive: true });
  const names = new Set(
    chosen.flatMap(({ participants }) => participants.map(({ peer }) => peer).filter(Boolean)),
  );
  const programs = [...names].flatMap((name) => peers[name].programs);
  await ensurePeers(['openssl', 'taskset', ...programs, ...chosen.flatMap(({ row }) => row.programs ?? [])]);
  for (const name of names) await peers[name].prepare?.();
  await step('the load generator', buildLoad);
  const versions = {};
  for (const name of names) versions[name] = { name: peers[name].name, version: peers[name].version() };
  const { rounds, seconds, cores } = options;
  const authority = chosen.some(({ row }) => row.mesh) ? makeAuthority() : undefined;
  return { rounds, seconds, cores, certificate: makeCertificate(), authority, versions };
}

function describeMachine() {
  const kernel = release();
  const model =
    cpus()[0]?.model.trim() || /model name\s*: (.*)/.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1];
  return { kernel, cpu: model ?? 'unknown', cores: cpus().length, load: loadavg()[0].toFixed(2) };
}
