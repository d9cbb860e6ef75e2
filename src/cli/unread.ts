/**
 * What becomes of what is said while nobody reads it?
 *
 * Whoever reads a pipe may be slow or stand still (`mesh up | less`), and what waits for him is kept in memory. A command
 * that serves goes on meanwhile, so that this has a bound: what finds no room is dropped, counted, and told of as soon as
 * there is room again.
 */

import type { Output } from './io.js';
import type { Format } from './output.js';

const MIB = 1024 * 1024;
/** How much may wait when one more is said. What others say leaves room for what the command says itself. */
const ROOM = { others: 4 * MIB, own: 8 * MIB };
/** What is told of them, beside how many they were. */
export const DROPPED = 'lines were dropped: nobody read them in time';
/** How long a reader has for what is left, once the command has ended. */
const LAST_WORDS_MS = 2000;

/** Whether the command says it itself. */
export type Whose = keyof typeof ROOM;

export class Unread {
  readonly #output: Output;
  #dropped = 0;

  constructor(output: Output) {
    this.#output = output;
  }

  /** Whether there is room for one more, or for some that belong together; else they are counted as dropped. */
  takes(whose: Whose, lines = 1): boolean {
    if ((this.#output.writableLength ?? 0) < ROOM[whose]) return true;
    this.#dropped += lines;
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

/** An output of a command that serves, with that bound. */
export class BoundedOutput implements Output {
  readonly #output: Output;
  readonly #unread: Unread;
  readonly #told: (lines: number) => string;

  /** `told` words how many lines were dropped. */
  constructor(output: Output, told: (lines: number) => string) {
    this.#output = output;
    this.#unread = new Unread(output);
    this.#told = told;
  }

  get isTTY(): boolean | undefined {
    return this.#output.isTTY;
  }

  /** Takes whole lines. */
  write(text: string, whose: Whose = 'own'): void {
    const dropped = this.#unread.dropped();
    if (dropped > 0) this.#output.write(this.#told(dropped));
    if (this.#unread.takes(whose, text.split('\n').length - 1)) this.#output.write(text);
  }
}

/** How many lines were dropped, as a line of a command's own. */
export function droppedLine(format: Format): (lines: number) => string {
  return (lines) =>
    `${format === 'json' ? JSON.stringify({ event: 'dropped', lines }) : droppedText(lines)}\n`;
}

export function droppedText(lines: number): string {
  return `${lines} ${DROPPED}`;
}

/** A process whose work is done ends, whether its last words are read or not. */
export function endUnread(): void {
  setTimeout(() => process.exit(), LAST_WORDS_MS).unref();
}
