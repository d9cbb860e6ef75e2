/**
 * How does one copy live? It is started, becomes ready, is started again when it dies, and ends when it is told to.
 *
 *     starting ──> ready <──> unready        a copy that answers no more gets no requests until it answers again
 *         └──────────┴──> waiting ──> starting     it died: a pause that doubles, from 1 s to 30 s
 *     stopping ──> ended
 *
 * Between the moment that ports were found free and the moment that somebody listens on them, others may take them. Whoever
 * loses one that way ends, or is ended, and has other ones at the next start.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../../thrown.js';
import { Lines } from './lines.js';
import { type CopyPlan, type Places, labelOf } from './places.js';
import { type Missing, probe } from './probe.js';

/** How soon a copy is looked at again: while it starts, and once it is ready. */
const LOOK_MS = { starting: 100, ready: 2000 };
/** As often must it not answer before it gets no more requests: one late answer is no outage. */
const PATIENCE = 3;
const PAUSE_MS = { first: 1000, longest: 30_000 };
/** Whoever lived this long died of something new. */
const HEALTHY_MS = 60_000;
/** What it said last is read for so long after its end: whatever it left behind may hold its output open for ever. */
const LAST_WORDS_MS = 500;
/** What a sidecar says, again and again, that waits until it can have one of its ports. */
const NO_PORT = /can't listen on ([^\s,]+): /;
/** A killed sidecar ends its command in this time. */
const KILLED_MS = 3000;

type Phase = 'starting' | 'ready' | 'unready' | 'waiting' | 'stopping' | 'ended';

/** What is started. */
export interface Launch {
  readonly file: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly places: Places;
}

/** Who is told of a copy. */
interface CopyEvents {
  /** Gets what is to be started, for each start anew. */
  launch(copy: Copy): Promise<Launch>;
  /** It is in another phase. `why` says it for people. */
  changed(copy: Copy, why: string): void;
  /** Its sidecar is ready, whether its application is or not: once for each start, and when it was `apart`. */
  joined(copy: Copy): void;
  /** Its sidecar is not ready, at each look: it has not joined yet, or its certificate has ended. */
  apart(copy: Copy): void;
  /** It said something. */
  line(copy: Copy, stream: 'stdout' | 'stderr', text: string): void;
  /** The process has ended; what was made for it may go. */
  over(copy: Copy): void;
}

export class Copy {
  readonly plan: CopyPlan;
  readonly label: string;
  /** Where it is; undefined before its first start. */
  places: Places | undefined;
  phase: Phase = 'starting';
  /** How often it was started again. */
  restarts = 0;
  /** What it still waits for, while it is not ready. */
  missing: Missing;
  /** Why it ended, or was not started, the last time; undefined once it is ready again. */
  lastEnd: string | undefined;
  readonly #events: CopyEvents;
  readonly #stopping = new AbortController();
  #child: ChildProcess | undefined;
  #living: Promise<void> | undefined;

  constructor(plan: CopyPlan, events: CopyEvents) {
    this.plan = plan;
    this.label = labelOf(plan);
    this.#events = events;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  start(): void {
    this.#living ??= this.#live();
  }

  /** Asks it to end; resolves when it has. */
  async stop(): Promise<void> {
    if (!this.#stopping.signal.aborted) {
      this.#stopping.abort();
      if (this.phase !== 'ended') this.#set('stopping', 'draining');
      this.#child?.kill('SIGTERM');
    }
    await this.#living;
  }

  /** Ends it at once; resolves when it has. */
  async kill(): Promise<void> {
    const first = !this.#stopping.signal.aborted;
    this.#stopping.abort();
    const child = this.#child;
    // The first signal drains, the second one ends.
    if (first) child?.kill('SIGTERM');
    child?.kill('SIGINT');
    const late = setTimeout(() => child?.kill('SIGKILL'), KILLED_MS);
    await this.#living;
    clearTimeout(late);
  }

