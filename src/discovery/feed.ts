/**
 * How is a source kept alive?
 *
 *     begin ──> said all ──> changes ──┐
 *       ^                              │ throws, returns, or says nothing for too long
 *       └───── a longer pause each time ┘
 *
 * Invariant: what a source had stays until it has said, after it was begun anew, all there is. A source that fails or
 * falls silent takes nothing away.
 */

import { setImmediate as othersTurn, setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import { messageOf } from '../thrown.js';
import {
  type EndpointMap,
  EndpointError,
  MAX_ENDPOINTS,
  changeIn,
  endpointOf,
  endpointsIn,
} from './endpoints.js';
import type { DiscoveredEndpoint, EndpointChange, NamedSource, SourceEvent, SourceStatus } from './types.js';

/** The pause before a source is begun again: what has just ended is often back at once. It doubles each time ... */
const FIRST_PAUSE_MS = 250;
/** ... up to this: rare enough to be no load, often enough not to be waited for. */
const LONGEST_PAUSE_MS = 30_000;
/** A source that lived this long after it said all has failed for another reason than last time. */
const HEALTHY_MS = 10_000;
/** A source that was begun and says nothing for so long hangs. */
const SILENCE_MS = 30_000;
/** How many changes of one source are taken before it is the turn of all else that this process does ... */
const TURN_CHANGES = 100;
/** ... and how long that may take: a change of 10,000 endpoints takes some milliseconds. */
const TURN_MS = 10;
/** What is no source may be long. */
const LONGEST_SHOWN = 100;

/** Who hears of a source. */
interface FeedOptions {
  readonly service: string;
  readonly source: NamedSource;
  /** What it had when the process ended. */
  readonly known?: readonly DiscoveredEndpoint[];
  readonly changed: () => void;
  readonly tell: (event: SourceEvent) => void;
  /** 0 to 1. */
  readonly random?: () => number;
  /** How long a source that was begun may say nothing. Default: 30 s. */
  readonly silenceMs?: number;
}

/** A source that is followed until `stop()`. */
export class Feed {
  readonly #options: FeedOptions;
  readonly #random: () => number;
  readonly #end = new AbortController();
  /** What is in force. */
  #good: EndpointMap;
  /** What the source has added since it was begun; absent once it has said all. */
  #making: EndpointMap | undefined;
  #saidAtMs: number | null = null;
  #failingSinceMs: number | null = null;
  #problem: string | null = null;
  #restarts = 0;
  #state: SourceStatus['state'] = 'waiting';
  /** Ends the wait for what the source says next. */
  #giveUp: (reason: unknown) => void = () => {};
  readonly #running: Promise<void>;

  constructor(options: FeedOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
    this.#good = new Map((options.known ?? []).map((each) => [each.address, each]));
    this.#end.signal.addEventListener('abort', () => this.#giveUp(this.#end.signal.reason), { once: true });
    this.#running = this.#run();
  }

  get endpoints(): Iterable<DiscoveredEndpoint> {
    return this.#good.values();
  }

  /** What it is known by. */
  get key(): unknown {
    return this.#options.source.key;
  }

  /** Whether it has said, since it is followed, all there is. */
  get hasSaidAll(): boolean {
    return this.#saidAtMs !== null;
  }

  /** Whether it has done that, or has failed to. */
  get hasSpoken(): boolean {
    return this.hasSaidAll || this.#problem !== null;
  }

  status(): SourceStatus {
    return {
      service: this.#options.service,
      name: this.#options.source.name,
      state: this.#state,
      endpoints: this.#good.size,
      saidAtMs: this.#saidAtMs,
      failingSinceMs: this.#failingSinceMs,
      restarts: this.#restarts,
      problem: this.#problem,
    };
  }

  /** Ends it; resolves when nothing of this process waits for it any more. */
  stop(): Promise<void> {
    this.#end.abort();
    return this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#end;
    let pauseMs = FIRST_PAUSE_MS;
    while (!signal.aborted) {
      const attempt = new AbortController();
      const begunAt = performance.now();
      let reason = 'it ended';
      let isFailure = false;
      try {
        await this.#follow(attempt.signal);
        // One that has said all and returns wants to be asked again later.
        isFailure = this.#making !== undefined;
      } catch (error) {
        isFailure = true;
        reason = whyOf(error);
      }
      attempt.abort();
      if (signal.aborted) return;
      const lived = performance.now() - begunAt;
      if (this.#making === undefined && lived > HEALTHY_MS) pauseMs = FIRST_PAUSE_MS;
      // Half of it by chance: what failed together does not come again together.
      const retryMs = Math.round(pauseMs * (0.5 + this.#random() / 2));
      if (isFailure) this.#failed(reason, retryMs);
      pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
      await sleep(retryMs, undefined, { signal, ref: false }).catch(() => {});
      this.#restarts += 1;
    }
  }

  async #follow(signal: AbortSignal): Promise<void> {
    this.#making = new Map();
    const iterator = followable(this.#options.source.source(signal))[Symbol.asyncIterator]();
    const { silenceMs = SILENCE_MS } = this.#options;
    const silent = new EndpointError(`it said nothing for ${silenceMs} ms`);
    const silence = setTimeout(() => this.#giveUp(silent), silenceMs).unref();
    // When its turn began: absent where all else has had one since, as it has while the source waits.
    let begunAt: number | undefined;
    let changes = 0;
    try {
      for (;;) {
        const { done, value } = await this.#next(iterator);
        if (done === true) return;
        clearTimeout(silence);
        if (begunAt === undefined) {
          begunAt = performance.now();
          changes = 0;
          setImmediate(() => (begunAt = undefined));
        }
        this.#take(value);
        changes += 1;
        if (changes < TURN_CHANGES && performance.now() - begunAt < TURN_MS) continue;
        // One that never waits would keep everybody else from going on, and us from ending it.
        await othersTurn();
      }
    } finally {
      clearTimeout(silence);
      // Whoever hangs is not waited for, and how it ends is nothing new.
      void Promise.resolve()
        .then(() => iterator.return?.())
        .catch(() => {});
    }
  }

  #next(iterator: AsyncIterator<EndpointChange>): Promise<IteratorResult<EndpointChange, unknown>> {
    return new Promise((resolve, reject) => {
      this.#giveUp = reject;
      if (this.#end.signal.aborted) reject(this.#end.signal.reason as Error);
      // Written by hand, it may give no promise.
      else Promise.resolve(iterator.next()).then(resolve, reject);
    });
  }

  #take(said: unknown): void {
    let change: EndpointChange;
    try {
      change = changeIn(said);
      this.#apply(change);
    } catch (error) {
      // Whole or not at all: what is known stays.
      this.#troubled(whyOf(error));
      return;
    }
    const { problem } = change as { readonly problem?: unknown };
    const isOnlyProblem = problem !== undefined && !('set' in change);
    if (!isOnlyProblem) {
      if (this.#making === undefined) this.#saidAtMs = Date.now();
      this.#options.changed();
      if (this.#making !== undefined) return;
    }
    if (problem === undefined) this.#well();
    else this.#troubled(whyOf(problem));
  }

  #apply(change: EndpointChange): void {
    if ('set' in change) {
      this.#good = endpointsIn(change.set);
      this.#making = undefined;
    } else if ('add' in change) {
      const endpoint = endpointOf(change.add, 'add');
      if (this.#good.size >= MAX_ENDPOINTS && !this.#good.has(endpoint.address))
        throw new EndpointError(`more than ${MAX_ENDPOINTS} endpoints`);
      this.#making?.set(endpoint.address, endpoint);
      this.#good.set(endpoint.address, endpoint);
    } else if ('remove' in change) {
      const { address } = endpointOf(change.remove, 'remove');
      this.#making?.delete(address);
      this.#good.delete(address);
    } else if ('complete' in change && this.#making !== undefined) {
      this.#good = this.#making;
      this.#making = undefined;
    }
  }

  #well(): void {
    const wasFailing = this.#state === 'failing';
    this.#state = 'live';
    this.#failingSinceMs = null;
    this.#problem = null;
    if (wasFailing) this.#tell('sourceLive');
  }

  #troubled(reason: string): void {
    this.#failingSinceMs ??= Date.now();
    this.#state = 'failing';
    const isNew = this.#problem !== reason;
    this.#problem = reason;
    if (isNew) this.#tell('sourceProblem', { reason });
  }

  #failed(reason: string, retryMs: number): void {
    this.#failingSinceMs ??= Date.now();
    this.#state = 'failing';
    this.#problem = reason;
    this.#tell('sourceFailed', { reason, retryMs });
  }

  #tell(kind: SourceEvent['kind'], more: Pick<SourceEvent, 'reason' | 'retryMs'> = {}): void {
    const { service, source } = this.#options;
    this.#options.tell({ kind, service, source: source.name, endpoints: this.#good.size, ...more });
  }
}

/** What a source gives, if that can be followed: no compiler may have looked at it. */
function followable(given: unknown): AsyncIterable<EndpointChange> {
  if (isAsyncIterable(given)) return given;
  // An async function that should have been a generator: how it ends is nothing new.
  void Promise.resolve(given).catch(() => {});
  const shown = inspect(given, { depth: 0, breakLength: Infinity, maxArrayLength: 3 });
  throw new EndpointError(`expected an async generator, received ${shown.slice(0, LONGEST_SHOWN)}`);
}

function isAsyncIterable(given: unknown): given is AsyncIterable<EndpointChange> {
  const begin = (given as Partial<AsyncIterable<unknown>> | null | undefined)?.[Symbol.asyncIterator];
  return typeof begin === 'function';
}

/** In words. What a connection fails by is said by its cause. */
function whyOf(error: unknown): string {
  if (!(error instanceof Error)) return messageOf(error);
  const cause = error.cause instanceof Error ? `: ${error.cause.message}` : '';
  return `${error.message}${cause}` || error.name;
}
