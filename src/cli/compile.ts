/** `mesh compile`: what does a configuration mean in resources? */

import type { Command } from 'commander';
import type { Config } from '../config/types.js';
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
Resources are JSON whatever -o says, in a stable order. File names in them are absolute. What the file says of the
process (admin, threads, lameDuck) is no resource: it is told on standard error, as flags for mesh-sidecar.

Examples:
  mesh compile mesh.yaml > resources.json
  mesh-sidecar --config resources.json`,
    )
    .action(async (file: string) => {
      const loaded = await loadChecked(file, await world.loadCore());
      world.stdout.write(`${loaded.toJson(2)}\n`);
      const flags = flagsOf(loaded.config);
      if (flags.length > 0)
        world.stderr.write(`not in the resources; give mesh-sidecar ${flags.join(' ')}\n`);
      end(ExitCode.ok);
    });
}

/** What a configuration says of its process, which is no resource, as mesh-sidecar takes it. */
function flagsOf({ admin, threads, lameDuck }: Config): string[] {
  return Object.entries({
    '--admin': admin === false ? 'off' : admin,
    '--threads': threads,
    '--lame-duck': lameDuck,
  }).flatMap(([flag, value]) => (value === undefined ? [] : [`${flag} ${value}`]));
}
