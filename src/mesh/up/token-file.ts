/**
 * How does a sidecar find a token whenever it needs one, and nobody else when it does not? In a file that is there as long
 * as it has not joined.
 *
 * It needs one again when its certificate has ended, as one does while a machine sleeps.
 */

import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Turns } from '../../turns.js';
import type { TokenOptions } from '../control-plane.js';
import type { MeshFolder } from './folder.js';

/** A sidecar asks again when an answer was lost on the way. */
const TOKEN: TokenOptions = { uses: 3, ttlMs: 5 * 60_000 };

export class TokenFile {
  readonly path: string;
  readonly #write: (token: string) => Promise<unknown>;
  readonly #issue: (options: TokenOptions) => string;
  /** Until when what is in it, or will be, is good: by the clock that goes on while a machine sleeps. */
  #endMs = 0;
  /** Whether it was there, and nobody here took it away. */
  #isWritten = false;
  readonly #turns = new Turns();

  /** `issue` makes a token. */
  constructor(folder: MeshFolder, name: string, issue: (options: TokenOptions) => string) {
    this.path = join(folder.path, name);
    this.#write = (token) => folder.write(name, token);
    this.#issue = issue;
  }

  /** Sees to it that a good token is in it. One that can't be made or written is tried again when it would have ended. */
  async keep(): Promise<void> {
    const isTaken = this.#isWritten && !existsSync(this.path);
    if (Date.now() < this.#endMs && !isTaken) {
      await this.#turns.settled;
      return;
    }
    this.#endMs = Date.now() + TOKEN.ttlMs;
    this.#isWritten = false;
    await this.#turns.run(async () => {
      await this.#write(this.#issue(TOKEN));
      this.#isWritten = true;
    });
  }

  /** Takes it away. */
  forget(): Promise<void> {
    this.#endMs = 0;
    this.#isWritten = false;
    return this.#turns.run(() => rm(this.path, { force: true }));
  }
}
