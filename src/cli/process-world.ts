/** The world of a command that is this process. */

import { ExitCode, type World } from './io.js';

interface ProcessWorld extends World {
  isServing(): boolean;
}

export function processWorld(): ProcessWorld {
  let serves = false;
  // A reader that has seen enough (`mesh compile | head`) is no failure of a command that prints, and its end. What
  // serves goes on serving: to whom it speaks is not what it is there for.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (serves) return;
    if (error.code === 'EPIPE') process.exit();
    process.stderr.write(`error: standard output can't be written: ${error.message}\n`);
    process.exit(ExitCode.failure);
  });
  process.stderr.on('error', (error: NodeJS.ErrnoException) => {
    // There is nowhere left to tell it.
    if (!serves && error.code !== 'EPIPE') process.exit(ExitCode.failure);
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
