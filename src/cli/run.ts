/**
 * `mesh run`: serve in this process.
 *
 * The configuration's file is watched and applied live; what is refused is told, and the last good one serves on. What is
 * refused for a file that it names or an address in use is tried again. SIGHUP applies it again, changed or not. The first
 * SIGTERM or SIGINT drains, a second one ends at once.
 */

import type { Command } from 'commander';
import { type LoadedConfig, checkShape, withMeaning } from '../config/load.js';
import { sensible } from '../config/meaning.js';
import { type ConfigWatcher, watchShape } from '../config/watch.js';
import { StateError } from '../errors.js';
import { type LogLevel, type Logger, jsonLogger, plainLogger } from '../logger.js';
import { NextStart } from '../proxy/next-start.js';
import type { BoundAddress, MeshProxy, ProxyOptions } from '../proxy/types.js';
import { changesBetween, renderChanges } from './changes.js';
import { loadWhole } from './check.js';
import { type Core, ExitCode, type Output, type World } from './io.js';
import { givenBy } from './mistyped.js';
import { DEFAULT_ADMIN } from './options.js';
import { type GivenOptions, type RunOptions, readRunOptions, runOptions } from './run-options.js';
import { type Format, coloursOf, errorJson, errorText, hasColours } from './output.js';
import { hearSignals } from './signals.js';
import { BoundedOutput, DROPPED, droppedLine } from './unread.js';

/** How long a load balancer may take to see that `/ready` is red. */
const DEFAULT_LAME_DUCK_MS = 3000;

export function addRun(program: Command, world: World, end: (code: ExitCode) => void): void {
  const command = program
    .command('run')
    .description('run a proxy, from a configuration file or from one address to another')
    .addHelpText(
      'after',
      `
An option wins over its variable, and both over the configuration; an empty variable is none.
SIGTERM or SIGINT drains; a second one ends at once. SIGHUP reads the configuration and certificates again and applies
them, changed or not; SIGUSR1 opens access logs anew.

Examples:
  mesh run --listen 127.0.0.1:8080 --to 127.0.0.1:3000
  mesh run -c mesh.yaml
  mesh run -c mesh.yaml --admin off --threads 1
  mesh run -c mesh.yaml --check && echo fine`,
    );
  for (const option of runOptions()) command.addOption(option);
  command.action(async (given: GivenOptions) => {
    world.serves();
    end(await run(world, readRunOptions(given, givenBy(command))));
  });
}

async function run(world: World, options: RunOptions): Promise<ExitCode> {
  const core = await world.loadCore();
  const { createProxy, checkResources } = core;
  const loaded = withDefaults(await load(options, core));
  const teller = new Teller(world, options.output);
  teller.follows(loaded);
  if (options.check) {
    sensible(loaded, checkResources);
    teller.event('valid', {}, 'the configuration is valid');
    return ExitCode.ok;
  }
  const proxy = createProxy(loaded, proxyOptions(world, options, loaded));
  return await new Run(world, core, teller, proxy, loaded, options).untilEnd();
}

async function load({ config, listen, to, accessLog }: RunOptions, core: Core): Promise<LoadedConfig> {
  if (config !== undefined) return await loadWhole(config, core);
  const log = accessLog === undefined || accessLog === '-' ? accessLog !== undefined : { path: accessLog };
  return checkShape({ listeners: [{ name: 'main', address: listen ?? '', to: to ?? '', accessLog: log }] });
}

/** What the command sets where the configuration says nothing. */
function withDefaults(loaded: LoadedConfig): LoadedConfig {
  const { settings } = loaded.compiled;
  settings.lameDuckMs ??= DEFAULT_LAME_DUCK_MS;
  settings.admin ??= DEFAULT_ADMIN;
  return loaded;
}

/** An option wins over the configuration, and that over the default. */
function proxyOptions(world: World, options: RunOptions, loaded: LoadedConfig): ProxyOptions {
  const { dnsServers, logLevel, logFormat } = options;
  const { settings } = loaded.compiled;
  const { admin = settings.admin, threads = settings.threads } = options;
  return {
    ...(options.lameDuckMs !== undefined && { lameDuckMs: options.lameDuckMs }),
    ...(admin !== undefined && { admin: admin === 'off' ? false : admin }),
    ...(threads !== undefined && { threads }),
    dnsServers,
    logger: boundedLogger(world.stderr, logFormat === 'json' ? jsonLogger : plainLogger, logLevel),
  };
}

/** A logger that says among its lines how many nobody read in time. */
function boundedLogger(output: Output, logger: typeof plainLogger, level: LogLevel): Logger {
  let last = '';
  const lost = logger({ write: (line) => (last = line) });
  const bounded = new BoundedOutput(output, (lines) => {
    lost.warn({ lines }, DROPPED);
    return last;
  });
  return logger({ level, write: (line) => bounded.write(line, 'others') });
}

function lameDuckOf({ lameDuckMs }: Pick<RunOptions, 'lameDuckMs'>, { compiled }: LoadedConfig): number {
  return lameDuckMs ?? compiled.settings.lameDuckMs ?? DEFAULT_LAME_DUCK_MS;
}

/** Whether the core writes lines to standard output by itself. */
function logsToStdout({ compiled }: LoadedConfig): boolean {
  return compiled.resources.listeners.some(({ accessLog }) => accessLog && accessLog.path === undefined);
}

