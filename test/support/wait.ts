// How long may a test wait? Never for a span of time, always for a condition, and never for ever.

import { setTimeout as sleep } from 'node:timers/promises';

/** Long enough for a busy machine with two cores, short enough to name what did not happen. */
export const PATIENCE_MS = 20_000;

/**
 * How long who is silent has to say a request where there is no server to call, or streams are denied: `LAST_WORD` of the
 * core.
 */
export const LAST_WORD_MS = 1000;

/** Resolves with the first value of `look` that is neither undefined nor false; fails with `what` when none comes. */
export async function until<T>(
  what: string,
  look: () => T | undefined | false | Promise<T | undefined | false>,
  patienceMs = PATIENCE_MS,
): Promise<T> {
  const end = performance.now() + patienceMs;
  for (;;) {
    const seen = await look();
    if (seen !== undefined && seen !== false) return seen;
    if (performance.now() > end) throw new Error(`did not happen within ${patienceMs} ms: ${what}`);
    await sleep(5);
  }
}

/** The promise's value, or a failure that says what did not come in time. */
export async function within<T>(what: string, promise: PromiseLike<T>, patienceMs = PATIENCE_MS): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, fail) => {
    timer = setTimeout(fail, patienceMs, new Error(`did not come within ${patienceMs} ms: ${what}`));
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * What comes of something of which a part has to be done within a span, since its end is a proxy's to set. `attempt` says
 * when that part is done; one that took longer than the span, because this process was held up, says nothing. One that
 * fails sooner says what it says.
 */
export function inTime<T>(
  what: string,
  spanMs: number,
  attempt: (done: () => void) => Promise<T>,
): Promise<T> {
  return until(what, async () => {
    const begun = performance.now();
    let took: number | undefined;
    try {
      return await attempt(() => (took = performance.now() - begun));
    } catch (error) {
      if ((took ?? performance.now() - begun) < spanMs) throw error;
      return undefined;
    }
  });
}
