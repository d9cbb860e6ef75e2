/** How are the options of a call looked at? One rule for each that there is; whatever is wrong is an `OptionError`. */

import { nearest } from './config/suggest.js';
import { OptionError } from './errors.js';

/** What is expected of an option, and whether a value that is not undefined is that. */
export type Rule = readonly [expected: string, accepts: (value: unknown) => boolean];
/** A rule for every option there is, so that none is without. */
export type Rules<T> = { readonly [option in keyof Required<T>]: Rule };

export const signal: Rule = [
  'an AbortSignal',
  (value) => isObject(value) && typeof value['aborted'] === 'boolean' && isMethod(value, 'addEventListener'),
];

/** @throws {OptionError} for the first that is not known, or not what is expected of it */
export function check<T>(options: unknown, rules: Rules<T>): asserts options is T {
  if (!isObject(options)) throw new OptionError('options', 'an object', options);
  const known: Readonly<Record<string, Rule>> = rules;
  for (const [option, value] of Object.entries(options)) {
    const rule = Object.hasOwn(known, option) ? known[option] : undefined;
    if (!rule) throw unknownOption(option, Object.keys(known));
    const [expected, accepts] = rule;
    if (value !== undefined && !accepts(value)) throw new OptionError(option, expected, value);
  }
}

/** @throws {OptionError} for the first of a list that is not what is expected of each */
export function checkEach(option: string, list: readonly unknown[], [expected, accepts]: Rule): void {
  // A hole is none either.
  const at = Array.from(list).findIndex((each) => !accepts(each));
  if (at >= 0) throw new OptionError(option, expected, list[at]);
}

function unknownOption(option: string, known: readonly string[]): OptionError {
  const meant = nearest(option, known);
  const suggestion = meant === undefined ? undefined : `did you mean ${meant}?`;
  return new OptionError('options', `one of ${known.join(', ')}`, option, suggestion);
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}

export function isMethod(value: Readonly<Record<string, unknown>>, name: string): boolean {
  return typeof value[name] === 'function';
}
