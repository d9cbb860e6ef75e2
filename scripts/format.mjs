// npm run format: writes every file as the formatters want it.

import { join } from 'node:path';
import { ensurePackages } from './lib/artefacts.mjs';
import { main, must } from './lib/run.mjs';
import { cargoManifests, scriptFiles } from './lib/sources.mjs';
import { cargoEnv, needCargo, root } from './lib/toolchain.mjs';

await main(async () => {
  await ensurePackages();
  needCargo();
  for (const path of cargoManifests) {
    await must('cargo', ['fmt', '--all', '--manifest-path', path], { cwd: root, env: cargoEnv });
  }
  await must(process.execPath, [join(root, 'node_modules', 'oxfmt', 'bin', 'oxfmt'), ...scriptFiles], {
    cwd: root,
  });
});
