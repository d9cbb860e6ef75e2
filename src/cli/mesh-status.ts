/**
 * `mesh stat`, `mesh edges`, `mesh check` and `mesh config`: how is the mesh that runs here?
 *
 * They ask the process of `mesh up` or `mesh control` by its socket, and need nothing else.
 */

import type { Command } from 'commander';
import { NoAnswerError, askStatus, findSocket } from '../mesh/admin/client.js';
import { type Finding, check } from '../mesh/admin/findings.js';
import type { MeshStatus, SidecarStatus } from '../mesh/admin/types.js';
import { statOf, unknownNames } from '../mesh/admin/named.js';
import { type Doing, edgesOf } from '../mesh/admin/views.js';
import { ExitCode, type World } from './io.js';
import { type Format, UsageError, coloursOf, json, plain, table } from './output.js';
import { outputOption, socketOption } from './options.js';

interface Options {
  readonly socket?: string;
  readonly from?: string;
  readonly to?: string;
  readonly output: Format;
}

type End = (code: ExitCode) => void;

const ask = ({ socket }: Options): Promise<MeshStatus> => askStatus(socket || findSocket(process.cwd()));

/** @throws {UsageError} when somebody is asked about who is not there */
async function askNamed(options: Options): Promise<MeshStatus> {
  const status = await ask(options);
  const problems = unknownNames(status, options);
  if (problems.length > 0) throw new UsageError(problems.map(plain));
  return status;
}

export function addStat(program: Command, world: World, end: End): void {
  program
    .command('stat')
    .description('how services do: success rate, requests, latency, share of mTLS')
    .option('--from <service>', 'per edge, from this one')
    .option('--to <service>', 'this one only')
    .addOption(socketOption())
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Counts and latencies are since the start of the mesh, requests a second over the last 30 s, all as callers saw them;
mTLS, denied and audited as the called did, whose callers need have no sidecar. Audited is what
passed and would be denied, were the policies in audit mode enforced.

Examples:
  mesh stat
  mesh stat --from web --to basket -o json`,
    )
    .action(async (options: Options) => {
      const rows = statOf(await askNamed(options), options);
      world.stdout.write(options.output === 'json' ? json(rows) : render(rows, world));
      end(ExitCode.ok);
    });
}

export function addEdges(program: Command, world: World, end: End): void {
  program
    .command('edges')
    .description('who talks to whom, with identities')
    .option('--from <service>', 'from this one only')
    .option('--to <service>', 'to this one only')
    .addOption(socketOption())
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Examples:
  mesh edges
  mesh edges --to basket`,
    )
    .action(async (options: Options) => {
      const rows = edgesOf(await askNamed(options), options.from, options.to);
      world.stdout.write(options.output === 'json' ? json(rows) : render(rows, world));
      end(ExitCode.ok);
    });
}

