/** Where is the program `mesh-sidecar`? */

import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CoreUnavailableError } from '../../errors.js';

const NAME = 'mesh-sidecar';

/** The one that is told, else one that came with this package, that a clone has built, or that is in `PATH`. */
export function sidecarFile(env: NodeJS.ProcessEnv, told = env['MESH_SIDECAR']): string {
  const beside = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
  const candidates = told
    ? [told]
    : [
        beside(`../../native/${NAME}`),
        beside(`../../../target/release/${NAME}`),
        ...(env['PATH'] ?? '').split(delimiter).map((folder) => join(folder, NAME)),
      ];
  const found = candidates.find(canRun);
  if (found !== undefined) return found;
  throw new CoreUnavailableError(
    told
      ? `${told} is no program that can be run`
      : `there is no ${NAME} beside this package or in PATH; \`npm run build\` makes it in a clone, --sidecar names another one`,
  );
}

function canRun(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
