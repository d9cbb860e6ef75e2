/**
 * What becomes of what is said while nobody reads it?
 *
 * Whoever reads a pipe may be slow or stand still (`mesh up | less`), and what waits for him is kept in memory. A command
 * that serves goes on meanwhile, so that this has a bound: what finds no room is dropped, counted, and told of as soon as
 * there is room again.
 */

import type { Output } from './io.js';

const MIB = 1024 * 1024;
/** How much may wait when one more is said. What others say leaves room for what the command says itself. */
const ROOM = { others: 4 * MIB, own: 8 * MIB };
/** How long a reader has for what is left, once the command has ended. */
const LAST_WORDS_MS = 2000;

export class Unread {
  readonly #output: Output;
  #dropped = 0;

  constructor(output: Output) {
    this.#output = output;
  }

  /** Whether there is room for one more; else it is counted as dropped. */
  takes(whose: keyof typeof ROOM): boolean {
    if ((this.#output.writableLength ?? 0) < ROOM[whose]) return true;
    this.#dropped += 1;
    return false;
  }

  /** How many were dropped and are not told of, where there is room to do that now. */
  dropped(): number {
    if (this.#dropped === 0 || (this.#output.writableLength ?? 0) >= ROOM.others) return 0;
    const count = this.#dropped;
    this.#dropped = 0;
    return count;
  }
}

/** A process whose work is done ends, whether its last words are read or not. */
export function endUnread(): void {
  setTimeout(() => process.exit(), LAST_WORDS_MS).unref();
}
