/** `mesh validate`: is this a good configuration? */

import type { Command } from 'commander';
import { LoadedConfig } from '../config/load.js';
import { ConfigError } from '../errors.js';
import type { LoadedMesh } from '../mesh/load.js';
import { type CheckOptions, loadCheckedFile } from './check.js';
import { ExitCode, type World } from './io.js';
import { type Format, coloursOf, errorText, hasColours, json } from './output.js';
import { outputOption } from './options.js';

export function addValidate(program: Command, world: World, end: (code: ExitCode) => void): void {
  program
    .command('validate')
    .description('check configurations and mesh files; every mistake is listed with its place')
    .argument('<file...>', 'configurations or mesh files, YAML or JSON')
    .option('--no-files', 'do not open the certificates, keys and roots that are named: for other machines')
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Examples:
  mesh validate mesh.yaml
  mesh validate config/*.yaml -o json
  mesh validate mesh.yaml --no-files`,
    )
    .action(async (files: string[], { output, ...options }: CheckOptions & { output: Format }) =>
      end(await validate(world, files, output, options)),
    );
}

async function validate(
  world: World,
  files: readonly string[],
  format: Format,
  options: CheckOptions,
): Promise<ExitCode> {
  const core = await world.loadCore();
  const results: { file: string; valid: boolean; issues: ConfigError['issues'] }[] = [];
  const { green } = coloursOf(world.stdout, world.env);
  for (const file of files) {
    try {
      const loaded = await loadCheckedFile(file, core, options);
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

function contentsOf(loaded: LoadedConfig | LoadedMesh): string {
  const counts = loaded instanceof LoadedConfig ? contentsOfConfig(loaded) : contentsOfMesh(loaded);
  return counts.map(([number, one, many]) => `${number} ${number === 1 ? one : many}`).join(', ');
}

type Count = readonly [number: number, one: string, many: string];

function contentsOfConfig({ config, compiled }: LoadedConfig): Count[] {
  const own = (config.listeners ?? []).map(({ routes }) => (Array.isArray(routes) ? routes.length : 0));
  const shared = Object.values(config.routeTables ?? {}).map((routes) => routes.length);
  const routes = [...own, ...shared].reduce((sum, length) => sum + length, 0);
  return [
    [compiled.resources.listeners.length, 'listener', 'listeners'],
    [routes, 'route', 'routes'],
    [compiled.resources.clusters.length, 'cluster', 'clusters'],
  ];
}

function contentsOfMesh({ config, compiled }: LoadedMesh): Count[] {
  const routes = Object.values(config.routes ?? {}).reduce((sum, { length }) => sum + length, 0);
  return [
    [compiled.services.length, 'service', 'services'],
    [routes, 'route', 'routes'],
    [compiled.policies.length, 'policy', 'policies'],
  ];
}
