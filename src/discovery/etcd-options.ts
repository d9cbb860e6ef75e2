/** Do the options of a source in etcd make sense? They are written as in a mesh file. */

import type { Format } from '../config/formats.js';
import { OptionError } from '../errors.js';
import { type Rule, type Rules, check } from '../options.js';
import type { EtcdOptions } from './etcd-access.js';

export const etcdUrl: Format = {
  title: 'URL',
  expected: 'a URL such as http://127.0.0.1:2379, or a list of them',
  accepts: (text) => /^https?:\/\/[^/?#@\s]+\/?$/.test(text) && URL.canParse(text),
  advise: (received) =>
    typeof received === 'string' && etcdUrl.accepts(`http://${received}`)
      ? `write http://${received}`
      : undefined,
  examples: ['http://127.0.0.1:2379'],
};

export const etcdPrefix: Format = {
  title: 'prefix',
  expected: 'what keys begin with, such as /mesh/basket/',
  // A prefix without an end takes in the keys of services whose names begin with this one's.
  accepts: (text) => text.length > 1 && text.endsWith('/'),
  advise: (received) =>
    typeof received === 'string' && received.length > 1 ? `write ${received}/` : undefined,
  examples: ['/mesh/basket/'],
};

const URLS = 'a list of URLs such as http://127.0.0.1:2379';
const filled: Rule = ['a text', (value) => typeof value === 'string' && value !== ''];
const file: Rule = ['a file', filled[1]];

const ETCD: Rules<EtcdOptions> = {
  // What is in it is told below, with what to write instead.
  endpoints: [URLS, (value) => Array.isArray(value) && value.length > 0],
  prefix: [etcdPrefix.expected, (value) => typeof value === 'string'],
  user: filled,
  passwordFile: file,
  roots: file,
  certificate: file,
  key: file,
};
/** What is nothing without the other. */
const TOGETHER: readonly (readonly [keyof EtcdOptions, keyof EtcdOptions])[] = [
  ['user', 'passwordFile'],
  ['certificate', 'key'],
];

/** @throws {OptionError} for the first that makes no sense */
export function checkEtcdOptions(options: unknown): asserts options is EtcdOptions {
  check<EtcdOptions>(options, ETCD);
  const { endpoints, prefix }: Partial<EtcdOptions> = options;
  if (endpoints === undefined) throw new OptionError('endpoints', URLS, endpoints);
  for (const url of Array.from(endpoints))
    checkFormat('endpoints', url, etcdUrl, 'a URL such as http://127.0.0.1:2379');
  checkFormat('prefix', prefix, etcdPrefix);
  for (const [one, other] of TOGETHER) {
    if ((options[one] === undefined) !== (options[other] === undefined))
      throw new OptionError(one, `${one} and ${other} together`, options[one]);
  }
}

function checkFormat(option: string, value: unknown, format: Format, expected = format.expected): void {
  if (typeof value === 'string' && format.accepts(value)) return;
  throw new OptionError(option, expected, value, format.advise?.(value));
}
