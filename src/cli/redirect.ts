/** `mesh redirect`: send this machine's connections through its sidecar. */

import { spawnSync } from 'node:child_process';
import { Argument, type Command, InvalidArgumentError, Option } from 'commander';
import {
  type Call,
  DEFAULT_REDIRECTION,
  IPTABLES_LIST,
  type PortRange,
  type Redirection,
  iptables,
  iptablesOff,
  nftables,
  nftablesOff,
} from '../redirect/rules.js';
import { ExitCode, type World } from './io.js';
import { UsageError } from './output.js';

/**
 * Where the tools are, and nowhere else: they run as root, and npm puts the commands of packages first into `PATH`, one of
 * which is called `nft`.
 */
export const TOOLS_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** The same rules for both families. */
const IPTABLES = ['iptables', 'ip6tables'] as const;

/** How long a tool may take: an end of what waits for ever. */
const TOOL_MS = 30_000;

/** How long iptables waits for the lock that another holds, rather than to fail at once: less than it may take. */
const LOCK_WAIT_SECONDS = 20;

interface Options {
  readonly backend: 'nft' | 'iptables';
  readonly inboundPort: number;
  readonly outboundPort: number;
  readonly uid: number;
  readonly skipInbound: readonly PortRange[];
  readonly skipOutbound: readonly PortRange[];
}

export function addRedirect(program: Command, world: World, end: (code: ExitCode) => void): void {
  const defaults = DEFAULT_REDIRECTION;
  program
    .command('redirect')
    .description('send the TCP connections of this network namespace through its sidecar (as root)')
    .addArgument(new Argument('<what>', 'what to do').choices(['on', 'off', 'print']))
    .addOption(
      new Option('--backend <name>', 'which tool of the kernel').choices(['nft', 'iptables']).default('nft'),
    )
    .option('--inbound-port <port>', "the sidecar's inbound port", number, defaults.inboundPort)
    .option('--outbound-port <port>', "the sidecar's outbound port", number, defaults.outboundPort)
    .option('--uid <id>', 'the user that the sidecar runs as', number, defaults.uid)
    .option('--skip-inbound <ports>', 'ports that callers reach without it', ports, defaults.skipInbound)
    .option('--skip-outbound <ports>', 'ports that are called without it', ports, defaults.skipOutbound)
    .addHelpText(
      'after',
      `
Examples:
  mesh redirect print
  mesh redirect on --skip-inbound 22,4191,9100-9110
  mesh redirect off`,
    )
    .action((what: 'on' | 'off' | 'print', options: Options) => end(redirect(world, what, options)));
}

function number(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value > 4_294_967_294) throw new InvalidArgumentError('expected a number');
  return value;
}

function ports(text: string): PortRange[] {
  const all = text === '' ? [] : text.split(',').map((range) => range.trim());
  const isRange = (range: string): range is PortRange => {
    const [first = 0, last = first] = /^\d+(-\d+)?$/.test(range) ? range.split('-').map(Number) : [];
    return first >= 1 && first <= last && last <= 65_535;
  };
  if (!all.every(isRange))
    throw new InvalidArgumentError('expected ports and ranges such as 22,8000-8010, with commas between');
  return all;
}

function redirect(world: World, what: 'on' | 'off' | 'print', options: Options): ExitCode {
  const redirection: Redirection = options;
  if (options.backend === 'nft') {
    const rules = what === 'off' ? nftablesOff() : nftables(redirection);
    if (what === 'print') world.stdout.write(rules);
    else run('nft', ['-f', '-'], rules);
    return ExitCode.ok;
  }
  const calls = iptables(redirection);
  if (what === 'print') {
    for (const tool of IPTABLES)
      for (const call of calls) world.stdout.write(`${[tool, ...call].join(' ')}\n`);
  } else if (what === 'on') on(calls);
  else fail(off());
  return ExitCode.ok;
}

/** Both families or neither: a half of them would send callers around the sidecar. */
function on(calls: readonly Call[]): void {
  fail(off());
  try {
    for (const tool of IPTABLES) for (const call of calls) runCall(tool, call);
  } catch (error) {
    fail([error, ...off()]);
  }
}

/** Takes away what is there of ours, and looks whether it is gone. What one tool can't do keeps the other from nothing. */
function off(): unknown[] {
  return IPTABLES.flatMap((tool) => {
    try {
      for (const call of iptablesOff(runCall(tool, IPTABLES_LIST))) runCall(tool, call);
      const isLeft = iptablesOff(runCall(tool, IPTABLES_LIST)).length > 0;
      return isLeft ? [new UsageError([`${tool}: rules of the mesh are left`])] : [];
    } catch (error) {
      return [error, new UsageError([`${tool}: rules of the mesh may be left`])];
    }
  });
}

/** One error of all, if there is any. */
function fail(errors: readonly unknown[]): void {
  const problems = errors.flatMap((error) =>
    error instanceof UsageError ? error.problems : [String(error)],
  );
  if (problems.length > 0) throw new UsageError([...new Set(problems)]);
}

function runCall(tool: string, call: Call): string {
  return run(tool, ['-w', String(LOCK_WAIT_SECONDS), ...call]);
}

/** Runs a tool of the system, for what it says; what it says when it fails is the error. */
function run(tool: string, args: readonly string[], input = ''): string {
  const env = { ...process.env, PATH: TOOLS_PATH };
  const options = { input, env, encoding: 'utf8', timeout: TOOL_MS } as const;
  const { error, status, stdout, stderr } = spawnSync(tool, args, options);
  if (error) {
    const mend = tool === 'nft' ? 'install nftables, or choose --backend iptables' : 'install iptables';
    throw new UsageError([`${tool} can't be run (${error.message}): ${mend}`]);
  }
  if (status !== 0)
    throw new UsageError([`${tool} ${args.join(' ')}: ${stderr.trim() || `ended with ${status}`}`]);
  return stdout;
}
