/** `mesh redirect`: send this machine's connections through its sidecar. */

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { Argument, type Command, InvalidArgumentError, Option } from 'commander';
import {
  DEFAULT_REDIRECTION,
  IPTABLES_LIST,
  type Iptables,
  type PortRange,
  type Redirection,
  type Rule,
  iptables,
  iptablesInstead,
  iptablesOurs,
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

/** Both families. */
const IPTABLES: readonly Iptables[] = ['iptables', 'ip6tables'];

/** The table that the rules are in. */
const NAT = ['-t', 'nat'] as const;

/** How long a tool may take: an end of what waits for ever. */
const TOOL_MS = 30_000;

/** How many seconds iptables waits for the lock that another holds, rather than to fail at once: less than it may take. */
const WAIT = '--wait=20';

type Backend = 'nft' | 'iptables';

interface Options {
  readonly backend?: Backend;
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
      new Option('--backend <name>', 'which tool of the kernel (default: nft; off: both)').choices([
        'nft',
        'iptables',
      ]),
    )
    .option('--inbound-port <port>', "the sidecar's inbound port", port, defaults.inboundPort)
    .option('--outbound-port <port>', "the sidecar's outbound port", port, defaults.outboundPort)
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

function port(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > 65_535)
    throw new InvalidArgumentError('expected a port from 1 to 65535');
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
  const { backend = 'nft' } = options;
  if (what === 'print') world.stdout.write(printed(backend, options));
  else if (what === 'on') {
    on[backend](options);
    // Only now, so that no connection goes around the sidecar in between. Two kinds of rules do what one does: that those of
    // the other tool can't be looked for, as where the kernel has nothing for it, is told and no failure.
    for (const problem of problemsOf(off[backend === 'nft' ? 'iptables' : 'nft']()))
      world.stderr.write(`warning: ${problem}\n`);
  } else if (options.backend) fail(off[options.backend](true));
  else {
    const errors = [...off.nft(), ...off.iptables()];
    // Where nothing is there to look with, nothing is known.
    fail(errors.length === 0 && ![...IPTABLES, 'nft'].some(isThere) ? off.nft(true) : errors);
  }
  return ExitCode.ok;
}

function printed(backend: Backend, redirection: Redirection): string {
  if (backend === 'nft') return nftables(redirection);
  const line = (tool: Iptables, rule: Rule): string => `${[tool, ...NAT, ...rule].join(' ')}\n`;
  return IPTABLES.flatMap((tool) => iptables(redirection, tool).map((rule) => line(tool, rule))).join('');
}

const on: Record<Backend, (redirection: Redirection) => void> = {
  nft: (redirection) => void run('nft', ['-f', '-'], nftables(redirection)),
  iptables: replaceAll,
};

/** What went wrong with taking the rules away. A tool that is not there has put none there, unless it is `meant`. */
const off: Record<Backend, (meant?: boolean) => unknown[]> = {
  nft: (meant = false) =>
    meant || isThere('nft') ? caught(() => run('nft', ['-f', '-'], nftablesOff())) : [],
  iptables: (meant = false) =>
    IPTABLES.filter((tool) => meant || isThere(tool)).flatMap((tool) =>
      tried(tool, [], 'rules of the mesh may be left'),
    ),
};

const isThere = (tool: string): boolean =>
  TOOLS_PATH.split(':').some((folder) => existsSync(join(folder, tool)));

function caught(work: () => unknown): unknown[] {
  try {
    work();
    return [];
  } catch (error) {
    return [error];
  }
}

/** Both families or neither: a half of them would send callers around the sidecar. */
function replaceAll(redirection: Redirection): void {
  const before = IPTABLES.map((tool) => [tool, ours(tool)] as const);
  try {
    for (const tool of IPTABLES) replace(tool, iptables(redirection, tool));
  } catch (error) {
    const back = before.flatMap(([tool, old]) => tried(tool, old, 'the rules of before may not be back'));
    fail([error, ...back]);
  }
}

/** Replaces what is there of ours, for what went wrong: what one tool can't do keeps the other from nothing. */
function tried(tool: Iptables, rules: readonly Rule[], otherwise: string): unknown[] {
  const errors = caught(() => replace(tool, rules));
  return errors.length === 0 ? [] : [...errors, new UsageError([`${tool}: ${otherwise}`])];
}

/** Puts rules in the place of all that is there of ours, as a whole or not at all. */
function replace(tool: Iptables, rules: readonly Rule[]): void {
  const before = ours(tool);
  if (isDeepStrictEqual(before, rules)) return;
  run(`${tool}-restore`, [WAIT, '--noflush'], iptablesInstead(before, rules));
}

function ours(tool: Iptables): Rule[] {
  return iptablesOurs(run(tool, [WAIT, ...NAT, ...IPTABLES_LIST]));
}

/** One error of all, if there is any. */
function fail(errors: readonly unknown[]): void {
  const problems = problemsOf(errors);
  if (problems.length > 0) throw new UsageError(problems);
}

function problemsOf(errors: readonly unknown[]): string[] {
  const problems = errors.flatMap((error) =>
    error instanceof UsageError ? error.problems : [String(error)],
  );
  return [...new Set(problems)];
}

/** Runs a tool of the system, for what it says; what it says when it fails is the error. */
function run(tool: string, args: readonly string[], input = ''): string {
  const env = { ...process.env, PATH: TOOLS_PATH };
  const options = { input, env, encoding: 'utf8', timeout: TOOL_MS } as const;
  const { error, status, stdout, stderr } = spawnSync(tool, args, options);
  // A tool that fails before it has read its input, which is an error as well (EPIPE), says why.
  if (error && !status) {
    const mend = tool === 'nft' ? 'install nftables, or choose --backend iptables' : 'install iptables';
    throw new UsageError([`${tool} can't be run (${error.message}): ${mend}`]);
  }
  if (status !== 0) {
    const why = `${tool} ${args.join(' ')}: ${stderr.trim() || `ended with ${status}`}`;
    const mend = 'this needs root, or CAP_NET_ADMIN, in the network namespace of the workload';
    throw new UsageError(process.geteuid?.() === 0 ? [why] : [why, mend]);
  }
  return stdout;
}
