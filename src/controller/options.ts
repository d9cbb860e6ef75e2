/** Do the options of a control plane and of its calls make sense? Whatever is wrong with one is an `OptionError`. */

import { isIPv4, isIPv6 } from 'node:net';
import { listed } from '../config/compile-values.js';
import { OptionError } from '../errors.js';
import { type Rule, type Rules, check, checkEach, isObject, signal } from '../options.js';
import { MAX_TTL_MS, MAX_USES } from './shared-tokens.js';
import { DEFAULT_CONTROL, type MeshControlOptions, type TokenOptions } from './types.js';

/** What the core takes: an address of this machine, and no name. */
const address: Rule = [
  `an address such as ${DEFAULT_CONTROL} or [::1]:4144`,
  (value) => typeof value === 'string' && isSocketAddress(value),
];
// Of a list the first that is wrong is told, see below.
const addresses: Rule = [
  `${address[0]}, or a list of them`,
  (value) => typeof value === 'string' || Array.isArray(value),
];
const called: Rule = ['a function', isFunction];
const source: Rule = ['a source, which is a function that gives an async generator', isFunction];

const CONTROL: Rules<MeshControlOptions> = {
  listen: [addresses[0], (value) => addresses[1](value) && value !== '' && listed(value).length > 0],
  plaintextXds: addresses,
  stateDir: ['a folder', (value) => typeof value === 'string' && value !== ''],
  issuer: [
    'an issuer with chain, key and roots in PEM',
    (value) => isObject(value) && ['chain', 'key', 'roots'].every((part) => typeof value[part] === 'string'),
  ],
  discovery: ['sources by service', isObject],
  attest: called,
  decide: called,
  telemetryIntervalMs: [
    'a whole number of milliseconds, 1 or more',
    (value) => isWhole(value, Number.MAX_SAFE_INTEGER),
  ],
  signal,
};

const TOKEN: Rules<TokenOptions> = {
  uses: [`a whole number, 1 to ${MAX_USES.toLocaleString('en')}`, (value) => isWhole(value, MAX_USES)],
  ttlMs: ['a whole number of milliseconds, 30 days at most', (value) => isWhole(value, MAX_TTL_MS)],
};

/** @throws {OptionError} for the first that makes no sense */
export function checkControlOptions(options: unknown): asserts options is MeshControlOptions {
  check<MeshControlOptions>(options, CONTROL);
  const { listen, plaintextXds, discovery = {} } = options;
  checkEach('listen', listed(listen), address);
  checkEach('plaintextXds', listed(plaintextXds), address);
  for (const [service, given] of Object.entries<unknown>(discovery)) {
    // A generator that was made already could not be begun again.
    if (given !== undefined) checkEach(`discovery.${service}`, [given], source);
  }
}

/** @throws {OptionError} for the first that makes no sense */
export function checkTokenOptions(options: unknown): asserts options is TokenOptions {
  check<TokenOptions>(options, TOKEN);
}

/** @throws {OptionError} it is no text */
export function checkText(option: string, expected: string, value: unknown): asserts value is string {
  if (typeof value !== 'string') throw new OptionError(option, expected, value);
}

function isWhole(value: unknown, most: number): boolean {
  return Number.isInteger(value) && Number(value) >= 1 && Number(value) <= most;
}

function isFunction(value: unknown): boolean {
  return typeof value === 'function';
}

/** Whether it is an IP address and a port, which the core takes. */
export function isSocketAddress(text: string): boolean {
  const [, ip, bracketed, port] = /^(?:([\d.]+)|\[(.*)\]):(\d{1,5})$/.exec(text) ?? [];
  if (Number(port) > 65_535) return false;
  return bracketed === undefined ? isIPv4(ip ?? '') : /^[^%]+(%\d+)?$/.test(bracketed) && isIPv6(bracketed);
}
