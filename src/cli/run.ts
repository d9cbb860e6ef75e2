/**
 * `mesh run`: serve in this process.
 *
 * The configuration's file is watched and applied live; what is refused is told, and the last good one serves on. The
 * first SIGTERM or SIGINT drains, a second one ends at once.
 */

import type { Command } from 'commander';
import { Option } from 'commander';
import * as formats from '../config/formats.js';
import { type LoadedConfig, checkConfig, loadConfig } from '../config/load.js';
import { type ConfigWatcher, watchConfig } from '../config/watch.js';
import { LOG_LEVELS, type LogLevel, jsonLogger, plainLogger } from '../logger.js';
import type { BoundAddress, MeshProxy, ProxyOptions } from '../proxy/types.js';
import { changesBetween, renderChanges } from './changes.js';
import { ExitCode, type World } from './io.js';
import { DEFAULT_ADMIN, outputOption } from './options.js';
import { type Format, UsageError, coloursOf, errorJson, errorText, hasColours } from './output.js';

/** How long a load balancer may take to see that `/ready` is red. */
const DEFAULT_LAME_DUCK_MS = 3000;

interface RunOptions {
  readonly config?: string;
  readonly listen?: string;
  readonly to?: string;
  readonly admin?: string;
  readonly threads?: string;
  readonly dnsServer?: string;
  readonly lameDuck?: string;
  readonly accessLog?: string;
  readonly logLevel: LogLevel;
  readonly logFormat: 'text' | 'json';
  readonly check?: boolean;
  readonly output: Format;
}

