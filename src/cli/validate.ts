/** `mesh validate`: is this a good configuration? */

import type { Command } from 'commander';
import type { LoadedConfig } from '../config/load.js';
import { ConfigError } from '../errors.js';
import { loadChecked } from './check.js';
import { ExitCode, type World } from './io.js';
import { type Format, coloursOf, errorText, hasColours, json } from './output.js';
import { outputOption } from './options.js';

export function addValidate(program: Command, world: World, end: (code: ExitCode) => void): void {
  program
    .command('validate')
    .description('check configuration files; every mistake is listed with its place')
    .argument('<file...>', 'configuration files, YAML or JSON')
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Examples:
  mesh validate mesh.yaml
  mesh validate config/*.yaml -o json`,
    )
    .action(async (files: string[], options: { output: Format }) =>
      end(await validate(world, files, options.output)),
    );
}

async function validate(world: World, files: readonly string[], format: Format): Promise<ExitCode> {
  const core = await world.loadCore();
  const results: { file: string; valid: boolean; issues: ConfigError['issues'] }[] = [];
  const { green } = coloursOf(world.stdout, world.env);
  for (const file of files) {
    try {
      const loaded = await loadChecked(file, core);
      results.push({ file, valid: true, issues: [] });
      if (format === 'text') world.stdout.write(`${file}: ${green('ok')}, ${contentsOf(loaded)}\n`);
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      results.push({ file, valid: false, issues: error.issues });
      if (format === 'text') world.stderr.write(errorText(error, hasColours(world.stderr, world.env)));
    }
  }
  if (format === 'json') world.stdout.write(json(results));
  return results.every(({ valid }) => valid) ? ExitCode.ok : ExitCode.usage;
}

function contentsOf({ config, compiled }: LoadedConfig): string {
  const own = (config.listeners ?? []).map(({ routes }) => (Array.isArray(routes) ? routes.length : 0));
  const shared = Object.values(config.routeTables ?? {}).map((routes) => routes.length);
  const count = (number: number, what: string): string => `${number} ${what}${number === 1 ? '' : 's'}`;
  return [
    count(compiled.resources.listeners.length, 'listener'),
    count(
      [...own, ...shared].reduce((sum, length) => sum + length, 0),
      'route',
    ),
    count(compiled.resources.clusters.length, 'cluster'),
  ].join(', ');
}
