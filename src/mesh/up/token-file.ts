/**
 * How does a sidecar find a token whenever it needs one, and nobody else when it does not? In a file that is there as long
 * as it has not joined.
 *
 * It needs one again when its certificate has ended, as one does while a machine sleeps.
 */

import { rm } from 'node:fs/promises';
import { replaceFile } from '../../files.js';
import { Turns } from '../../turns.js';
import type { TokenOptions } from '../control-plane.js';

/** A sidecar asks again when an answer was lost on the way. */
const TOKEN: TokenOptions = { uses: 3, ttlMs: 5 * 60_000 };

export class TokenFile {
  readonly path: string;
  readonly #issue: (options: TokenOptions) => string;
  /** Until when what is in it, or will be, is good: by the clock that goes on while a machine sleeps. */
  #endMs = 0;
  readonly #turns = new Turns();

  /** `issue` makes a token. */
  constructor(path: string, issue: (options: TokenOptions) => string) {
    this.path = path;
    this.#issue = issue;
  }

  /** Sees to it that a good token is in it. One that can't be made or written is tried again when it would have ended. */
  async keep(): Promise<void> {
    if (Date.now() < this.#endMs) {
      await this.#turns.settled;
      return;
    }
    this.#endMs = Date.now() + TOKEN.ttlMs;
    await this.#turns.run(() => replaceFile(this.path, this.#issue(TOKEN)));
  }

  /** Takes it away. */
  forget(): Promise<void> {
    this.#endMs = 0;
    return this.#turns.run(() => rm(this.path, { force: true }));
  }
}
