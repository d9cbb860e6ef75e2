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
import { plainLogger } from '../logger.js';
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
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
SIGTERM or SIGINT drains; a second one ends at once. SIGHUP reads the configuration again.

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
  const { createProxy } = await world.loadCore();
  const teller = new Teller(world, options.output);
  const proxy = createProxy(loaded, proxyOptions(world, options, loaded));
  return await new Run(world, teller, proxy, loaded, options.config).untilEnd();
}

/** Everything that is wrong with the options, in one go. */
function problemsOf({ config, listen, to, admin, threads }: RunOptions): string[] {
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
  if (threads !== undefined && !/^([1-9]\d?|1\d\d|2[0-4]\d|25[0-6])$/.test(threads)) {
    problems.push(`--threads: expected a whole number, 1 to 256, received ${threads}`);
  }
  return problems;
}

async function load({ config, listen = '', to = '' }: RunOptions): Promise<LoadedConfig> {
  return config === undefined
    ? checkConfig({ listeners: [{ name: 'main', address: listen, to }] })
    : await loadConfig(config);
}

/** An option wins over the configuration, and that over the default. */
function proxyOptions(
  world: World,
  { admin, threads }: RunOptions,
  { compiled }: LoadedConfig,
): ProxyOptions {
  const chosen = admin ?? compiled.settings.admin ?? DEFAULT_ADMIN;
  return {
    admin: chosen === 'off' ? false : chosen,
    ...(threads !== undefined && { threads: Number(threads) }),
    logger: plainLogger({ level: 'warn', write: (line) => void world.stderr.write(line) }),
  };
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
  /** What serves. */
  #current: LoadedConfig;
  #watcher: ConfigWatcher | undefined;
  #signals = 0;

  constructor(world: World, tell: Teller, proxy: MeshProxy, loaded: LoadedConfig, file: string | undefined) {
    this.#world = world;
    this.#tell = tell;
    this.#proxy = proxy;
    this.#current = loaded;
    this.#file = file;
  }

  async untilEnd(): Promise<ExitCode> {
    const { signals } = this.#world;
    const proxy = this.#proxy;
    const closed = new Promise<void>((resolve) => {
      proxy.once('close', resolve);
    });
    proxy.on('warning', (warning) => this.#tell.error('warning', warning));
    proxy.on('error', (error) => this.#tell.error('error', error, 'the rest keeps serving'));
    signals.on('SIGTERM', this.#onEndSignal);
    signals.on('SIGINT', this.#onEndSignal);
    signals.on('SIGHUP', this.#onReloadSignal);
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
      this.#watcher?.stop();
      await watching;
      await proxy.close();
    }
    this.#tell.event('closed', {}, 'closed');
    // Ended by nobody's wish, or by force.
    return this.#signals === 1 ? ExitCode.ok : ExitCode.failure;
  }

  readonly #onReloadSignal = (): void => this.#watcher?.check();

  readonly #onEndSignal = (): void => {
    this.#signals += 1;
    this.#watcher?.stop();
    const failed = (error: unknown): void => this.#tell.error('error', error);
    if (this.#signals > 1) {
      this.#proxy.close().catch(failed);
      return;
    }
    this.#tell.event('draining', {}, 'draining; a second signal ends at once');
    const { lameDuckMs = DEFAULT_LAME_DUCK_MS } = this.#current.compiled.settings;
    this.#proxy.drain({ lameDuckMs }).catch(failed);
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
