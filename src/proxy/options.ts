/** Do the options of a proxy and of its calls make sense? Whatever is wrong with one is an `OptionError`. */

import * as formats from '../config/formats.js';
import { nearest } from '../config/suggest.js';
import { OptionError } from '../errors.js';
import { LOG_LEVELS } from '../logger.js';
import type { DrainOptions, ListenOptions, ProxyOptions } from './types.js';

/** More threads than this are a mistake. */
const THREADS_LIMIT = 256;

/** What is expected of an option, and whether a value that is not undefined is that. */
type Rule = readonly [expected: string, accepts: (value: unknown) => boolean];
/** A rule for every option there is, so that none is without. */
type Rules<T> = { readonly [option in keyof Required<T>]: Rule };

const span: Rule = ['a number of milliseconds', (value) => typeof value === 'number' && !Number.isNaN(value)];
const signal: Rule = [
  'an AbortSignal',
  (value) => isObject(value) && typeof value['aborted'] === 'boolean' && isMethod(value, 'addEventListener'),
];

const PROXY: Rules<ProxyOptions> = {
  logger: [
    `a logger with the methods ${new Intl.ListFormat('en').format(LOG_LEVELS)}`,
    // Some are functions that have them.
    (value) =>
      (isObject(value) || typeof value === 'function') &&
      LOG_LEVELS.every((level) => isMethod(value as Readonly<Record<string, unknown>>, level)),
  ],
  signal,
  admin: [
    `${formats.address.expected}, or false`,
    (value) => value === false || (typeof value === 'string' && formats.address.accepts(value)),
  ],
  lameDuckMs: span,
  threads: [
    `a whole number, 1 to ${THREADS_LIMIT}`,
    (value) => Number.isInteger(value) && Number(value) >= 1 && Number(value) <= THREADS_LIMIT,
  ],
  // Of a list the first that is wrong is told, see below.
  dnsServers: ['a list of name servers', Array.isArray],
};

const LISTEN: Rules<ListenOptions> = { signal };
const DRAIN: Rules<DrainOptions> = { lameDuckMs: span, timeoutMs: span };

/** @throws {OptionError} for the first that makes no sense */
export function checkProxyOptions(options: unknown): asserts options is ProxyOptions {
  check<ProxyOptions>(options, PROXY);
  const { expected, accepts } = formats.nameServer;
  const isServer = (server: unknown): boolean => typeof server === 'string' && accepts(server);
  // A hole is no server either.
  const at = Array.from<unknown>(options.dnsServers ?? []).findIndex((server) => !isServer(server));
  if (at >= 0) throw new OptionError('dnsServers', expected, options.dnsServers?.[at]);
}

/** @throws {OptionError} for the first that makes no sense */
export function checkListenOptions(options: unknown): asserts options is ListenOptions {
  check<ListenOptions>(options, LISTEN);
}

/** @throws {OptionError} for the first that makes no sense */
export function checkDrainOptions(options: unknown): asserts options is DrainOptions {
  check<DrainOptions>(options, DRAIN);
}

function check<T>(options: unknown, rules: Rules<T>): asserts options is T {
  if (!isObject(options)) throw new OptionError('options', 'an object', options);
  const known: Readonly<Record<string, Rule>> = rules;
  for (const [option, value] of Object.entries(options)) {
    const rule = Object.hasOwn(known, option) ? known[option] : undefined;
    if (!rule) throw unknownOption(option, Object.keys(known));
    const [expected, accepts] = rule;
    if (value !== undefined && !accepts(value)) throw new OptionError(option, expected, value);
  }
}

function unknownOption(option: string, known: readonly string[]): OptionError {
  const meant = nearest(option, known);
  const suggestion = meant === undefined ? undefined : `did you mean ${meant}?`;
  return new OptionError('options', `one of ${known.join(', ')}`, option, suggestion);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}

function isMethod(value: Readonly<Record<string, unknown>>, name: string): boolean {
  return typeof value[name] === 'function';
}
