/**
 * What did a control plane say that etcd has not heard, when it starts again?
 *
 * Its last words stand in the state folder before etcd is asked to take them, until it has: an older word that etcd has does
 * not undo them then. Words for another place in etcd are none.
 */

import { StateError } from '../errors.js';
import type { Word } from './shared-denied.js';
import type { StateFile } from './state.js';

/** What is to be said. */
export interface Words {
  /** Who is revoked, or is not any more. */
  readonly said: readonly Word[];
  /** Whose tokens of before are void. */
  readonly voids: readonly string[];
}

/** The words in the state folder. */
export class Unsaid {
  readonly #file: StateFile;
  readonly #place: string;
  /** What the file says, unless there is none. */
  #text: string | undefined;

  constructor(file: StateFile, place: string) {
    this.#file = file;
    this.#place = place;
  }

  /**
   * What was not heard yet.
   *
   * @throws {StateError} the file can't be read, or makes no sense
   */
  async read(): Promise<Words> {
    this.#text = await this.#file.read();
    if (this.#text === undefined) return { said: [], voids: [] };
    const { place, said, voids } = wordsIn(this.#text, this.#file.path);
    return place === this.#place ? { said, voids } : { said: [], voids: [] };
  }

  /** @throws {StateError} the file can't be written */
  async write({ said, voids }: Words): Promise<void> {
    const isNothing = said.length + voids.length === 0;
    const text = JSON.stringify({ place: this.#place, said, voids });
    if (text === this.#text || (isNothing && this.#text === undefined)) return;
    // At once: whoever writes next is to see it.
    this.#text = text;
    await this.#file.write(text).catch((error: unknown) => {
      this.#text = 'unknown';
      throw error;
    });
  }
}

function wordsIn(text: string, path: string): Words & { readonly place: string } {
  try {
    const { place, said, voids } = JSON.parse(text) as Words & { place: string };
    const makesSense =
      typeof place === 'string' &&
      said.every(
        ({ whom, denied, since }) =>
          typeof whom === 'string' &&
          typeof denied === 'boolean' &&
          typeof since === 'string' &&
          /^\d{1,19}$/.test(since),
      ) &&
      voids.every((whom) => typeof whom === 'string');
    if (makesSense) return { place, said, voids };
  } catch {
    // Told below.
  }
  throw new StateError(`${path} makes no sense: remove it, and revoke again whom etcd has not heard of`);
}
