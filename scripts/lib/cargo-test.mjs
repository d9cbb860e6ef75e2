// What do the lines of `cargo test` add up to?
//
// Each test binary ends with a `test result:` line. Passing tests are counted and not shown: there are thousands.

import { Failures } from './failures.mjs';

export class CargoTestCounter {
  passed = 0;
  failed = 0;
  skipped = 0;
  failures = new Failures();

  /** Takes one line; returns false when it is of no use to a reader. */
  line(text) {
    const result = /^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/.exec(text);
    if (result) {
      this.passed += Number(result[1]);
      this.failed += Number(result[2]);
      this.skipped += Number(result[3]);
    }
    // `---- name stdout ----` and what it printed; behind the last of them, the names of all.
    if (/^---- .* ----$/.test(text)) this.failures.begin();
    else if (text === 'failures:') this.failures.end();
    this.failures.line(text);
    return text !== '' && !/^test .* \.\.\. (ok|ignored.*)$/.test(text) && !/^running \d+ tests?$/.test(text);
  }

  /** Takes cargo's exit code: tests that do not compile, or a binary that crashed, have no line of their own. */
  end(code) {
    if (code !== 0 && this.failed === 0) this.failed += 1;
  }
}
