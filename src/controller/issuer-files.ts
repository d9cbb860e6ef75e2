/** An issuer of the operator's, whose root may be kept off-line: three files, which may be replaced while it runs. */

import { isDeepStrictEqual } from 'node:util';
import type { IssuerPlan } from '../mesh/services.js';
import { type IssuerPem, readNamed } from './vault.js';

/** How often it is looked whether the files are others: an issuer lives for months. */
const LOOK_MS = 60_000;

/** Who is told. */
interface IssuerEvents {
  /** The one that signs now; none while nobody serves. */
  serving(): IssuerPem | undefined;
  /** What is in the files signs. */
  served(): void;
  renewed(issuer: IssuerPem): void;
  failed(error: unknown): void;
}

/** The files of an issuer. */
export class IssuerFiles {
  readonly #plan: IssuerPlan;
  readonly #events: IssuerEvents;
  #timer: NodeJS.Timeout | undefined;

  constructor(plan: IssuerPlan, events: IssuerEvents) {
    this.#plan = plan;
    this.#events = events;
  }

  /**
   * What is in the files now.
   *
   * @throws {StateError} one of them can't be read
   */
  async issuer(): Promise<IssuerPem> {
    const { chain, key, roots } = this.#plan;
    return {
      chain: await read('chain', chain),
      key: await read('key', key),
      roots: await read('roots', roots),
    };
  }

  /** Looks at them again and again. */
  follow(): void {
    this.#timer = setInterval(() => void this.look(), LOOK_MS);
    this.#timer.unref();
  }

  /**
   * Looks whether any of them is another one than signs; by itself each minute. What was refused is told of again: it may be
   * good later.
   */
  async look(): Promise<void> {
    try {
      const now = await this.issuer();
      if (isDeepStrictEqual(now, this.#events.serving())) this.#events.served();
      else this.#events.renewed(now);
    } catch (error) {
      this.#events.failed(error);
    }
  }

  close(): void {
    clearInterval(this.#timer);
  }
}

const read = (what: keyof IssuerPlan, file: string): Promise<string> =>
  readNamed(`mesh.certificates.issuer.${what}`, file);
