/** Options that several commands share. */

import { Option } from 'commander';

/** Where the admin server is unless told otherwise. */
export const DEFAULT_ADMIN = '127.0.0.1:4191';

export function outputOption(): Option {
  return new Option('-o, --output <format>', 'how to print').choices(['text', 'json']).default('text');
}

/** Where a mesh answers that runs on this machine. */
export function socketOption(): Option {
  return new Option(
    '--socket <path>',
    'where the mesh answers (default: .mesh/control.sock here or above)',
  ).env('MESH_SOCKET');
}
