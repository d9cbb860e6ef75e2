/**
 * How much may a check cost its target?
 *
 * It tells whether a bound is there, which takes little; it is no tool to bring a server down. No option lifts these, but
 * for the time, which has its own most. Floods have theirs in `http2-attacks.ts`: twice what a good proxy bears.
 */

/** Connections that are open at once. */
export const MOST_CONNECTIONS = 4;
/** Bytes that are sent in all: four times what all rows take with a short URL, and enough with the longest. */
export const MOST_BYTES = 4 * 1024 * 1024;
/** Characters of a URL: it is in each request of a flood. */
export const LONGEST_URL = 512;
/** Bytes that are read of one connection: what comes behind is not looked at. */
export const MOST_READ = 1024 * 1024;
/** How long a connection, and TLS on it, may take to be made. */
export const CONNECT_MS = 5000;
/** How long an ordinary request may wait: a server that is well answers in much less. */
export const ORDINARY_MS = 5000;
/** How long a target has to show what it makes of an attack. */
export const VERDICT_MS = 3000;
/** How long is looked for a second answer, once the first has shown that the attack was taken. */
export const BEHIND_MS = 300;
/** When a head must be whole (row 10), and how long is waited for the target to say so. */
const HEADER_MS = 10_000;
export const SLOW_MS = 2 * HEADER_MS;
/** A slow client says something this often. */
export const DRIP_MS = 1000;
/** How long all of it may take: unless told otherwise, and at most. */
export const TIMEOUT_MS = 120_000;
export const LONGEST_TIMEOUT_MS = 600_000;

/** The time that is left of the whole. */
export class Deadline {
  readonly #end: number;

  constructor(ms: number) {
    this.#end = performance.now() + ms;
  }

  get isOver(): boolean {
    return performance.now() >= this.#end;
  }

  /** As long as that, or what is left if it is less. */
  within(ms: number): number {
    return Math.max(0, Math.min(ms, this.#end - performance.now()));
  }
}
