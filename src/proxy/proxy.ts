/**
 * The embedded proxy: the core's threads with the manners of a Node server.
 *
 * JavaScript only steers. Traffic runs on the core's threads, also while this thread is busy.
 */

import { EventEmitter } from 'node:events';
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { getSystemErrorMap } from 'node:util';
import { LoadedConfig, checkConfig } from '../config/load.js';
import type { ResourceIssue } from '../config/resources.js';
import type { Config } from '../config/types.js';
import { CertificateError, InternalError, ListenError, type MeshError, StateError } from '../errors.js';
import { type NativeProxy, native } from '../native.js';
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
/** How often a drain is looked at. */
const DRAIN_LOOK_MS = 10;
/** Long enough that the timer that keeps the process alive costs nothing. */
const KEEP_ALIVE_MS = 2 ** 30;

/** What the core says when it refuses. */
interface Failure {
  readonly code: 'invalid' | 'listen' | 'closed' | 'start' | 'panic';
  readonly issues?: readonly ResourceIssue[];
  readonly listener?: string;
  readonly address?: string;
  readonly errno?: number | null;
  readonly message?: string;
}

export class Proxy extends EventEmitter<ProxyEvents> implements MeshProxy {
  #config: LoadedConfig;
  readonly #options: ProxyOptions;
  #core: NativeProxy | undefined;
  #listening: Promise<Listening> | undefined;
  #closing: Promise<void> | undefined;
  #keepAlive: NodeJS.Timeout | undefined;
  #referenced = true;

  constructor(config: Config | LoadedConfig, options: ProxyOptions = {}) {
    super();
    this.#config = load(config);
    this.#options = options;
    native();
    options.signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (options.signal?.aborted) this.#onAbort();
  }

  get listening(): boolean {
    return this.#keepAlive !== undefined;
  }

  listen({ signal }: { signal?: AbortSignal } = {}): Promise<Listening> {
    signal?.throwIfAborted();
    if (this.#closing) return Promise.reject(new StateError('the proxy was closed'));
    this.#listening ??= this.#start(signal).catch((error: unknown) => {
      this.#listening = undefined;
      throw error;
    });
    return this.#listening;
  }

  async #start(signal: AbortSignal | undefined): Promise<Listening> {
    const { threads = this.#config.compiled.settings.threads ?? defaultThreads() } = this.#options;
    const { NativeProxy } = native();
    const core = new NativeProxy(threads);
    this.#core = core;
    try {
      const listening = await this.#give(core, this.#config);
      signal?.throwIfAborted();
      this.#keepAlive = setInterval(() => {}, KEEP_ALIVE_MS);
      if (!this.#referenced) this.#keepAlive.unref();
      this.emit('listening', listening);
      return listening;
    } catch (error) {
      this.#core = undefined;
      await core.close();
      throw error;
    }
  }

  async apply(config: Config | LoadedConfig): Promise<Listening> {
    const loaded = load(config);
    if (!this.#core) throw new StateError('the proxy does not listen');
    const listening = await this.#give(this.#core, loaded);
    this.#config = loaded;
    this.emit('applied', listening);
    return listening;
  }

  async #give(core: NativeProxy, config: LoadedConfig): Promise<Listening> {
    try {
      const { addresses } = JSON.parse(await core.apply(config.toJson())) as {
        addresses: { listener: string; address: string }[];
      };
      return { addresses: inOrder(config, addresses.map(bound)) };
    } catch (error) {
      throw meshError(error, config);
    }
  }

  async drain({ lameDuckMs, timeoutMs }: DrainOptions = {}): Promise<void> {
    const core = this.#core;
    if (core && !this.#closing) {
      this.emit('draining');
      core.drain(lameDuckMs ?? this.#config.compiled.settings.lameDuckMs ?? 0, timeoutMs);
      while (core.phase() !== 'drained' && core.phase() !== 'closed' && !this.#closing) {
        await sleep(DRAIN_LOOK_MS);
      }
    }
    await this.close();
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
    this.emit('close');
  }

  async stats(): Promise<ProxyStats> {
    return JSON.parse(await this.#running().stats()) as ProxyStats;
  }

  async metrics(): Promise<string> {
    return await this.#running().metrics();
  }

  #running(): NativeProxy {
    if (!this.#core) throw new StateError('the proxy does not listen');
    return this.#core;
  }

  register(registry: MetricsRegistry): () => void {
    return addTo(registry, () => (this.#core ? this.stats() : undefined));
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

  readonly #onAbort = (): void => {
    this.close().catch((error: unknown) => this.emit('error', error as MeshError));
  };
}

function load(config: Config | LoadedConfig): LoadedConfig {
  return config instanceof LoadedConfig ? config : checkConfig(config);
}

function defaultThreads(): number {
  return Math.min(availableParallelism(), MOST_THREADS);
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

function meshError(error: unknown, config: LoadedConfig): unknown {
  const failure = parse(error);
  switch (failure?.code) {
    case 'invalid': {
      const issues = failure.issues ?? [];
      const file = issues.find(({ code }) => code === 'file' || code === 'certificate');
      return file ? new CertificateError(file.message) : config.explain(issues);
    }
    case 'listen':
      return new ListenError(
        systemCode(failure.errno) ?? 'ELISTEN',
        failure.listener ?? '',
        failure.address ?? '',
        { cause: new Error(failure.message) },
      );
    case 'closed':
      return new StateError('the proxy was closed');
    case 'start':
      return new InternalError(`the core's threads can't be started: ${failure.message}`);
    case 'panic':
      return new InternalError('the core panicked; please report what it wrote to standard error');
    default:
      return error;
  }
}

function parse(error: unknown): Failure | undefined {
  try {
    return JSON.parse((error as Error).message) as Failure;
  } catch {
    return undefined;
  }
}

function systemCode(errno: number | null | undefined): string | undefined {
  return errno === null || errno === undefined ? undefined : getSystemErrorMap().get(-errno)?.[0];
}
