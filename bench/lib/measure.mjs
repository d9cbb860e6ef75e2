// What does a proxy cost while it does this work? One function for each kind of figure.
//
// Each takes the bench (cores, seconds, the generator) and a live proxy, and gives figures by name.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Failure } from '../../scripts/lib/run.mjs';
import { holding, load } from './load.mjs';
import { build } from './places.mjs';
import { cpuBetween, cpuOf, memoryOf, PeerError, treeOf } from './processes.mjs';

/** Runs one load and gives its report with the CPU time that the proxy used meanwhile, in seconds. */
async function costing(bench, live, args) {
  const before = cpuOf(live.child.pid);
  const report = await load(bench.cores.load, [...args, ...live.load, '--to', live.address]);
  return { report, cpu: cpuBetween(before, cpuOf(live.child.pid)) };
}

const seconds = (bench) => ['--seconds', String(bench.seconds)];

/** Microseconds of CPU for each request. */
export const perRequest = (args) => async (bench, live) => {
  const { report, cpu } = await costing(bench, live, [...args, ...seconds(bench)]);
  const micros = (time) => (time * 1e6) / report.requests;
  return {
    cost: micros(cpu.total),
    user: micros(cpu.user),
    system: micros(cpu.system),
    rate: report.requests / report.seconds,
    tls: report.tls,
  };
};

/** The same for full handshakes, with the best key exchange that the proxy has. */
export const perHandshake = (args) => async (bench, live) => {
  live.group ??= await bestGroup(bench, live);
  return perRequest([...args, '--group', live.group])(bench, live);
};

async function bestGroup(bench, live) {
  const probe = [
    'h1',
    '--tls',
    '--fresh',
    '--requests',
    '1',
    '--group',
    'x25519mlkem768',
    ...live.load,
    '--to',
    live.address,
  ];
  try {
    await load(bench.cores.load, probe);
    return 'x25519mlkem768';
  } catch (error) {
    if (error instanceof PeerError) return 'x25519';
    throw error;
  }
}

const GIGA = 1e9;

/** Seconds of CPU for each gigabyte of response bodies. */
export const perBodyGigabyte = (args) => async (bench, live) => {
  const { report, cpu } = await costing(bench, live, [...args, ...seconds(bench)]);
  return perGigabyte(report.bodyBytes, report.seconds, cpu);
};

/** Seconds of CPU for each gigabyte of TCP, half of it in each direction. */
export const perStreamGigabyte = (connections) => async (bench, live) => {
  const each = String(Math.round((bench.seconds * 0.5 * GIGA) / connections));
  const args = ['tcp', '--connections', String(connections), '--up', each, '--down', each];
  const { report, cpu } = await costing(bench, live, args);
  return perGigabyte(report.bytes, report.seconds, cpu);
};

function perGigabyte(bytes, time, cpu) {
  const gigabytes = bytes / GIGA;
  return {
    cost: cpu.total / gigabytes,
    user: cpu.user / gigabytes,
    system: cpu.system / gigabytes,
    rate: gigabytes / time,
  };
}

/** Resident memory in megabytes: of a process that has just started, and after 100,000 requests. */
export async function memory(bench, live) {
  await sleep(1000);
  const rest = memoryOf(live.child.pid);
  const args = ['h1', '--connections', '50', '--requests', '100000', '--to', live.address];
  await load(bench.cores.load, args);
  const after = memoryOf(live.child.pid);
  return { rest: rest.rss / 1e6, after: after.rss / 1e6, user: after.user / 1e6 };
}

const IDLE = 2000;

/** User memory in bytes for each connection that has had one request and now waits. */
export async function idle(bench, live) {
  // One connection first: what the process sets up once is not a connection's.
  await load(bench.cores.load, ['h1', '--requests', '100', '--connections', '20', '--to', live.address]);
  await sleep(500);
  const before = memoryOf(live.child.pid);
  const args = ['--connections', String(IDLE), '--to', live.address];
  const held = await holding(bench.cores.load, args, async () => {
    await sleep(1500);
    return memoryOf(live.child.pid);
  });
  return { user: (held.user - before.user) / IDLE, rss: (held.rss - before.rss) / IDLE };
}

/** System calls for each request at 50 busy connections, under strace. */
export async function systemCalls(bench, live) {
  const output = join(build, `strace-${live.id}.txt`);
  const pids = treeOf(live.child.pid).flatMap((pid) => ['-p', String(pid)]);
  const strace = spawn('strace', ['-c', '-f', '-o', output, ...pids], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  const attached = new Promise((resolve, reject) => {
    strace.stderr.on('data', (text) => {
      said += text;
      if (said.includes('attached')) resolve();
    });
    strace.once('exit', () => reject(new Failure(`strace: ${said.trim()}`)));
  });
  await attached;
  const args = ['h1', '--connections', '50', '--requests', '20000', '--to', live.address];
  const report = await load(bench.cores.load, args);
  const ended = once(strace, 'exit');
  strace.kill('SIGINT');
  await ended;
  const calls = readSummary(readFileSync(output, 'utf8'));
  const each = (count) => count / report.requests;
  const byName = calls
    .filter((call) => each(call.count) >= 0.005)
    .map((call) => `${call.name} ${each(call.count).toFixed(2)}`);
  return {
    calls: each(calls.reduce((sum, call) => sum + call.count, 0)),
    failed: each(calls.reduce((sum, call) => sum + call.errors, 0)),
    byName: byName.join(', '),
  };
}

/** The lines of `strace -c`: share, seconds, microseconds, calls, errors if any, name. */
function readSummary(text) {
  const line = /^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:(\d+)\s+)?([a-z]\w+)$/;
  return text
    .split('\n')
    .map((each) => line.exec(each))
    .filter((match) => match && match[3] !== 'total')
    .map(([, count, errors, name]) => ({ count: Number(count), errors: Number(errors ?? 0), name }));
}

/** Latency in microseconds at a fixed rate, counted from the time each request was due. */
export const latency = (rate) => async (bench, live) => {
  const args = ['rate', '--rate', String(rate), '--connections', '20', '--warmup', '0.2'];
  const length = ['--seconds', String(bench.seconds / 2)];
  const report = await load(bench.cores.load, [...args, ...length, '--to', live.address]);
  const { p50, p99, p999 } = report.latencyMicros;
  return { p50, p99, p999 };
};