export function addRun(program: Command, world: World, end: (code: ExitCode) => void): void {
  program
    .command('run')
    .description('run a proxy, from a configuration file or from one address to another')
    .addOption(
      new Option('-c, --config <file>', 'configuration, YAML or JSON; changes are applied live').env(
        'MESH_CONFIG',
      ),
    )
    .addOption(
      new Option('--listen <address>', 'accept HTTP/1, HTTP/2, gRPC, TLS and TCP here').env('MESH_LISTEN'),
    )
    .addOption(new Option('--to <address>', 'and send everything there').env('MESH_TO'))
    .addOption(
      new Option(
        '--admin <address>',
        `health, metrics and statistics, or off (default: ${DEFAULT_ADMIN})`,
      ).env('MESH_ADMIN'),
    )
    .addOption(
      new Option('--threads <number>', 'data threads (default: the CPU quota, at most 4)').env(
        'MESH_THREADS',
      ),
    )
    .addOption(
      new Option(
        '--dns-server <list>',
        "name servers to ask, IP or IP:PORT, with commas between (default: the system's)",
      ).env('MESH_DNS_SERVER'),
    )
    .addOption(
      new Option(
        '--lame-duck <span>',
        'how long a draining proxy still accepts (default: the configuration, or 3s)',
      ).env('MESH_LAME_DUCK'),
    )
    .addOption(
      new Option(
        '--access-log <file>',
        'with --listen: a line for each finished request, -: to standard output',
      ).env('MESH_ACCESS_LOG'),
    )
    .addOption(
      new Option('--log-level <level>', 'what the proxy says by itself, on standard error')
        .choices([...LOG_LEVELS].reverse())
        .default('warn')
        .env('MESH_LOG_LEVEL'),
    )
    .addOption(
      new Option('--log-format <format>', 'how it says that')
        .choices(['text', 'json'])
        .default('text')
        .env('MESH_LOG_FORMAT'),
    )
    .addOption(new Option('--check', 'only say what is wrong with the configuration, as mesh validate does'))
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
SIGTERM or SIGINT drains; a second one ends at once. SIGHUP reads the configuration and certificates again, SIGUSR1
opens access logs anew.

Examples:
  mesh run --listen 127.0.0.1:8080 --to 127.0.0.1:3000
  mesh run -c mesh.yaml
  mesh run -c mesh.yaml --admin off --threads 1`,
    )
    .action(async (options: RunOptions) => end(await run(world, options)));
}

async function run(world: World, options: RunOptions): Promise<ExitCode> {
  const problems = problemsOf(options);
  if (problems.length > 0) throw new UsageError(problems);
  const loaded = await load(options);
  const { createProxy, validateResources } = await world.loadCore();
  if (options.check) {
    const issues = validateResources(loaded.toJson());
    if (issues.length > 0) throw loaded.explain(issues);
    world.stdout.write('the configuration is valid\n');
    return ExitCode.ok;
  }
  const teller = new Teller(world, options.output);
  const proxy = createProxy(loaded, proxyOptions(world, options, loaded));
  return await new Run(world, teller, proxy, loaded, options).untilEnd();
}

/** Everything that is wrong with the options, in one go. */
function problemsOf(options: RunOptions): string[] {
  const { config, listen, to, admin, threads, dnsServer, lameDuck, accessLog } = options;
  const problems: string[] = [];
  const wrong = (option: string, format: formats.Format, received: string): void => {
    const advice = format.advise?.(received);
    problems.push(
      `${option}: expected ${format.expected}, received ${received}${advice ? `; ${advice}` : ''}`,
    );
  };
  if (config === undefined && listen === undefined && to === undefined) {
    problems.push('nothing to run: give -c FILE, or --listen ADDRESS and --to ADDRESS');
  } else if (config !== undefined && (listen !== undefined || to !== undefined)) {
    problems.push('-c FILE says all: leave --listen and --to out, or -c');
  } else if (config === undefined && (listen === undefined || to === undefined)) {
    problems.push(`--listen and --to go together: ${listen === undefined ? '--listen' : '--to'} is missing`);
  }
  if (listen !== undefined && !formats.address.accepts(listen)) wrong('--listen', formats.address, listen);
  if (to !== undefined && !formats.address.accepts(to) && !formats.dnsName.accepts(to))
    wrong('--to', formats.address, to);
  if (admin !== undefined && !formats.admin.accepts(admin)) wrong('--admin', formats.admin, admin);
  if (lameDuck !== undefined && !formats.duration.accepts(lameDuck))
    wrong('--lame-duck', formats.duration, lameDuck);
  if (accessLog !== undefined && config !== undefined) {
    problems.push('--access-log goes with --listen: with -c each listener has its accessLog');
  }
  if (threads !== undefined && !/^([1-9]\d?|1\d\d|2[0-4]\d|25[0-6])$/.test(threads)) {
    problems.push(`--threads: expected a whole number, 1 to 256, received ${threads}`);
  }
  for (const server of nameServers(dnsServer)) {
    if (!formats.nameServer.accepts(server)) wrong('--dns-server', formats.nameServer, server);
  }
  return problems;
}

function nameServers(list: string | undefined): string[] {
  return list === undefined ? [] : list.split(',').map((server) => server.trim());
}

async function load({ config, listen = '', to = '', accessLog }: RunOptions): Promise<LoadedConfig> {
  if (config !== undefined) return await loadConfig(config);
  const log = accessLog === undefined || accessLog === '-' ? accessLog !== undefined : { path: accessLog };
  return checkConfig({ listeners: [{ name: 'main', address: listen, to, accessLog: log }] });
}

/** An option wins over the configuration, and that over the default. */
function proxyOptions(
  world: World,
  { admin, threads, dnsServer, lameDuck, logLevel, logFormat }: RunOptions,
  loaded: LoadedConfig,
): ProxyOptions {
  const chosen = admin ?? loaded.compiled.settings.admin ?? DEFAULT_ADMIN;
  return {
    lameDuckMs: lameDuckMs(lameDuck, loaded),
    admin: chosen === 'off' ? false : chosen,
    ...(threads !== undefined && { threads: Number(threads) }),
    dnsServers: nameServers(dnsServer),
    logger: (logFormat === 'json' ? jsonLogger : plainLogger)({
      level: logLevel,
      write: (line) => void world.stderr.write(line),
    }),
  };
}

function lameDuckMs(chosen: string | undefined, { compiled }: LoadedConfig): number {
  const own = chosen === undefined ? undefined : formats.durationMs(chosen);
  return own ?? compiled.settings.lameDuckMs ?? DEFAULT_LAME_DUCK_MS;
}

/** Says what happens: lines for people, or one JSON object a line. */
class Teller {
  readonly #world: World;
  readonly #format: Format;

  constructor(world: World, format: Format) {
    this.#world = world;
    this.#format = format;
  }

  event(event: string, details: object, text: string): void {
    const { stdout } = this.#world;
    stdout.write(`${this.#format === 'json' ? JSON.stringify({ event, ...details }) : text}\n`);
  }

  /** `then` says what the proxy does about it. */
  error(event: string, error: unknown, then?: string): void {
    const { stdout, stderr, env } = this.#world;
    if (this.#format === 'json') {
      stdout.write(`${JSON.stringify({ event, error: errorJson(error) })}\n`);
      return;
    }
    stderr.write(errorText(error, hasColours(stderr, env)));
    if (then) stderr.write(`${then}\n`);
  }

  addresses(addresses: readonly BoundAddress[]): void {
    const { stdout, env } = this.#world;
    const { bold, cyan } = coloursOf(stdout, env);
    const lines = addresses.map(({ listener, address }) =>
      listener === 'admin' && !address.startsWith('unix:')
        ? `${bold(listener)}: metrics on ${cyan(`http://${address}/metrics`)}`
        : `${bold(listener)}: listening on ${cyan(address)}`,
    );
    this.event('listening', { addresses }, lines.join('\n'));
  }
}

