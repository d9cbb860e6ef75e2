/**
 * The embedded proxy: the core's threads with the manners of a Node server.
 *
 * JavaScript only steers. Traffic runs on the core's threads, also while this thread is busy.
 */

import { EventEmitter } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import * as formats from '../config/formats.js';
import { LoadedConfig, checkConfig } from '../config/load.js';
import type { Config } from '../config/types.js';
import { type MeshError, OptionError, StateError } from '../errors.js';
import { type Logger, plainLogger } from '../logger.js';
import { type NativeProxy, native } from '../native.js';
import { meshError } from './failures.js';
import { hear } from './news.js';
import { addTo } from './prometheus.js';
import type {
  BoundAddress,
  DrainOptions,
  Listening,
  MeshProxy,
  MetricsRegistry,
  ProxyEvents,
  ProxyOptions,
  ProxyStats,
} from './types.js';

/** More threads than this gain little: a gateway's work is the kernel's. */
const MOST_THREADS = 4;
/** More threads than this are a mistake. */
const THREADS_LIMIT = 256;
/** The longest span that the core takes: 24 days. */
const LONGEST_MS = 2 ** 31 - 1;
/** How often a drain is looked at. */
const DRAIN_LOOK_MS = 10;
/** Long enough that the timer that keeps the process alive costs nothing. */
const KEEP_ALIVE_MS = 2 ** 30;
/** The method by which a test makes the core panic. */
export const PROVOKE_PANIC = Symbol('a panic of the core');

export class Proxy extends EventEmitter<ProxyEvents> implements MeshProxy {
  #config: LoadedConfig;
  readonly #options: ProxyOptions;
  readonly #log: Logger;
  #core: NativeProxy | undefined;
  #admin: BoundAddress | undefined;
  #listening: Promise<Listening> | undefined;
  /** Configurations go to the core one after the other, in the order they were given. */
  #turn: Promise<unknown> = Promise.resolve();
  #draining: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  #keepAlive: NodeJS.Timeout | undefined;
  #referenced = true;

  constructor(config: Config | LoadedConfig, options: ProxyOptions = {}) {
    super();
    native();
    checkOptions(options);
    this.#config = load(config);
    this.#options = options;
    this.#log = options.logger ?? plainLogger({ level: 'warn' });
    options.signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (options.signal?.aborted) this.#onAbort();
  }

  get listening(): boolean {
    return this.#keepAlive !== undefined;
  }

