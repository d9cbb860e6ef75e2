/**
 * The embedded proxy: the core's threads with the manners of a Node server.
 *
 * JavaScript only steers. Traffic runs on the core's threads, also while this thread is busy.
 */

import { EventEmitter } from 'node:events';
import { setImmediate as othersTurn, setTimeout as sleep } from 'node:timers/promises';
import { aside } from '../aside.js';
import { type LoadedConfig, checkShape, isLoadedConfig, withMeaning } from '../config/load.js';
import type { ResourceIssue } from '../config/resources.js';
import type { Config } from '../config/types.js';
import { MeshError, type OptionError, StateError } from '../errors.js';
import { meshError } from '../failures.js';
import { type LogLevel, type LogMethod, type Logger, plainLogger } from '../logger.js';
import { type NativeProxy, native } from '../native.js';
import { Turns } from '../turns.js';
import { hear } from './news.js';
import { type AtStart, NextStart } from './next-start.js';
import { checkDrainOptions, checkListenOptions, checkProxyOptions } from './options.js';
import { addTo } from './prometheus.js';
import type {
  BoundAddress,
  DrainOptions,
  ListenOptions,
  Listening,
  MeshProxy,
  MetricsRegistry,
  ProxyEvents,
  ProxyOptions,
  ProxyStats,
} from './types.js';

/** More threads than this gain little: a gateway's work is the kernel's. */
const MOST_THREADS = 4;
/** The longest span that the core takes: 24 days. */
const LONGEST_MS = 2 ** 31 - 1;
/** How often a drain is looked at. */
const DRAIN_LOOK_MS = 10;
/** Long enough that the timer that keeps the process alive costs nothing. */
const KEEP_ALIVE_MS = 2 ** 30;
/** The method by which a test makes the core panic. */
export const PROVOKE_PANIC = Symbol('a panic of the core');

/** A start that callers of `listen()` wait for. */
interface Start {
  /** Those that have not given up. */
  callers: number;
  /** Ends it, once there is none. */
  readonly abandoned: AbortController;
  readonly end: Promise<Listening>;
}

export class Proxy extends EventEmitter<ProxyEvents> implements MeshProxy {
  #config: LoadedConfig;
  readonly #options: ProxyOptions;
  readonly #log: Logger;
  #core: NativeProxy | undefined;
  #admin: BoundAddress | undefined;
  #nextStart: NextStart | undefined;
  #start: Start | undefined;
  /** Where what is live listens. */
  #listening: Listening | undefined;
  /** The end of a core that failed to start: its addresses are free then. */
  #ended: Promise<void> | undefined;
  /** Configurations go to the core one after the other, in the order they were given. */
  readonly #turns = new Turns();
  #draining: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  #keepAlive: NodeJS.Timeout | undefined;
  #referenced = true;

  constructor(config: Config | LoadedConfig, options: ProxyOptions = {}) {
    super();
    native();
    checkProxyOptions(options);
    this.#config = load(config);
    this.#options = options;
    this.#log = apart(options.logger ?? plainLogger({ level: 'warn' }));
    options.signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (options.signal?.aborted) this.#onAbort();
  }

  get listening(): boolean {
    return this.#keepAlive !== undefined;
  }