/** One proxy, from its first listener to its end. */
class Run {
  readonly #world: World;
  readonly #tell: Teller;
  readonly #proxy: MeshProxy;
  readonly #file: string | undefined;
  readonly #lameDuck: string | undefined;
  /** What serves. */
  #current: LoadedConfig;
  #watcher: ConfigWatcher | undefined;
  #signals = 0;
  /** Somebody wanted it to end. */
  #asked = false;

  constructor(
    world: World,
    tell: Teller,
    proxy: MeshProxy,
    loaded: LoadedConfig,
    { config, lameDuck }: RunOptions,
  ) {
    this.#world = world;
    this.#tell = tell;
    this.#proxy = proxy;
    this.#current = loaded;
    this.#file = config;
    this.#lameDuck = lameDuck;
  }

  async untilEnd(): Promise<ExitCode> {
    const { signals } = this.#world;
    const proxy = this.#proxy;
    const closed = new Promise<void>((resolve) => {
      proxy.once('close', resolve);
    });
    proxy.once('draining', () => {
      this.#asked = true;
      if (this.#signals === 0) this.#tell.event('draining', {}, 'draining, as asked on the admin port');
    });
    proxy.on('warning', (warning) => this.#tell.error('warning', warning));
    proxy.on('error', (error) => this.#tell.error('error', error, 'the rest keeps serving'));
    signals.on('SIGTERM', this.#onEndSignal);
    signals.on('SIGINT', this.#onEndSignal);
    signals.on('SIGHUP', this.#onReloadSignal);
    signals.on('SIGUSR1', this.#onReopenSignal);
    let watching: Promise<void> | undefined;
    try {
      const { addresses } = await proxy.listen();
      this.#tell.addresses(addresses);
      watching = this.#follow();
      await closed;
    } catch (error) {
      // A signal while it starts is an end that was asked for.
      if (this.#signals === 0) throw error;
    } finally {
      signals.off('SIGTERM', this.#onEndSignal);
      signals.off('SIGINT', this.#onEndSignal);
      signals.off('SIGHUP', this.#onReloadSignal);
      signals.off('SIGUSR1', this.#onReopenSignal);
      this.#watcher?.stop();
      await watching;
      await proxy.close();
    }
    this.#tell.event('closed', {}, 'closed');
    // Ended by nobody's wish, or by force.
    return this.#asked && this.#signals <= 1 ? ExitCode.ok : ExitCode.failure;
  }

  readonly #onReloadSignal = (): void => {
    this.#watcher?.check();
    // Before it listens there are no files that could have changed.
    if (this.#proxy.listening) this.#proxy.reloadFiles();
  };

  readonly #onReopenSignal = (): void => this.#proxy.reopenLogs();

  readonly #onEndSignal = (): void => {
    this.#signals += 1;
    this.#asked = true;
    this.#watcher?.stop();
    const failed = (error: unknown): void => this.#tell.error('error', error);
    if (this.#signals > 1) {
      this.#proxy.close().catch(failed);
      return;
    }
    this.#tell.event('draining', {}, 'draining; a second signal ends at once');
    this.#proxy.drain({ lameDuckMs: lameDuckMs(this.#lameDuck, this.#current) }).catch(failed);
  };

  /** Applies each new content of the file, until the watch ends. */
  async #follow(): Promise<void> {
    if (this.#file === undefined) return;
    const keeps = 'not applied: the last good configuration keeps serving';
    this.#watcher = watchConfig(this.#file, { since: this.#current });
    for await (const { config, error } of this.#watcher) {
      try {
        if (error) throw error;
        await this.#proxy.apply(config);
        this.#tellChanges(config);
        this.#current = config;
      } catch (cause) {
        this.#tell.error('refused', cause, keeps);
      }
    }
  }

  #tellChanges(config: LoadedConfig): void {
    const changes = changesBetween(this.#current.compiled.resources, config.compiled.resources);
    this.#tell.event('applied', { changes }, `applied: ${renderChanges(changes)}`);
    const { admin, threads } = this.#current.compiled.settings;
    const now = config.compiled.settings;
    if (admin !== now.admin || threads !== now.threads) {
      this.#tell.event('restart', {}, 'admin and threads change with the next start');
    }
  }
}
