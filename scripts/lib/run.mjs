// How does a script run another program, and say what it is doing?
//
// Invariants: a program gets its own process group and never outlives us; it ends at its limit; it reads no
// input (a question would wait for ever in CI); its output is streamed, never collected without bound.

import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { createInterface } from 'node:readline';

/** The longest any one step may take: a cold release build on two slow cores stays well below it. */
export const LIMIT_MINUTES = 45;

/** An error whose message is meant for the person at the terminal: printed without a stack. */
export class Failure extends Error {}

/** Prints one line of progress. */
export function say(line) {
  process.stdout.write(`${line}\n`);
}

/** Seconds since `start` (a `performance.now()`), for people: `3.1 s`. */
export function seconds(start) {
  return `${((performance.now() - start) / 1000).toFixed(1)} s`;
}

/** Runs `work` between two lines: what starts, and how long it took. */
export async function step(what, work) {
  const start = performance.now();
  say(`==> ${what}`);
  const result = await work();
  say(`    ${what}: done in ${seconds(start)}`);
  return result;
}

/**
 * Runs a program to its end and resolves with its exit code (128 + signal number when a signal ended it).
 * With `onLine` its standard output arrives line by line, otherwise it goes where ours goes.
 */
export function run(command, args, { cwd, env = process.env, onLine, limitMinutes = LIMIT_MINUTES } = {}) {
  return new Promise((resolve, reject) => {
    const stdout = onLine ? 'pipe' : 'inherit';
    const child = spawn(command, args, { cwd, env, stdio: ['ignore', stdout, 'inherit'], detached: true });
    const end = (signal) => {
      try {
        process.kill(-child.pid, signal);
      } catch {
        // The group has already ended.
      }
    };
    let interrupted;
    const forward = (signal) => {
      interrupted = signal;
      end(signal);
    };
    const forget = () => {
      clearTimeout(limit);
      process.off('SIGINT', forward).off('SIGTERM', forward);
    };
    const limit = setTimeout(() => {
      say(`${command} did not end within ${limitMinutes} minutes and is stopped`);
      end('SIGKILL');
    }, limitMinutes * 60_000);
    process.on('SIGINT', forward).on('SIGTERM', forward);

    if (onLine) createInterface({ input: child.stdout }).on('line', onLine);
    child.once('error', (cause) => {
      forget();
      reject(new Failure(`cannot run ${command}: ${cause.message}`, { cause }));
    });
    child.once('close', (code, signal) => {
      forget();
      if (interrupted) process.exit(128 + constants.signals[interrupted]);
      resolve(code ?? 128 + constants.signals[signal]);
    });
  });
}

/** Like `run`, but any exit code other than 0 is a `Failure`. */
export async function must(command, args, options) {
  const code = await run(command, args, options);
  if (code !== 0) throw new Failure(`${[command, ...args].join(' ')} ended with exit code ${code}`);
}

/** Ends a script: a `Failure` is one line on standard error, everything else keeps its stack. */
export async function main(work) {
  try {
    await work();
  } catch (error) {
    process.stderr.write(`${error instanceof Failure ? `error: ${error.message}` : error.stack}\n`);
    process.exitCode ||= 1;
  }
}