export function addCheck(program: Command, world: World, end: End): void {
  program
    .command('check')
    .description('what is wrong with the mesh, and how to mend it; exit code 1 for errors')
    .addOption(socketOption())
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Errors: what a sidecar refuses, sidecars of one service and name, certificates with less than 20 % of their life left,
services without endpoints, no mesh at all. Warnings: sidecars that are not ready or left without a word, who is
revoked, other versions, requests without TLS.

Examples:
  mesh check
  mesh check -o json`,
    )
    .action(async (options: Options) => {
      const findings = await findingsOf(options);
      const { cyan, green, yellow, red } = coloursOf(world.stdout, world.env);
      const marks = { ok: green('ok'), note: cyan('note'), warning: yellow('warning'), error: red('error') };
      const lines = findings.map(
        ({ level, what, mend }) => `${marks[level]}: ${plain(`${what}${mend ? `; ${mend}` : ''}`)}\n`,
      );
      world.stdout.write(options.output === 'json' ? json(findings) : lines.join(''));
      end(findings.some(({ level }) => level === 'error') ? ExitCode.failure : ExitCode.ok);
    });
}

/** That there is no mesh is a finding too. */
async function findingsOf(options: Options): Promise<Finding[]> {
  try {
    return check(await ask(options));
  } catch (error) {
    if (error instanceof NoAnswerError) return [{ level: 'error', what: error.what, mend: error.mend }];
    throw error;
  }
}

export function addConfig(program: Command, world: World, end: End): void {
  program
    .command('config')
    .description('what a sidecar is, what it refuses, how long its certificate lasts')
    .argument('<sidecar>', 'its name, such as basket-1')
    .addOption(socketOption())
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
What it has in force, in full: curl its admin address, /config.

Examples:
  mesh config basket-1`,
    )
    .action(async (name: string, options: Options) => {
      const { sidecars, atMs } = await ask(options);
      const sidecar = sidecars.find((one) => one.name === name);
      if (!sidecar) {
        const all = plain(sidecars.map((one) => one.name).join(', '));
        throw new UsageError([`there is no sidecar ${name}; there are: ${all || 'none'}`]);
      }
      world.stdout.write(options.output === 'json' ? json(sidecar) : describe(sidecar, atMs));
      end(ExitCode.ok);
    });
}

function render(rows: readonly Doing[], world: World): string {
  const withFrom = rows.some(({ from }) => from !== undefined);
  const percent = (share: number | null): string => (share === null ? '-' : `${(share * 100).toFixed(2)} %`);
  const ms = (value: number | null): string => (value === null ? '-' : `${value.toFixed(2)} ms`);
  const header = [
    'to',
    'requests',
    'requests/s',
    'success',
    'mTLS',
    'denied',
    'audited',
    'p50',
    'p95',
    'p99',
  ];
  const cells = rows.map((row) => [
    ...(withFrom ? [row.from || '(nobody proven)'] : []),
    row.to,
    row.requests,
    row.rate.toFixed(1),
    percent(row.successRate),
    percent(row.mtls),
    row.denied,
    row.audited,
    ms(row.p50Ms),
    ms(row.p95Ms),
    ms(row.p99Ms),
    ...(withFrom ? [row.toIdentity || '-'] : []),
  ]);
  return table(withFrom ? ['from', ...header, 'identity of to'] : header, cells, world.stdout, world.env);
}

/** `type.googleapis.com/envoy.config.cluster.v3.Cluster`: what stands last. */
const kindOf = (resource: string): string => resource.split('.').at(-1) ?? resource;

function describe(sidecar: SidecarStatus, atMs: number): string {
  const seconds = (span: number): string => `${Math.round(span / 1000)} s`;
  const { certificateNotAfterMs: ends, telemetryAtMs } = sidecar;
  const lines = [
    ['identity', sidecar.identity],
    ['phase', sidecar.phase],
    ...(sidecar.sharesName ? [['name', 'shared with another sidecar']] : []),
    ['inbound', sidecar.inboundAddress],
    ['version', sidecar.version],
    ['process', String(sidecar.pid)],
    ['connected for', seconds(atMs - sidecar.sinceMs)],
    ['certificate ends in', ends === null ? '-' : seconds(ends - atMs)],
    ['serial number', sidecar.certificateSerial ?? '-'],
    ['last report', telemetryAtMs === null ? '-' : `${seconds(atMs - telemetryAtMs)} ago`],
    ['has', sidecar.has.length === 0 ? 'nothing' : ''],
    ...sidecar.has.map(({ resource, count, changedAtMs }) => [
      `  ${kindOf(resource)}`,
      `${count}, changed ${seconds(atMs - changedAtMs)} ago`,
    ]),
    ['refused', sidecar.nacks.length === 0 ? 'nothing' : ''],
    ...sidecar.nacks.map(({ name, reason }) => [`  ${name}`, reason]),
  ];
  return lines.map(([name, value]) => `${plain(`${name}: ${value}`)}\n`).join('');
}
