/**
 * What is `mesh run` told, and what of it makes no sense?
 *
 * The same settings as `mesh-sidecar` takes, by the same names and variables. Everything that is wrong is told at once.
 */

import { Option } from 'commander';
import * as formats from '../config/formats.js';
import { LOG_LEVELS, type LogLevel } from '../logger.js';
import type { GivenBy } from './mistyped.js';
import { DEFAULT_ADMIN, outputOption } from './options.js';
import { type Format, UsageError } from './output.js';

/** As given: texts. */
export interface GivenOptions {
  readonly config?: string;
  readonly check?: boolean;
  readonly listen?: string;
  readonly to?: string;
  readonly accessLog?: string;
  readonly admin?: string;
  readonly threads?: string;
  readonly dnsServer?: string;
  readonly lameDuck?: string;
  readonly logLevel?: string;
  readonly logFormat?: string;
  readonly output: Format;
}

/** As meant. Either `config`, or `listen` and `to`. */
export interface RunOptions {
  readonly config: string | undefined;
  readonly check: boolean;
  readonly listen: string | undefined;
  readonly to: string | undefined;
  readonly accessLog: string | undefined;
  readonly admin: string | undefined;
  readonly threads: number | undefined;
  readonly dnsServers: readonly string[];
  readonly lameDuckMs: number | undefined;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
  readonly output: Format;
}

/** How the proxy's own lines are written. */
type LogFormat = 'text' | 'json';

const LEVELS: readonly LogLevel[] = LOG_LEVELS.toReversed();
// Not the sidecar's `info`: what that says is told by the command itself, on standard output.
const DEFAULT_LEVEL: LogLevel = 'warn';
const LOG_FORMATS: readonly LogFormat[] = ['text', 'json'];
const DEFAULT_LOG_FORMAT: LogFormat = 'text';

/** What `mesh run --help` lists. */
export function runOptions(): Option[] {
  return [
    new Option('-c, --config <file>', 'configuration, YAML or JSON; changes are applied live').env(
      'MESH_CONFIG',
    ),
    new Option('--check', 'only say what is wrong with the configuration'),
    new Option('--listen <address>', 'accept HTTP/1, HTTP/2, gRPC, TLS and TCP here').env('MESH_LISTEN'),
    new Option('--to <address>', 'and send everything there').env('MESH_TO'),
    new Option(
      '--access-log <file>',
      'with --listen: a line for each finished request; - is standard output',
    ).env('MESH_ACCESS_LOG'),
    new Option('--admin <address>', `health, metrics and statistics, or off (default: ${DEFAULT_ADMIN})`).env(
      'MESH_ADMIN',
    ),
    new Option('--threads <number>', 'data threads (default: the CPU quota, at most 4)').env('MESH_THREADS'),
    new Option(
      '--dns-server <list>',
      "name servers to ask, IP or IP:PORT, with commas between (default: the system's)",
    ).env('MESH_DNS_SERVER'),
    new Option('--lame-duck <span>', 'how long a draining proxy still accepts (default: 3s)').env(
      'MESH_LAME_DUCK',
    ),
    new Option(
      '--log-level <level>',
      `what the proxy says by itself: ${LEVELS.join(', ')} (default: ${DEFAULT_LEVEL})`,
    ).env('MESH_LOG_LEVEL'),
    new Option('--log-format <format>', 'how it says that on standard error: text, json (default: text)').env(
      'MESH_LOG_FORMAT',
    ),
    outputOption(),
  ];
}

/** Where everything may be sent: an address or a name. */
const target: formats.Format = {
  ...formats.server,
  expected: 'an address such as 127.0.0.1:3000, site.internal:80 or unix:/run/app.sock',
  accepts: (text) => formats.server.accepts(text) || formats.dnsName.accepts(text),
};

/**
 * Makes sense of what was given.
 *
 * @throws {UsageError} with everything that is wrong
 */
export function readRunOptions(given: GivenOptions, called: GivenBy): RunOptions {
  const problems: string[] = [];
  /** An empty variable is none. */
  const told = (value: string | undefined, option: string, format?: formats.Format): string | undefined => {
    if (value === undefined || value === '') return undefined;
    if (format?.accepts(value) === false) problems.push(problem(called(option), format, value));
    return value;
  };
  const oneOf = <T extends string>(option: string, value = '', known: readonly T[], fallback: T): T => {
    const found = known.find((each) => each === value);
    if (value !== '' && !found)
      problems.push(`${called(option)}: expected ${known.join(', ')}, received ${value}`);
    return found ?? fallback;
  };
  const config = told(given.config, '--config');
  const listen = told(given.listen, '--listen', formats.address);
  const to = told(given.to, '--to', target);
  const accessLog = told(given.accessLog, '--access-log');
  const admin = told(given.admin, '--admin', formats.admin);
  const threads = told(given.threads, '--threads');
  if (threads !== undefined && !/^([1-9]\d?|1\d\d|2[0-4]\d|25[0-6])$/.test(threads)) {
    problems.push(`${called('--threads')}: expected a whole number, 1 to 256, received ${threads}`);
  }
  const dnsServers =
    told(given.dnsServer, '--dns-server')
      ?.split(',')
      .map((server) => server.trim()) ?? [];
  for (const server of dnsServers) {
    if (!formats.nameServer.accepts(server))
      problems.push(problem(called('--dns-server'), formats.nameServer, server));
  }
  const lameDuck = told(given.lameDuck, '--lame-duck', formats.duration);
  const logLevel = oneOf('--log-level', given.logLevel, LEVELS, DEFAULT_LEVEL);
  const logFormat = oneOf('--log-format', given.logFormat, LOG_FORMATS, DEFAULT_LOG_FORMAT);
  problems.push(...contradictions({ config, listen, to, accessLog }, called));
  if (problems.length > 0) throw new UsageError(problems);
  return {
    config,
    check: given.check ?? false,
    listen,
    to,
    accessLog,
    admin,
    threads: threads === undefined ? undefined : Number(threads),
    dnsServers,
    lameDuckMs: lameDuck === undefined ? undefined : formats.durationMs(lameDuck),
    logLevel,
    logFormat,
    output: given.output,
  };
}

function problem(option: string, format: formats.Format, received: string): string {
  const advice = format.advise?.(received);
  return `${option}: expected ${format.expected}, received ${received}${advice ? `; ${advice}` : ''}`;
}

/** What can't be said together, or not alone. */
function contradictions(
  { config, listen, to, accessLog }: Pick<RunOptions, 'config' | 'listen' | 'to' | 'accessLog'>,
  called: GivenBy,
): string[] {
  if (config === undefined && listen === undefined && to === undefined) {
    return ['nothing to run: give -c FILE, or --listen ADDRESS and --to ADDRESS'];
  }
  const [sole, from, server, log] = ['--config', '--listen', '--to', '--access-log'].map(called);
  if (config === undefined) {
    if (listen !== undefined && to !== undefined) return [];
    return [`${from} and ${server} go together: ${listen === undefined ? '--listen' : '--to'} is missing`];
  }
  const isFlag = sole === '--config';
  const file = isFlag ? '-c' : sole;
  const problems: string[] = [];
  if (listen !== undefined || to !== undefined) {
    problems.push(`${isFlag ? '-c FILE' : file} says all: leave ${from} and ${server} out, or ${file}`);
  }
  if (accessLog !== undefined) {
    problems.push(`${log} goes with --listen: with ${file} each listener has its accessLog`);
  }
  return problems;
}
