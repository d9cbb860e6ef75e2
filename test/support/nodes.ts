// Which versions of Node are there beside the one that runs the tests?

import { basename, join } from 'node:path';
import { existsSync } from 'node:fs';

/** Each by its version; none where npm has none for this platform. */
export const newerNodes: ReadonlyMap<string, string> = new Map(
  (process.env['TEST_NODES'] ?? '')
    .split(':')
    .filter((path) => path !== '' && existsSync(path))
    .map((path) => [basename(join(path, '../../../..')), path]),
);
