/** The world of a command that is this process. */

import type { World } from './io.js';

export function processWorld(): World {
  // A reader that has seen enough (`mesh compile | head`) is no failure.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit();
  });
  return {
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    signals: process,
    loadCore: () => import('../index.js'),
    loadControlPlane: async () => (await import('../mesh/native-control-plane.js')).startControlPlane,
  };
}
