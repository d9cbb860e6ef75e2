/**
 * What of a control plane that made room for another issuer, and can serve neither with that nor with the one before?
 *
 * It keeps what it left, and tries again each second until it listens: its sidecars go on with what they know. What fails
 * again in the same way is told once.
 */

import { StateError } from '../errors.js';
import { messageOf } from '../thrown.js';
import type { IssuerPem } from './vault.js';

/** How often it tries again, and looks whether the issuer's files are others. */
const AGAIN_MS = 1000;

/** What a control plane knew that another one of this process takes the place of. */
export interface Known {
  readonly revoked: readonly string[];
  /** Where nothing is stored. */
  readonly tokens?: string;
}

/** What is taken up again. */
export interface Left {
  readonly addresses: readonly string[];
  readonly known: Known;
  /** The one that was good. */
  readonly issuer: IssuerPem | undefined;
}

/** What was left, as long as nobody has taken it up. */
export class LeftBehind {
  #left: Left | undefined;
  #timer: NodeJS.Timeout | undefined;
  #told = '';

  /** Absent while somebody serves. */
  get left(): Left | undefined {
    return this.#left;
  }

  /** Nobody serves, and this is done in a while. */
  keep(left: Left, again: () => Promise<void>): void {
    this.#left = left;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void again(), AGAIN_MS);
  }

  /** Somebody serves, or nobody wants to any more. */
  end(): void {
    this.#left = undefined;
    clearTimeout(this.#timer);
  }

  /** Whether a failure is to be told: the same one again is not, until all was well. */
  isNews(error: unknown): boolean {
    const isNews = String(error) !== this.#told;
    this.#told = String(error);
    return isNews;
  }

  /** The issuer that is to serve does: what fails from now on is news. */
  well(): void {
    this.#told = '';
  }
}

/** Neither goes. */
export function nowhere(another: unknown, before: unknown): StateError {
  return new StateError(
    'the control plane listens nowhere, and tries again each second: ' +
      `the issuer that is to serve: ${messageOf(another)}; the one before: ${messageOf(before)}`,
  );
}