/** Says what happens: lines for people, or one JSON object a line. */
class Teller {
  readonly #env: World['env'];
  readonly #stdout: Output;
  readonly #stderr: Output;
  readonly #format: Format;
  /** Standard output is the access log's: two writers would tear each other's lines. */
  #isLogged = false;

  constructor({ stdout, stderr, env }: World, format: Format) {
    this.#env = env;
    this.#stdout = new BoundedOutput(stdout, droppedLine(format));
    this.#stderr = new BoundedOutput(stderr, droppedLine(format));
    this.#format = format;
  }

  /** What serves from now on. */
  follows(loaded: LoadedConfig): void {
    // A log that has gone may still have lines to write.
    this.#isLogged ||= logsToStdout(loaded);
  }

  /** Where it says what happens. */
  get #out(): Output {
    return this.#isLogged ? this.#stderr : this.#stdout;
  }

  event(event: string, details: object, text: string): void {
    this.#out.write(`${this.#format === 'json' ? JSON.stringify({ event, ...details }) : text}\n`);
  }

  /** To people it is the logger's to tell. */
  warning(warning: unknown): void {
    if (this.#format === 'json') this.error('warning', warning);
  }

  /** `then` says what the proxy does about it. */
  error(event: string, error: unknown, then?: string): void {
    if (this.#format === 'json') {
      this.#out.write(`${JSON.stringify({ event, error: errorJson(error) })}\n`);
      return;
    }
    this.#stderr.write(errorText(error, hasColours(this.#stderr, this.#env)));
    if (then) this.#stderr.write(`${then}\n`);
  }

  addresses(addresses: readonly BoundAddress[]): void {
    const { bold, cyan } = coloursOf(this.#out, this.#env);
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
  readonly #core: Core;
  readonly #tell: Teller;
  readonly #proxy: MeshProxy;
  readonly #file: string | undefined;
  readonly #options: RunOptions;
  readonly #nextStart: NextStart;
  /** What serves. */
  #current: LoadedConfig;
  #watcher: ConfigWatcher | undefined;
  #signals = 0;
  /** Somebody wanted it to end. */
  #asked = false;

  constructor(
    world: World,
    core: Core,
    tell: Teller,
    proxy: MeshProxy,
    loaded: LoadedConfig,
    options: RunOptions,
  ) {
    this.#world = world;
    this.#core = core;
    this.#tell = tell;
    this.#proxy = proxy;
    this.#current = loaded;
    this.#file = options.config;
    this.#options = options;
    this.#nextStart = new NextStart(loaded.compiled.settings, options);
  }

  async untilEnd(): Promise<ExitCode> {
    const proxy = this.#proxy;
    const closed = new Promise<void>((resolve) => {
      proxy.once('close', resolve);
    });
    proxy.once('draining', () => {
      this.#asked = true;
      if (this.#signals === 0) this.#tell.event('draining', {}, 'draining, as asked on the admin port');
    });
    proxy.on('warning', (warning) => this.#tell.warning(warning));
    proxy.on('error', (error) => this.#tell.error('error', error, 'the rest keeps serving'));
    const stopHearing = hearSignals(this.#world.signals, {
      SIGTERM: this.#onEndSignal,
      SIGINT: this.#onEndSignal,
      SIGHUP: this.#onReloadSignal,
      SIGUSR1: this.#onReopenSignal,
    });
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
      stopHearing();
      this.#watcher?.stop();
      await watching;
      await proxy.close();
    }
    this.#tell.event('closed', {}, 'closed');
    // Ended by nobody's wish, or by force.
    return this.#asked && this.#signals <= 1 ? ExitCode.ok : ExitCode.failure;
  }

  // Before it listens, and once it has ended, no file is open and none could have changed.
  readonly #onReloadSignal = (): void => {
    this.#watcher?.check();
    if (this.#proxy.listening) this.#proxy.reloadFiles();
  };

  readonly #onReopenSignal = (): void => {
    if (this.#proxy.listening) this.#proxy.reopenLogs();
  };

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
    this.#proxy.drain({ lameDuckMs: lameDuckOf(this.#options, this.#current) }).catch(failed);
  };

  /** Applies each new content of the file, until the watch ends. */
  async #follow(): Promise<void> {
    if (this.#file === undefined) return;
    const keeps = 'not applied: the last good configuration keeps serving';
    const watcher = (this.#watcher = watchShape(this.#file, { since: this.#current }));
    for await (const { config, error } of watcher) {
      try {
        if (error) {
          this.#proxy.countRefused();
          throw withMeaning(error, this.#core.validateResources);
        }
        // Before it is live: its access log may be the first that goes to standard output.
        this.#tell.follows(config);
        await this.#proxy.apply(withDefaults(config));
        this.#tellChanges(config);
        this.#current = config;
      } catch (cause) {
        // A change that the end has overtaken was not refused.
        if (this.#asked && cause instanceof StateError) continue;
        if (!config || watcher.refused(config, cause)) this.#tell.error('refused', cause, keeps);
      }
    }
  }

  #tellChanges(config: LoadedConfig): void {
    const changes = changesBetween(this.#current.compiled.resources, config.compiled.resources);
    if (lameDuckOf(this.#options, this.#current) !== lameDuckOf(this.#options, config)) {
      changes.push({ what: 'changed', kind: 'setting', name: 'lameDuck' });
    }
    this.#tell.event('applied', { changes }, `applied: ${renderChanges(changes)}`);
    const later = this.#nextStart.of(config.compiled.settings);
    if (later !== undefined) this.#tell.event('restart', {}, later);
  }
}
