// What failed in a run of tests, and why? Kept to be told once more at the end, where it is found.

/** The most lines that are kept of one failure. */
const LINES = 60;

export class Failures {
  lines = [];
  /** How many lines of the failure that is being told are still kept. */
  #left = 0;

  /** A failure begins with the next line. */
  begin() {
    this.#left = LINES;
  }

  /** It has been told. */
  end() {
    this.#left = 0;
  }

  /** Takes a line, of a failure or of anything else. */
  line(text) {
    if (this.#left === 0 || text === '') return;
    this.#left -= 1;
    this.lines.push(text);
  }
}
