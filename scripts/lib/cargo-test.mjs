// What do the lines of `cargo test` add up to?
//
// Each test binary ends with a `test result:` line. Passing tests are counted and not shown: there are thousands.

/** The most lines of a failure that are told once more at the end. */
const LINES = 60;

export class CargoTestCounter {
  passed = 0;
  failed = 0;
  skipped = 0;
  /** What failed, with why, in lines. */
  failures = [];
  /** How many lines of the failure that is being told are still kept. */
  #left = 0;

  /** Takes one line; returns false when it is of no use to a reader. */
  line(text) {
    const result = /^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/.exec(text);
    if (result) {
      this.passed += Number(result[1]);
      this.failed += Number(result[2]);
      this.skipped += Number(result[3]);
    }
    // `---- name stdout ----` and what it printed; behind the last of them, the names of all.
    if (/^---- .* ----$/.test(text)) this.#left = LINES;
    else if (text === 'failures:') this.#left = 0;
    if (this.#left > 0 && text !== '') {
      this.#left -= 1;
      this.failures.push(text);
    }
    return text !== '' && !/^test .* \.\.\. (ok|ignored.*)$/.test(text) && !/^running \d+ tests?$/.test(text);
  }

  /** Takes cargo's exit code: tests that do not compile, or a binary that crashed, have no line of their own. */
  end(code) {
    if (code !== 0 && this.failed === 0) this.failed += 1;
  }
}
