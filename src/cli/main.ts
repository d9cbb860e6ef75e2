#!/usr/bin/env node
/** The program `mesh`: the commands, in this process. */

import { runCommand } from './program.js';

// A reader that has seen enough (`mesh compile | head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit();
});

process.exitCode = await runCommand(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  signals: process,
  loadCore: () => import('../index.js'),
  loadControlPlane: async () => (await import('../mesh/native-control-plane.js')).startControlPlane,
});
