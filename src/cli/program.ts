/** The command `mesh`: its commands, and how wrong usage ends. */

import { Command, CommanderError } from 'commander';
import { addRevoke, addToken } from './access.js';
import { addAttack } from './attack.js';
import { addCompile } from './compile.js';
import { addControl } from './control.js';
import { addExplain } from './explain.js';
import { ExitCode, type World } from './io.js';
import { mistyped } from './mistyped.js';
import { type Format, coloursOf, plain, tellError } from './output.js';
import { addCheck, addConfig, addEdges, addStat } from './mesh-status.js';
import { addRedirect } from './redirect.js';
import { addRun } from './run.js';
import { addStats } from './stats.js';
import { addUp } from './up.js';
import { addValidate } from './validate.js';
import { addVersion, packageVersion } from './version.js';

/** The program with all its commands; `end` is told how the one that ran has ended. */
export function meshProgram(world: World, end: (code: ExitCode) => void): Command {
  const program = new Command('mesh')
    .description('A small, fast and secure proxy for every protocol.')
    .version(packageVersion(), '-v, --version', 'print the version')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void world.stdout.write(text),
      writeErr: (text) => void world.stderr.write(text),
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    })
    .showHelpAfterError('(--help shows what there is)')
    .addHelpText(
      'after',
      `
Examples:
  mesh up
  mesh control mesh.yaml
  mesh run --listen 127.0.0.1:8080 --to 127.0.0.1:3000
  mesh run -c mesh.yaml
  mesh validate mesh.yaml
  mesh explain -c mesh.yaml http://shop.test/api/items
  mesh stats
  mesh attack http://127.0.0.1:8080/

Exit codes: 0 all is well, 64 wrong usage or configuration, 1 anything else.`,
    );
  for (const add of [
    addUp,
    addControl,
    addToken,
    addRevoke,
    addRun,
    addValidate,
    addCompile,
    addExplain,
    addAttack,
    addStats,
    addStat,
    addEdges,
    addCheck,
    addConfig,
    addRedirect,
    addVersion,
  ])
    add(program, world, end);
  program.hook('preAction', (_, command) => {
    const { yellow } = coloursOf(world.stderr, world.env);
    for (const line of mistyped(command, world.env))
      world.stderr.write(`${yellow('warning')}: ${plain(line)}\n`);
  });
  return program;
}

/** Runs one command line, without the program's name, and resolves with the exit code. */
export async function runCommand(args: readonly string[], world: World): Promise<ExitCode> {
  let code: ExitCode = ExitCode.ok;
  const end = (result: ExitCode): void => {
    code = result;
  };
  const program = meshProgram(world, end);
  try {
    await program.parseAsync(args, { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
    return tellError(world, error, formatOf(args));
  }
}

/** The format asked for, of a command that may have failed before it knew. */
function formatOf(args: readonly string[]): Format {
  const text = args.join('\0');
  return /(^|\0)(-o|--output)[\0=]?json(\0|$)/.test(text) ? 'json' : 'text';
}