  async #live(): Promise<void> {
    const { signal } = this.#stopping;
    let pause = PAUSE_MS.first;
    while (!signal.aborted) {
      const born = performance.now();
      const why = await this.#liveOnce().finally(() => this.#events.over(this));
      if (signal.aborted) break;
      this.lastEnd = why;
      if (performance.now() - born > HEALTHY_MS) pause = PAUSE_MS.first;
      this.#set('waiting', `${why}; starting it again in ${pause / 1000} s`);
      await sleep(pause, undefined, { signal }).catch(() => {});
      pause = Math.min(2 * pause, PAUSE_MS.longest);
      if (!signal.aborted) this.restarts += 1;
    }
    this.#set('ended', 'ended');
  }

  /** From the start of the process to its end, which is told in words. */
  async #liveOnce(): Promise<string> {
    const { signal } = this.#stopping;
    this.#set('starting', 'starting');
    let child: ChildProcess;
    let places: Places;
    try {
      const launch = await this.#events.launch(this);
      if (signal.aborted) return 'it is not wanted any more';
      ({ places } = launch);
      child = spawn(launch.file, launch.args, {
        env: launch.env,
        cwd: this.plan.process.cwd,
        stdio: ['ignore', 'pipe', 'pipe'],
        // Ctrl-C is for this process, which drains first.
        detached: true,
      });
    } catch (error) {
      return `it can't be started: ${messageOf(error)}`;
    }
    this.places = places;
    this.#child = child;
    let lost: string | undefined;
    this.#listen(child, 'stdout');
    this.#listen(child, 'stderr', (text) => {
      if (lost !== undefined || this.phase !== 'starting') return;
      const [, address = ''] = NO_PORT.exec(text) ?? [];
      if (!places.free.has(address)) return;
      lost = address;
      child.kill('SIGTERM');
    });
    const over = new AbortController();
    const closed = once(child, 'close');
    child.once('exit', () => {
      const late = setTimeout(() => {
        child.stdout?.destroy();
        child.stderr?.destroy();
      }, LAST_WORDS_MS);
      child.once('close', () => clearTimeout(late));
    });
    const ended = closed.then(
      ([code, killer]: (number | string | null)[]) =>
        killer === null || killer === undefined
          ? `it ended with exit code ${code}`
          : `it was ended by ${killer}`,
      (error: unknown) => `it can't be started: ${this.#whyNoStart(error)}`,
    );
    const watching = this.#watch(places, over.signal);
    const why = await ended;
    over.abort();
    this.#child = undefined;
    await watching;
    return lost === undefined ? why : `somebody else has ${lost} by now`;
  }

  /** The system names the program also where its folder is what is missing. */
  #whyNoStart(error: unknown): string {
    const { cwd } = this.plan.process;
    if (!existsSync(cwd)) return `its cwd ${cwd} is not there`;
    return messageOf(error);
  }

  #listen(child: ChildProcess, stream: 'stdout' | 'stderr', heard: (text: string) => void = () => {}): void {
    const lines = new Lines((text) => {
      this.#events.line(this, stream, text);
      heard(text);
    });
    child[stream]?.on('data', (chunk: Buffer) => lines.write(chunk)).once('end', () => lines.end());
  }

  /** Looks whether it is ready, until it is over. */
  async #watch({ admin, ports }: Places, signal: AbortSignal): Promise<void> {
    const { service, process } = this.plan;
    const application = ports.get(service.ports[0]?.port ?? 0) ?? '';
    let failures = 0;
    let hasJoined = false;
    while (!signal.aborted && !this.#stopping.signal.aborted) {
      const missing = await probe(admin, application, process.ready);
      if (signal.aborted || this.#stopping.signal.aborted) return;
      this.missing = missing;
      failures = missing === undefined ? 0 : failures + 1;
      if (missing?.who !== 'sidecar') {
        if (!hasJoined) this.#events.joined(this);
        hasJoined = true;
      } else if (failures >= PATIENCE) {
        hasJoined = false;
        this.#events.apart(this);
      }
      if (missing === undefined && this.phase !== 'ready') this.#set('ready', 'ready');
      if (failures >= PATIENCE && this.phase === 'ready') this.#set('unready', `not ready: ${missing?.what}`);
      const pause = this.phase === 'ready' && failures === 0 ? LOOK_MS.ready : LOOK_MS.starting;
      await sleep(pause, undefined, { signal }).catch(() => {});
    }
  }

  #set(phase: Phase, why: string): void {
    if (this.phase === 'ended') return;
    this.phase = phase;
    if (phase === 'ready') this.lastEnd = undefined;
    if (phase !== 'ready' && phase !== 'unready' && phase !== 'starting') this.missing = undefined;
    this.#events.changed(this, why);
  }
}
