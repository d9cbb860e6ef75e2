#!/usr/bin/env node
/** The program `mesh`: the commands, in this process. */

import { processWorld } from './process-world.js';
import { runCommand } from './program.js';

process.exitCode = await runCommand(process.argv.slice(2), processWorld());
