/** What of a configuration is taken up when a proxy starts, and at no other time? Whoever changes that is told. */

import type { Settings } from '../config/compile.js';

const AT_START = ['admin', 'threads'] as const;

/** What a proxy runs with, or would run with, by its configuration. */
export type AtStart = Pick<Settings, (typeof AT_START)[number]>;

/** Says what has to wait for the next start; once for each change. */
export class NextStart {
  readonly #runs: AtStart;
  readonly #keys: readonly (typeof AT_START)[number][];
  #told: string | undefined;

  /** What is `given` wins over the configuration, at the next start too. */
  constructor(runs: AtStart, given: { readonly [Key in keyof AtStart]?: unknown }) {
    this.#runs = runs;
    this.#keys = AT_START.filter((key) => given[key] === undefined);
  }

  /** What to say of a configuration that is live, if there is something new to be said. */
  of(wanted: AtStart): string | undefined {
    const later = this.#keys.filter((key) => this.#runs[key] !== wanted[key]);
    const text = `${later.join(' and ')} ${later.length === 1 ? 'changes' : 'change'} with the next start`;
    const last = this.#told;
    this.#told = later.length === 0 ? undefined : text;
    return this.#told === last ? undefined : this.#told;
  }
}
