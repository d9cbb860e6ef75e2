// How is a proxy started on one core, and what has it used?
//
// Invariants: every process started here is stopped here, at the latest when this one ends; figures are those of
// the whole tree of processes, threads included.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, readdirSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Failure } from '../../scripts/lib/run.mjs';
import { root } from '../../scripts/lib/toolchain.mjs';

/** The proxy under test does not start, or answers wrongly: it is out of the row, the others go on. */
export class PeerError extends Failure {}

const READY_MS = 10_000;
/** A process that has not ended by then is killed. */
const STOP_MS = 2_000;

const running = new Set();

process.on('exit', () => {
  for (const child of running) killTree(child.pid, 'SIGKILL');
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));

/** Starts a program on one core. Its output goes to the file `log`; with `pipe` it is read and written by the caller. */
export function start(core, command, args, { log, pipe = false, cwd, env } = {}) {
  const file = log ? openSync(log, 'w') : 'inherit';
  const stdio = pipe ? ['pipe', 'pipe', file] : ['ignore', file, file];
  const child = spawn('taskset', ['-c', String(core), command, ...args], { stdio, cwd, env });
  if (log) closeSync(file);
  running.add(child);
  child.once('exit', () => running.delete(child));
  child.once('error', () => running.delete(child));
  return child;
}

/** Ends a process in order, or else at once. */
export async function stop(child) {
  if (!running.has(child)) return;
  const tree = treeOf(child.pid);
  child.kill('SIGTERM');
  const ended = once(child, 'exit');
  const inTime = await Promise.race([ended.then(() => true), sleep(STOP_MS, false, { ref: false })]);
  if (!inTime) {
    for (const pid of tree) kill(pid, 'SIGKILL');
    await ended;
  }
}

function killTree(pid, signal) {
  for (const each of treeOf(pid)) kill(each, signal);
}

function kill(pid, signal) {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended already.
  }
}

/** A port that nobody listens on. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Waits until somebody accepts connections at the port. */
export async function accepting(child, port, log) {
  const limit = performance.now() + READY_MS;
  while (performance.now() < limit) {
    if (child.exitCode !== null || child.signalCode !== null) break;
    const socket = connect(port, '127.0.0.1');
    const opened = await Promise.race([
      once(socket, 'connect').then(
        () => true,
        () => false,
      ),
      sleep(1000, false),
    ]);
    socket.destroy();
    if (opened) return;
    await sleep(20);
  }
  throw new PeerError(`does not start: ${reasonIn(log)} (${relative(root, log)})`);
}

/** Waits until a log says something as often as `says.times`. It is looked at every millisecond: the time counts. */
export async function saying(child, { what, times, limitMs = READY_MS }, log) {
  const limit = performance.now() + limitMs;
  while (performance.now() < limit) {
    if (child.exitCode !== null || child.signalCode !== null) break;
    if (readFileSync(log, 'utf8').split(what).length > times) return;
    await sleep(1);
  }
  throw new PeerError(`does not start: ${reasonIn(log)} (${relative(root, log)})`);
}

/** The line of a log that says most: the last one that speaks of an error, or the last of all. */
function reasonIn(log) {
  const lines = readFileSync(log, 'utf8').split('\n').filter(Boolean);
  return (
    lines.findLast((line) => /error|alert|emerg|cannot/i.test(line)) ?? lines.at(-1) ?? 'it says nothing'
  );
}

/** A process and all below it. */
export function treeOf(pid) {
  const children = new Map();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const parent = statOf(name)?.parent;
    if (parent !== undefined) children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  const tree = [pid];
  for (const each of tree) tree.push(...(children.get(each) ?? []));
  return tree;
}

/** What stands in /proc/PID/stat behind the name (which may hold anything). */
function statOf(pid) {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return { parent: Number(fields[1]), user: Number(fields[11]), system: Number(fields[12]) };
  } catch {
    return undefined;
  }
}

const TICKS_PER_SECOND = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));

/** What a tree of processes has used so far. */
export function cpuOf(pid) {
  const tree = treeOf(pid);
  const [total, precise] = [{ user: 0, system: 0 }, new Map()];
  for (const each of tree) {
    const stat = statOf(each);
    total.user += (stat?.user ?? 0) / TICKS_PER_SECOND;
    total.system += (stat?.system ?? 0) / TICKS_PER_SECOND;
    for (const [task, nanos] of scheduledOf(each)) precise.set(task, nanos);
  }
  return { ...total, precise };
}

/** The time on a core of each thread, in nanoseconds; the ticks above are steps of 10 ms. */
function scheduledOf(pid) {
  try {
    return readdirSync(`/proc/${pid}/task`).map((task) => [
      task,
      Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]),
    ]);
  } catch {
    return [];
  }
}

/** Seconds used between two readings. The split is that of the ticks, the sum that of the scheduler. */
export function cpuBetween(before, after) {
  const user = after.user - before.user;
  const system = after.system - before.system;
  const same =
    before.precise.size > 0 &&
    before.precise.size === after.precise.size &&
    [...after.precise.keys()].every((task) => before.precise.has(task));
  let total = user + system;
  if (same) {
    total = 0;
    for (const [task, nanos] of after.precise) total += (nanos - before.precise.get(task)) / 1e9;
  }
  const share = user + system > 0 ? user / (user + system) : 0;
  return { total, user: total * share, system: total * (1 - share) };
}

/** Memory of a tree of processes, in bytes: resident, and of that what is theirs alone and not from a file. */
export function memoryOf(pid) {
  const memory = { rss: 0, user: 0 };
  for (const each of treeOf(pid)) {
    const status = readFileSync(`/proc/${each}/status`, 'utf8');
    const kilobytes = (name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0);
    memory.rss += kilobytes('VmRSS') * 1024;
    memory.user += kilobytes('RssAnon') * 1024;
  }
  return memory;
}
