/**
 * How is a mesh shown while it runs? In a pipe as plain lines; on a terminal with colours, and a table that stays below
 * whatever is said.
 */

import type picocolors from 'picocolors';

/** The part of an output that is used. */
interface Screen {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

type Colours = ReturnType<typeof picocolors.createColors>;

/** Lines above, a table below. */
export class MeshScreen {
  readonly #screen: Screen;
  readonly #colours: Colours;
  readonly #hues: readonly ((text: string) => string)[];
  readonly #hueOf = new Map<string, number>();
  #table: readonly string[] = [];
  #drawn = 0;

  constructor(screen: Screen, colours: Colours) {
    this.#screen = screen;
    this.#colours = colours;
    const { cyan, yellow, green, magenta, blue } = colours;
    this.#hues = [cyan, yellow, green, magenta, blue];
  }

  /** A line of the mesh's own. */
  say(text: string): void {
    this.#above(`${text}\n`);
  }

  /** A line that a copy of a service wrote. */
  line(service: string, label: string, text: string): void {
    const hue = this.#hueOf.get(service) ?? this.#hueOf.size;
    this.#hueOf.set(service, hue);
    const paint = this.#hues[hue % this.#hues.length] ?? ((plain: string) => plain);
    this.#above(`${paint(`[${label}]`)} ${text}\n`);
  }

  /** Shows a table until the next one. In a pipe there is none. */
  table(lines: readonly string[]): void {
    if (this.#screen.isTTY !== true) return;
    this.#table = lines;
    this.#above('');
  }

  #above(text: string): void {
    const { isTTY, columns } = this.#screen;
    if (isTTY !== true || this.#table.length + this.#drawn === 0) {
      this.#screen.write(text);
      return;
    }
    // Up to where the table began, and everything below is wiped. A line that wraps would be two.
    const back = this.#drawn > 0 ? `\u001B[${this.#drawn}A\u001B[J` : '';
    const width = columns || 80;
    const rows = this.#table.map((row, index) => {
      const cut = row.slice(0, width - 1);
      return index === 0 ? this.#colours.bold(cut) : cut;
    });
    this.#screen.write(`${back}${text}${rows.map((row) => `${row}\n`).join('')}`);
    this.#drawn = rows.length;
  }
}
