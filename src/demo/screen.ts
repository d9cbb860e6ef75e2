/** Where is the table drawn? On a terminal always at the same place, in a pipe as plain lines. */

import { styleText } from 'node:util';

/** The part of standard output that is used. */
export interface Screen {
  write(text: string): unknown;
  readonly isTTY?: boolean;
}

export class TableDrawer {
  readonly #screen: Screen;
  readonly #heading: string;
  #drawn = 0;

  constructor(screen: Screen, heading: string) {
    this.#screen = screen;
    this.#heading = heading;
  }

  draw(lines: readonly string[]): void {
    const isTTY = this.#screen.isTTY === true;
    const all = isTTY || this.#drawn === 0 ? [this.#heading, ...lines] : lines;
    const text = all.map((line, index) => (isTTY && index === 0 ? styleText('bold', line) : line));
    // Up to where the last table began, and everything below is wiped.
    const back = isTTY && this.#drawn > 0 ? `\u001B[${this.#drawn}A\u001B[J` : '';
    this.#screen.write(`${back}${text.join('\n')}\n`);
    this.#drawn = all.length;
  }
}
