/** The world of a command that is this process. */

import type { World } from './io.js';

export interface ProcessWorld extends World {
  isServing(): boolean;
}

export function processWorld(): ProcessWorld {
  let serves = false;
  // A reader that has seen enough (`mesh compile | head`) is no failure of a command that prints, and its end. What
  // serves goes on serving: to whom it speaks is not what it is there for.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (serves) return;
    if (error.code !== 'EPIPE') throw error;
    process.exit();
  });
  process.stderr.on('error', (error: NodeJS.ErrnoException) => {
    if (!serves && error.code !== 'EPIPE') throw error;
  });
  return {
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    signals: process,
    serves: () => {
      serves = true;
    },
    isServing: () => serves,
    loadCore: () => import('../index.js'),
    loadControlPlane: async () => (await import('../mesh/native-control-plane.js')).startControlPlane,
  };
}
