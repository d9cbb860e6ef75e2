/** Do the options of a proxy and of its calls make sense? Whatever is wrong with one is an `OptionError`. */

import * as formats from '../config/formats.js';
import { LOG_LEVELS } from '../logger.js';
import { type Rule, type Rules, check, checkEach, isMethod, isObject, signal } from '../options.js';
import type { DrainOptions, ListenOptions, ProxyOptions } from './types.js';

/** More threads than this are a mistake. */
const THREADS_LIMIT = 256;

/** `Infinity` is one: for ever. What is less than none was meant otherwise. */
const span: Rule = [
  'a number of milliseconds, 0 or more',
  (value) => typeof value === 'number' && value >= 0,
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
  checkEach('dnsServers', options.dnsServers ?? [], [expected, isServer]);
}

/** @throws {OptionError} for the first that makes no sense */
export function checkListenOptions(options: unknown): asserts options is ListenOptions {
  check<ListenOptions>(options, LISTEN);
}

/** @throws {OptionError} for the first that makes no sense */
export function checkDrainOptions(options: unknown): asserts options is DrainOptions {
  check<DrainOptions>(options, DRAIN);
}
