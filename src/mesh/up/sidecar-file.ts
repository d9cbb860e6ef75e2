/** Where is the program `mesh-sidecar`? */

import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { CoreUnavailableError, OptionError } from '../../errors.js';
import { platformFile, platformName, whyMissing } from '../../platform.js';

const NAME = 'mesh-sidecar';

/**
 * The one that is told, else the one of this package for this platform, else one in `PATH`. Absolute, since copies run in
 * folders of their own.
 */
export function sidecarFile(env: NodeJS.ProcessEnv, told = env['MESH_SIDECAR']): string {
  if (told) {
    if (canRun(told)) return resolve(told);
    throw new OptionError(`${told} is no program that can be run; it was named by --sidecar or MESH_SIDECAR`);
  }
  const platform = platformName();
  const ours = platformFile(platform, NAME);
  const others = (env['PATH'] ?? '').split(delimiter).map((folder) => join(folder, NAME));
  const found = [...(ours === undefined ? [] : [ours]), ...others].find(canRun);
  if (found !== undefined) return resolve(found);
  throw new CoreUnavailableError(
    `there is no ${NAME} for ${platform} here, nor in PATH; ${whyMissing(platform)}; --sidecar names another one`,
  );
}

function canRun(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}
