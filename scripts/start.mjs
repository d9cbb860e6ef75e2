// npm start: the demonstration, on a fresh clone too.
//
// It makes what is missing (npm packages, the native core and the sidecar, the compiled TypeScript) and then becomes the
// demo: same process, so that Ctrl-C, the terminal and the exit code are the demo's own.

import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ensureNative, ensureTypeScript } from './lib/artefacts.mjs';
import { main } from './lib/run.mjs';
import { profile, root, sidecarPath } from './lib/toolchain.mjs';

await main(async () => {
  await ensureTypeScript();
  await ensureNative(profile);
  process.env.MESH_SIDECAR ||= sidecarPath(profile);
  await import(pathToFileURL(join(root, 'dist', 'demo', 'main.js')));
});
