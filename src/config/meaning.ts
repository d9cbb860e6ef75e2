/**
 * Does a configuration make sense, too?
 *
 * What has the right shape may name a cluster that is not there, or send a request round in circles. That is for the core to
 * see, natively or in WebAssembly: `find` is whoever does it. All is told at once, in its place, whoever found it; what a
 * configuration points to is not read.
 */

import type { ConfigError } from './errors.js';
import { type LoadedConfig, checkValue, withMeaning } from './load.js';
import type { ReadValue } from './origin.js';
import type { ResourceIssue } from './resources.js';

/** Everything that is wrong with resources in JSON. */
export type Find = (json: string) => readonly ResourceIssue[];

/** What can be asked whether it makes sense. */
interface Checkable {
  toJson(): string;
  explain(issues: readonly ResourceIssue[]): ConfigError;
}

/**
 * Checks the shape, and the sense only of one that is refused for it already.
 *
 * @throws {ConfigError} with everything that is wrong, whoever found it
 */
export function checkWhole(read: ReadValue, find: Find): LoadedConfig {
  try {
    return checkValue(read);
  } catch (error) {
    throw withMeaning(error, find);
  }
}

/**
 * Checks the shape and the sense. `more` may find what `find` does not look at, in one that has the right shape.
 *
 * @throws {ConfigError} with everything that is wrong, whoever found it
 */
export function checkSense(read: ReadValue, find: Find, more = find): LoadedConfig {
  return sensible(checkWhole(read, find), more);
}

/**
 * One whose shape is right, where it makes sense.
 *
 * @throws {ConfigError} with everything that makes none
 */
export function sensible<T extends Checkable>(loaded: T, find: Find): T {
  const issues = find(loaded.toJson());
  if (issues.length > 0) throw loaded.explain(issues);
  return loaded;
}
