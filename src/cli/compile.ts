/** `mesh compile`: what does a configuration mean in resources? */

import type { Command } from 'commander';
import { loadChecked } from './check.js';
import { ExitCode, type World } from './io.js';
import { outputOption } from './options.js';

export function addCompile(program: Command, world: World, end: (code: ExitCode) => void): void {
  program
    .command('compile')
    .description('print the resources that a configuration stands for, for mesh-sidecar --config')
    .argument('<file>', 'configuration file, YAML or JSON')
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Resources are JSON whatever -o says, in a stable order. File names in them are absolute.

Examples:
  mesh compile mesh.yaml > resources.json
  mesh-sidecar --config resources.json`,
    )
    .action(async (file: string) => {
      const loaded = await loadChecked(file, await world.loadCore());
      world.stdout.write(`${loaded.toJson(2)}\n`);
      end(ExitCode.ok);
    });
}
