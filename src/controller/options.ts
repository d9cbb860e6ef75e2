/** Do the options of a control plane make sense? Whatever is wrong with one is an `OptionError`. */

import { isIPv4, isIPv6 } from 'node:net';
import { listed } from '../config/compile-values.js';
import { type Rule, type Rules, check, checkEach, isObject, signal } from '../options.js';
import { DEFAULT_CONTROL, type MeshControlOptions } from './types.js';

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
    (value) => Number.isSafeInteger(value) && Number(value) > 0,
  ],
  signal,
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

function isFunction(value: unknown): boolean {
  return typeof value === 'function';
}

function isSocketAddress(text: string): boolean {
  const [, ip, bracketed, port] = /^(?:([\d.]+)|\[(.*)\]):(\d{1,5})$/.exec(text) ?? [];
  if (Number(port) > 65_535) return false;
  return bracketed === undefined ? isIPv4(ip ?? '') : /^[^%]+(%\d+)?$/.test(bracketed) && isIPv6(bracketed);
}
