/**
 * What issuer does a control plane share when etcd has lost it, or does not answer at a start?
 *
 * The one that it shared last, in its state folder: encrypted as it is in etcd, for the same place there. One of another
 * place is none.
 */

import { StateError } from '../errors.js';
import type { StateFile } from './state.js';
import { type SharedIssuer, readKey, seal, unseal } from './vault.js';

/** What is in the file. */
interface Kept {
  readonly place: string;
  readonly authority: string;
}

/** The issuer in the state folder. */
export class KeptIssuer {
  readonly #file: StateFile;
  readonly #place: string;
  readonly #keyFile: string;

  constructor(file: StateFile, place: string, keyFile: string) {
    this.#file = file;
    this.#place = place;
    this.#keyFile = keyFile;
  }

  /**
   * The one that was shared last; absent when there was none.
   *
   * @throws {StateError} when the key is another, or the file was changed
   */
  async read(): Promise<SharedIssuer | undefined> {
    const text = await this.#file.read();
    if (text === undefined) return undefined;
    const { place, authority } = keptIn(text);
    if (place !== undefined && place !== this.#place) return undefined;
    const key = await readKey(this.#keyFile);
    const opened = await unseal(authority ?? '', key, this.#place, this.#file.path).catch((cause: Error) => {
      const mend =
        'give it the key that it had; without the file this is another mesh, and sidecars need its roots';
      throw new StateError(`${cause.message}; ${mend}`);
    });
    return JSON.parse(opened) as SharedIssuer;
  }

  /** Keeps another one. */
  async write(made: SharedIssuer): Promise<void> {
    const authority = await seal(JSON.stringify(made), await readKey(this.#keyFile), this.#place);
    const kept: Kept = { place: this.#place, authority };
    await this.#file.write(JSON.stringify(kept));
  }
}

/** What makes no sense is nothing that a key opens. */
function keptIn(text: string): Partial<Kept> {
  try {
    return (JSON.parse(text) as Kept | null) ?? {};
  } catch {
    return {};
  }
}