  async listen(options: ListenOptions = {}): Promise<Listening> {
    checkListenOptions(options);
    const { signal } = options;
    signal?.throwIfAborted();
    this.#throwIfClosed();
    const start = (this.#start ??= this.#begin());
    start.callers += 1;
    try {
      const first = await unlessAborted(start.end, signal);
      // What was applied since may listen elsewhere.
      return this.#listening ?? first;
    } finally {
      start.callers -= 1;
      if (start.callers === 0 && !this.listening) {
        this.#forget(start);
        start.abandoned.abort(signal?.reason);
      }
    }
  }

  #begin(): Start {
    const abandoned = new AbortController();
    const start = { callers: 0, abandoned, end: this.#listen(abandoned.signal) };
    start.end.catch(() => this.#forget(start));
    return start;
  }

  /** The next `listen()` starts anew. */
  #forget(start: Start): void {
    if (this.#start === start) this.#start = undefined;
  }

  async #listen(abandoned: AbortSignal): Promise<Listening> {
    if (this.#ended) await this.#ended;
    abandoned.throwIfAborted();
    this.#throwIfClosed();
    const runs = atStart(this.#config);
    const core = startCore(
      this.#options.threads ?? runs.threads,
      this.#onNews,
      this.#options.dnsServers ?? [],
    );
    this.#core = core;
    this.#nextStart = new NextStart(runs, this.#options);
    let ended: Promise<void> | undefined;
    const end = (): void => {
      if (this.#core === core) this.#core = undefined;
      // A second one would not wait for the first.
      ended ??= core.close();
      this.#ended = ended;
    };
    abandoned.addEventListener('abort', end, { once: true });
    try {
      this.#admin = this.#serveAdmin(core, this.#options.admin ?? runs.admin);
      const listening = await this.#give(core, this.#config, end);
      abandoned.throwIfAborted();
      this.#throwIfClosed();
      this.#keepAlive = setInterval(() => {}, KEEP_ALIVE_MS);
      if (!this.#referenced) this.#keepAlive.unref();
      this.#log.info(listening, 'listening');
      aside(() => this.emit('listening', listening));
      return listening;
    } catch (error) {
      end();
      await this.#ended;
      throw error;
    } finally {
      abandoned.removeEventListener('abort', end);
    }
  }

  /** Before anything is applied: it tells when the proxy is ready, and no cluster may lead there. */
  #serveAdmin(core: NativeProxy, address: string | false): BoundAddress | undefined {
    if (address === false) return undefined;
    try {
      return bound({ listener: 'admin', address: core.serveAdmin(address, this.#lameDuckMs()) });
    } catch (error) {
      throw meshError(error);
    }
  }

  async apply(config: Config | LoadedConfig): Promise<Listening> {
    const core = this.#running();
    const loaded = this.#load(config, core);
    const listening = await this.#give(core, loaded);
    this.#config = loaded;
    if (this.#core === core) core.setLameDuck(this.#lameDuckMs());
    this.#log.info(listening, 'a new configuration is live');
    aside(() => this.emit('applied', listening));
    const later = this.#nextStart?.of(atStart(loaded));
    if (later !== undefined) {
      this.#log.warn(later);
      aside(() => this.emit('warning', new MeshError('MESH_RESTART_NEEDED', later)));
    }
    return listening;
  }

  /** What is refused here counts as what the core refuses. */
  #load(config: Config | LoadedConfig, core: NativeProxy): LoadedConfig {
    try {
      return load(config);
    } catch (error) {
      core.countRefused();
      throw error;
    }
  }

  /** `refused` is called before it is the turn of the next one. */
  #give(core: NativeProxy, config: LoadedConfig, refused?: () => void): Promise<Listening> {
    return this.#turns.run(async () => {
      try {
        // The start that it waited for has failed.
        if (core !== this.#core) throw notListening();
        const { addresses } = JSON.parse(await core.apply(config.toJson())) as {
          addresses: { listener: string; address: string }[];
        };
        const listeners = inOrder(config, addresses.map(bound));
        this.#listening = { addresses: this.#admin ? [...listeners, this.#admin] : listeners };
        return this.#listening;
      } catch (error) {
        refused?.();
        throw this.#refusal(error, core, config);
      }
    });
  }

  drain(options: DrainOptions = {}): Promise<void> {
    try {
      checkDrainOptions(options);
    } catch (error) {
      return Promise.reject(error as OptionError);
    }
    this.#draining ??= this.#drain(options);
    return this.#draining;
  }

  async #drain({ lameDuckMs, timeoutMs }: DrainOptions): Promise<void> {
    const core = this.#core;
    if (core && !this.#closing) {
      this.#log.info('draining');
      aside(() => this.emit('draining'));
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
    await this.#ended;
    // Calls under way have their answers, and what the core said last is heard: nothing comes after the last event.
    await this.#turns.settled;
    await othersTurn();
    this.#log.info('closed');
    aside(() => this.emit('close'));
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
      throw this.#refusal(error, core, this.#config);
    }
  }

  /** Why the core has not done what it was asked for. */
  #refusal(error: unknown, core: NativeProxy, asked: LoadedConfig): unknown {
    if (this.#closing) return this.#closedError();
    const refusal = meshError(error, asked);
    if (!(refusal instanceof StateError)) return refusal;
    // One that was asked for on the admin port may not have been heard of here.
    const isDraining = this.#draining !== undefined || core === this.#core;
    return isDraining ? new StateError('the proxy is draining') : notListening();
  }

  #running(): NativeProxy {
    this.#throwIfClosed();
    if (!this.#core) throw notListening();
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
    return addTo(registry, this, () => this.#look());
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

  countRefused(): void {
    this.#core?.countRefused();
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
      warning: (warning) => aside(() => this.emit('warning', warning)),
      // A defect that was contained must not end the process because nobody listens.
      error: (error) => aside(() => this.listenerCount('error') > 0 && this.emit('error', error)),
    });
  };

  readonly #onAbort = (): void => {
    this.close().catch((error: unknown) => this.emit('error', error as MeshError));
  };
}

/** A logger that is called aside. */
function apart(logger: Logger): Logger {
  const method =
    (level: LogLevel): LogMethod =>
    (...said: [object | string, string?]) =>
      aside(() => Reflect.apply(logger[level], logger, said) as unknown);
  return { debug: method('debug'), info: method('info'), warn: method('warn'), error: method('error') };
}

function notListening(): StateError {
  return new StateError('the proxy does not listen');
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
  if (isLoadedConfig(config)) return config;
  try {
    return checkShape(config);
  } catch (error) {
    throw withMeaning(error, (json) => JSON.parse(native().validate(json)) as ResourceIssue[]);
  }
}

/** The promise's value, or the signal's reason as soon as that is aborted. */
async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return await promise;
  let onAbort = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** What a proxy in this process would start with by a configuration. */
function atStart({ compiled }: LoadedConfig): Required<AtStart> {
  const { admin = false, threads = defaultThreads() } = compiled.settings;
  return { admin, threads };
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
