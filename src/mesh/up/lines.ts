/** How does what a process writes become lines? A line that never ends is cut, so that it takes no more than its bound. */

import { StringDecoder } from 'node:string_decoder';

const LONGEST = 64 * 1024;

/** Cuts chunks into lines and hands each on. */
export class Lines {
  readonly #decoder = new StringDecoder('utf8');
  readonly #take: (line: string) => void;
  #rest = '';

  constructor(take: (line: string) => void) {
    this.#take = take;
  }

  write(chunk: Buffer): void {
    const parts = (this.#rest + this.#decoder.write(chunk)).split('\n');
    this.#rest = parts.pop() ?? '';
    for (const line of parts) this.#take(line.endsWith('\r') ? line.slice(0, -1) : line);
    if (this.#rest.length > LONGEST) {
      this.#take(this.#rest);
      this.#rest = '';
    }
  }

  /** What had no end yet is a line too. */
  end(): void {
    const rest = this.#rest + this.#decoder.end();
    this.#rest = '';
    if (rest !== '') this.#take(rest);
  }
}
