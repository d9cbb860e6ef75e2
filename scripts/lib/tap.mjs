// What do the lines of a TAP stream add up to?
//
// ava's own totals count a todo as a failure, and its reporter can die with a crashed test file; so the lines are
// counted here, and a stream that ends without its plan, or a failing exit code that no line explains, is a failure.

import { Failures } from './failures.mjs';

export class TapCounter {
  passed = 0;
  failed = 0;
  skipped = 0;
  failures = new Failures();
  #planned = false;

  /** Takes one line; returns false when it is of no use to a reader. */
  line(text) {
    if (/^1\.\.\d+/.test(text)) {
      this.#planned = true;
      return false;
    }
    const result = /^(not )?ok \d+/.exec(text);
    if (result) this.failures.end();
    if (result && /# (SKIP|TODO)/i.test(text)) this.skipped += 1;
    else if (result?.[1]) {
      this.failed += 1;
      this.failures.begin();
    } else if (result) this.passed += 1;
    this.failures.line(text);
    return text !== '' && !/^(TAP version|# (tests|pass|fail|skip|todo) )/.test(text);
  }

  /** Takes the exit code of the program that wrote the stream. */
  end(code) {
    if (!this.#planned || (code !== 0 && this.failed === 0)) this.failed += 1;
  }
}
