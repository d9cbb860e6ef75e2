#!/usr/bin/env node
/** The program `mesh`: the commands, in this process. */

import { processWorld } from './process-world.js';
import { runCommand } from './program.js';
import { endUnread } from './unread.js';

const world = processWorld();
process.exitCode = await runCommand(process.argv.slice(2), world);
if (world.isServing()) endUnread();