  async listen({ signal }: { signal?: AbortSignal } = {}): Promise<Listening> {
    signal?.throwIfAborted();
    this.#throwIfClosed();
    this.#listening ??= this.#start(signal).catch((error: unknown) => {
      this.#listening = undefined;
      throw error;
    });
    return await this.#listening;
  }

  async #start(signal: AbortSignal | undefined): Promise<Listening> {
    const { threads = this.#config.compiled.settings.threads ?? defaultThreads() } = this.#options;
    const core = startCore(threads, this.#onNews, this.#options.dnsServers ?? []);
    this.#core = core;
    try {
      this.#admin = this.#serveAdmin(core);
      const listening = await this.#give(core, this.#config);
      signal?.throwIfAborted();
      this.#throwIfClosed();
      this.#keepAlive = setInterval(() => {}, KEEP_ALIVE_MS);
      if (!this.#referenced) this.#keepAlive.unref();
      this.#log.info(listening, 'listening');
      this.emit('listening', listening);
      return listening;
    } catch (error) {
      this.#core = undefined;
      await core.close();
      throw error;
    }
  }

  /** Before anything is applied: it tells when the proxy is ready, and no cluster may lead there. */
  #serveAdmin(core: NativeProxy): BoundAddress | undefined {
    const address = this.#options.admin ?? this.#config.compiled.settings.admin ?? false;
    if (address === false) return undefined;
    try {
      return bound({ listener: 'admin', address: core.serveAdmin(address, this.#lameDuckMs()) });
    } catch (error) {
      throw meshError(error);
    }
  }

  async apply(config: Config | LoadedConfig): Promise<Listening> {
    const loaded = load(config);
    const listening = await this.#give(this.#running(), loaded);
    this.#config = loaded;
    this.#log.info(listening, 'a new configuration is live');
    this.emit('applied', listening);
    return listening;
  }

  #give(core: NativeProxy, config: LoadedConfig): Promise<Listening> {
    const given = this.#turn.then(async () => {
      try {
        const { addresses } = JSON.parse(await core.apply(config.toJson())) as {
          addresses: { listener: string; address: string }[];
        };
        const listeners = inOrder(config, addresses.map(bound));
        return { addresses: this.#admin ? [...listeners, this.#admin] : listeners };
      } catch (error) {
        throw this.#closing ? this.#closedError() : meshError(error, config);
      }
    });
    this.#turn = given.catch(() => {});
    return given;
  }

  drain(options: DrainOptions = {}): Promise<void> {
    this.#draining ??= this.#drain(options);
    return this.#draining;
  }

  async #drain({ lameDuckMs, timeoutMs }: DrainOptions): Promise<void> {
    const core = this.#core;
    if (core && !this.#closing) {
      this.#log.info('draining');
      this.emit('draining');
      const lameDuck = lameDuckMs === undefined ? this.#lameDuckMs() : milliseconds(lameDuckMs);
      core.drain(lameDuck, timeoutMs === undefined ? undefined : milliseconds(timeoutMs));
      while (core.phase() !== 'drained' && core.phase() !== 'closed' && !this.#closing) {
        await sleep(DRAIN_LOOK_MS);
      }
    }
    await this.close();
  }

  #lameDuckMs(): number {
    return milliseconds(this.#options.lameDuckMs ?? this.#config.compiled.settings.lameDuckMs ?? 0);
  }

  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  async #end(): Promise<void> {
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    clearInterval(this.#keepAlive);
    this.#keepAlive = undefined;
    const core = this.#core;
    this.#core = undefined;
    await core?.close();
    this.#log.info('closed');
    this.emit('close');
  }

  async stats(): Promise<ProxyStats> {
    return JSON.parse(await this.#ask((core) => core.stats())) as ProxyStats;
  }

  metrics(): Promise<string> {
    return this.#ask((core) => core.metrics());
  }

  async #ask(question: (core: NativeProxy) => Promise<string>): Promise<string> {
    const core = this.#running();
    try {
      return await question(core);
    } catch (error) {
      throw this.#closing ? this.#closedError() : meshError(error, this.#config);
    }
  }

  #running(): NativeProxy {
    this.#throwIfClosed();
    if (!this.#core) throw new StateError('the proxy does not listen');
    return this.#core;
  }

  #throwIfClosed(): void {
    if (this.#closing) throw this.#closedError();
  }

  /** What a signal ended rejects with the signal's reason. */
  #closedError(): unknown {
    const { signal } = this.#options;
    return signal?.aborted ? signal.reason : new StateError('the proxy was closed');
  }

  register(registry: MetricsRegistry): () => void {
    return addTo(registry, () => this.#look());
  }

  /** A scrape is no failure because the proxy does not run, or ends meanwhile. */
  async #look(): Promise<string | undefined> {
    if (!this.#core) return undefined;
    try {
      return await this.metrics();
    } catch (error) {
      if (this.#closing) return undefined;
      throw error;
    }
  }

  reloadFiles(): void {
    this.#running().reloadFiles();
  }

  /** For tests. */
  [PROVOKE_PANIC](onControl: boolean): void {
    this.#running().provokePanic(onControl);
  }

  reopenLogs(): void {
    this.#running().reopenLogs();
  }

  ref(): this {
    this.#referenced = true;
    this.#keepAlive?.ref();
    return this;
  }

  unref(): this {
    this.#referenced = false;
    this.#keepAlive?.unref();
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  readonly #onNews = (entry: string): void => {
    hear(entry, this.#log, {
      draining: () => void this.drain().catch(() => {}),
      warning: (warning) => this.emit('warning', warning),
      // A defect that was contained must not end the process because nobody listens.
      error: (error) => this.listenerCount('error') > 0 && this.emit('error', error),
    });
  };

  readonly #onAbort = (): void => {
    this.close().catch((error: unknown) => this.emit('error', error as MeshError));
  };
}

function checkOptions({ admin, threads, dnsServers = [] }: ProxyOptions): void {
  if (admin !== undefined && admin !== false && !formats.address.accepts(admin)) {
    throw new OptionError('admin', `${formats.address.expected}, or false`, admin);
  }
  if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1 && threads <= THREADS_LIMIT)) {
    throw new OptionError('threads', `a whole number, 1 to ${THREADS_LIMIT}`, threads);
  }
  const wrong = dnsServers.find((server) => !formats.nameServer.accepts(server));
  if (wrong !== undefined) throw new OptionError('dnsServers', formats.nameServer.expected, wrong);
}

function startCore(
  threads: number,
  said: (entry: string) => void,
  dnsServers: readonly string[],
): NativeProxy {
  const { NativeProxy } = native();
  try {
    return new NativeProxy(threads, said, dnsServers);
  } catch (error) {
    throw meshError(error);
  }
}

function load(config: Config | LoadedConfig): LoadedConfig {
  return config instanceof LoadedConfig ? config : checkConfig(config);
}

function defaultThreads(): number {
  return Math.min(native().processors(), MOST_THREADS);
}

/** A span as the core takes it: whole, not negative, in 32 bits. */
function milliseconds(span: number): number {
  return Math.round(Math.min(Math.max(span, 0), LONGEST_MS));
}

function bound({ listener, address }: { listener: string; address: string }): BoundAddress {
  const colon = address.lastIndexOf(':');
  if (address.startsWith('unix:')) return { listener, address };
  return {
    listener,
    address,
    host: address.slice(0, colon).replace(/^\[|\]$/g, ''),
    port: Number(address.slice(colon + 1)),
  };
}

/** The core knows listeners by name; people know them as they wrote them. */
function inOrder(config: LoadedConfig, addresses: BoundAddress[]): BoundAddress[] {
  const place = new Map(config.compiled.resources.listeners.map(({ name }, index) => [name, index]));
  const of = ({ listener }: BoundAddress): number => place.get(listener) ?? place.size;
  return addresses.sort((a, b) => of(a) - of(b));
}
