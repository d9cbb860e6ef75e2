/** Options that several commands share. */

import { Option } from 'commander';
import { isSocketAddress } from '../controller/options.js';
import { DEFAULT_CONTROL } from '../controller/types.js';
import type { GivenBy } from './mistyped.js';
import { UsageError } from './output.js';

/** Where the admin server is unless told otherwise. */
export const DEFAULT_ADMIN = '127.0.0.1:4191';

export function outputOption(): Option {
  return new Option('-o, --output <format>', 'how to print').choices(['text', 'json']).default('text');
}

/**
 * Sees to it that these options, by their flags, are IP addresses with ports, as far as they are given.
 *
 * @throws {UsageError} with all that are none
 */
export function checkTcpAddresses(
  options: Readonly<Record<string, string | undefined>>,
  called: GivenBy,
): void {
  const problems = Object.entries(options)
    .filter(([, address]) => address && !isSocketAddress(address))
    .map(
      ([flag, address]) =>
        `${called(flag)}: expected an address such as ${DEFAULT_CONTROL}, received ${address}`,
    );
  if (problems.length > 0) throw new UsageError(problems);
}

/** Where a mesh answers that runs on this machine. */
export function socketOption(): Option {
  return new Option(
    '--socket <path>',
    'where the mesh answers (default: .mesh/control.sock here or above)',
  ).env('MESH_SOCKET');
}
