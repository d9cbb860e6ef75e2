// Where is what?

import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { root } from '../../scripts/lib/toolchain.mjs';

/** The folder of the benchmark. */
export const here = dirname(dirname(fileURLToPath(import.meta.url)));

/** What the benchmark makes and may be thrown away: the generator, certificates, configurations, http-proxy. */
export const build = join(root, '.build', 'bench');
