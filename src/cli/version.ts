/** `mesh version`: which release is this, and what runs it? */

import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { ExitCode, type World } from './io.js';
import { outputOption } from './options.js';
import { type Format, json } from './output.js';

/** The package's version. */
export function packageVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  return (manifest as { version: string }).version;
}

export function addVersion(program: Command, world: World, end: (code: ExitCode) => void): void {
  program
    .command('version')
    .description('print the version')
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Examples:
  mesh version
  mesh version -o json`,
    )
    .action(({ output }: { output: Format }) => {
      const version = packageVersion();
      const { platform, arch } = process;
      const facts = { version, node: process.version, platform, arch };
      world.stdout.write(
        output === 'json' ? json(facts) : `mesh ${version} (node ${process.version}, ${platform} ${arch})\n`,
      );
      end(ExitCode.ok);
    });
}
