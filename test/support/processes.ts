// How does a test run other programs? Each is started by the test, ended by its id and heard to its end.

import {
  type ChildProcessWithoutNullStreams,
  type SpawnOptionsWithoutStdio,
  spawn,
} from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import { PATIENCE_MS, until, within } from './wait.js';

/** How a program ended. */
export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** What a finished program said. */
export interface Said extends Exit {
  stdout: Buffer;
  stderr: string;
}

/** A program that runs until the test ends it. */
export class Running {
  readonly exit: Promise<Exit>;
  #stdout: Buffer[] = [];
  #stderr: Buffer[] = [];
  #ended = false;

  constructor(
    readonly name: string,
    readonly child: ChildProcessWithoutNullStreams,
  ) {
    child.stdout.on('data', (chunk: Buffer) => this.#stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => this.#stderr.push(chunk));
    // Whoever has gone reads no more; that is seen by its exit.
    child.stdin.on('error', () => {});
    this.exit = once(child, 'close').then(([code, signal]: (number | string | null)[]) => {
      this.#ended = true;
      return { code: code as number | null, signal: signal as NodeJS.Signals | null };
    });
    this.exit.catch(() => {});
  }

  get pid(): number {
    if (this.child.pid === undefined) throw new Error(`${this.name} did not start`);
    return this.child.pid;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** What it wrote so far. */
  stdout(): Buffer {
    return Buffer.concat(this.#stdout);
  }

  /** What it said so far. */
  stderr(): string {
    return Buffer.concat(this.#stderr).toString();
  }

  /** Resolves with the match once standard error, from `from` on, holds it. */
  said(pattern: RegExp, from = 0): Promise<RegExpExecArray> {
    return until(`${this.name} says ${pattern}`, () => {
      const match = pattern.exec(this.stderr().slice(from));
      if (!match && this.#ended) throw new Error(`${this.name} ended, and said: ${this.stderr()}`);
      return match ?? undefined;
    });
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** Ends it at once. */
  async kill(): Promise<void> {
    if (!this.#ended) this.child.kill('SIGKILL');
    await within(`the end of ${this.name}`, this.exit);
  }

  /** Memory in use, in bytes. */
  residentBytes(): number {
    return this.#memory('VmRSS');
  }

  /** The most memory that was ever in use, in bytes. */
  peakBytes(): number {
    return this.#memory('VmHWM');
  }

  #memory(what: string): number {
    const status = readFileSync(`/proc/${this.pid}/status`, 'utf8');
    return Number(new RegExp(`^${what}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]) * 1024;
  }

  /** CPU time it has had, in seconds, its kernel's included. */
  cpuSeconds(): number {
    // After the name in parentheses, which may hold anything: `utime` and `stime` in hundredths.
    const [, rest = ''] = /\) (.*)$/s.exec(readFileSync(`/proc/${this.pid}/stat`, 'utf8')) ?? [];
    const numbers = rest.split(' ').map(Number);
    return ((numbers[11] ?? 0) + (numbers[12] ?? 0)) / 100;
  }
}

/** Starts a program that ends with the test. */
export function start(
  t: Pick<ExecutionContext, 'teardown'>,
  file: string,
  args: readonly string[],
  options: SpawnOptionsWithoutStdio = {},
): Running {
  const running = new Running(file, spawn(file, args, { ...options, stdio: 'pipe' }));
  t.teardown(() => running.kill());
  return running;
}

/** Runs a program to its end, `input` on its standard input; a failing exit code is an answer. */
export async function run(
  file: string,
  args: readonly string[],
  {
    input,
    patienceMs = PATIENCE_MS,
    ...options
  }: SpawnOptionsWithoutStdio & { input?: string | Buffer; patienceMs?: number } = {},
): Promise<Said> {
  const running = new Running(file, spawn(file, args, { ...options, stdio: 'pipe' }));
  running.child.stdin.end(input);
  try {
    const exit = await within(`the end of ${file} ${args.join(' ')}`, running.exit, patienceMs);
    return { ...exit, stdout: running.stdout(), stderr: running.stderr() };
  } catch (error) {
    running.child.kill('SIGKILL');
    throw error;
  }
}

/** Runs a program that must succeed; gives its standard output as text. */
export async function must(
  file: string,
  args: readonly string[],
  options: Parameters<typeof run>[2] = {},
): Promise<string> {
  const { code, signal, stdout, stderr } = await run(file, args, options);
  if (code !== 0)
    throw new Error(`${file} ${args.join(' ')}: ${code ?? signal}\n${stderr}${stdout.toString()}`);
  return stdout.toString();
}
