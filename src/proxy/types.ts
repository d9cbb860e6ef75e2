/**
 * What does an embedded proxy look like from outside?
 *
 * The public face of `createProxy`: what it takes, what it gives, what it tells. Its code is elsewhere.
 */

import type { LoadedConfig } from '../config/load.js';
import type { Config } from '../config/types.js';
import type { MeshError } from '../errors.js';
import type { Logger } from '../logger.js';

/** Settings of a proxy that are not part of its configuration. */
export interface ProxyOptions {
  /** Takes what the proxy has to say; nothing is logged per request. Default: warnings and errors to standard error. */
  logger?: Logger;
  /** Closes the proxy when aborted. */
  signal?: AbortSignal;
  /** Where the admin server listens, `false` for nowhere; wins over the configuration. Default: nowhere. */
  admin?: string | false;
  /** Data threads; wins over the configuration. Default: the CPU quota, at most 4. */
  threads?: number;
}

/** Makes a proxy. Nothing listens before `listen()`. A configuration that is refused throws a `ConfigError`. */
export type CreateProxy = (config: Config | LoadedConfig, options?: ProxyOptions) => MeshProxy;

/** An address that a listener got. */
export interface BoundAddress {
  /** The listener's name; `admin` for the admin server. */
  readonly listener: string;
  /** As text: `127.0.0.1:43210`, `[::1]:43210` or `unix:/run/app.sock`. */
  readonly address: string;
  /** The IP address; absent for Unix sockets. */
  readonly host?: string;
  /** The port, also when 0 was asked for; absent for Unix sockets. */
  readonly port?: number;
}

/** Where a proxy listens. */
export interface Listening {
  /** In the order of the configuration; the admin server last. */
  readonly addresses: readonly BoundAddress[];
}

/** How to drain. */
export interface DrainOptions {
  /** How long new connections are still served, in milliseconds. Default: the configuration's `lameDuck`, else 0. */
  lameDuckMs?: number;
  /** How long work in flight may go on after that, in milliseconds. Default: each listener's `timeouts.drain`. */
  timeoutMs?: number;
}

/** What a proxy tells while it runs. */
export interface ProxyEvents {
  /** It listens. */
  listening: [listening: Listening];
  /** A new configuration is live. */
  applied: [listening: Listening];
  /** A drain has begun. */
  draining: [];
  /** Everything has ended; the last event. */
  close: [];
  /** Something needs attention, and the proxy goes on: an expiring certificate, a name that can't be looked up. */
  warning: [warning: MeshError];
  /** A part failed, and the proxy goes on with the rest. Like every `error` event it throws when nobody listens. */
  error: [error: MeshError];
}

/** A proxy in this process. Its traffic runs on threads of the core and never waits for JavaScript. */
export interface MeshProxy extends AsyncDisposable {
  /** Whether it listens. */
  readonly listening: boolean;

  /**
   * Binds every listener of the configuration and starts to serve. All are bound, or none.
   *
   * @throws {ListenError} an address is in use or can't be had
   * @throws {CertificateError} a certificate or key can't be read or doesn't fit
   */
  listen(options?: { signal?: AbortSignal }): Promise<Listening>;

  /**
   * Replaces the configuration while traffic flows: listeners that stay keep their sockets, clusters that stay their
   * connections. It goes live whole or is refused whole, and then the last good one serves on.
   *
   * @throws {ConfigError} the configuration is refused
   * @throws {ListenError} a new listener's address can't be had
   * @throws {CertificateError} a certificate or key can't be read or doesn't fit
   */
  apply(config: Config | LoadedConfig): Promise<Listening>;

  /** Stops to accept, lets work in flight end or meet its deadline, and closes. Resolves when all has ended. */
  drain(options?: DrainOptions): Promise<void>;

  /** Ends everything at once; also a drain. May be called twice. */
  close(): Promise<void>;

  /** What it has done and is doing: the same as the admin server's `/stats`. */
  stats(): Promise<ProxyStats>;

  /** The same for Prometheus, in its text format. */
  metrics(): Promise<string>;

  /** Adds the metrics to a registry of prom-client, read at each scrape. Gives a function that takes them out. */
  register(registry: MetricsRegistry): () => void;

  /** Keeps the process alive while it listens, which is the default; like `net.Server`. */
  ref(): this;
  /** Lets the process end although it listens. */
  unref(): this;

  on<E extends keyof ProxyEvents>(event: E, listener: (...args: ProxyEvents[E]) => void): this;
  once<E extends keyof ProxyEvents>(event: E, listener: (...args: ProxyEvents[E]) => void): this;
  off<E extends keyof ProxyEvents>(event: E, listener: (...args: ProxyEvents[E]) => void): this;
}

/** The part of prom-client's `Registry` that is used. */
export interface MetricsRegistry {
  readonly contentType: string;
  registerMetric(metric: object): void;
  removeSingleMetric(name: string): void;
}

/** A proxy's statistics: counters since its start, gauges of now. */
export interface ProxyStats {
  readonly version: string;
  /** Seconds since it started. */
  readonly uptimeSeconds: number;
  readonly state: 'starting' | 'serving' | 'draining' | 'closed';
  readonly listeners: readonly ListenerStats[];
  readonly routes: readonly RouteStats[];
  readonly clusters: readonly ClusterStats[];
  readonly process: ProcessStats;
}

/** One listener. */
export interface ListenerStats {
  readonly name: string;
  readonly address: string;
  /** Open connections. */
  readonly connections: number;
  readonly connectionsTotal: number;
  readonly tlsHandshakesTotal: number;
  readonly tlsFailuresTotal: number;
}

/** One route, for one cluster and protocol that it was used with. */
export interface RouteStats {
  readonly listener: string;
  readonly route: string;
  readonly cluster: string;
  readonly protocol: string;
  readonly requestsTotal: number;
  /** Responses by class: `2xx`, `5xx`, ... */
  readonly responses: Readonly<Record<string, number>>;
  /** Responses and ends that the proxy made itself, by reason. */
  readonly reasons: Readonly<Record<string, number>>;
  readonly receivedBytes: number;
  readonly sentBytes: number;
  /** Milliseconds from the request's head to the response's end; null before the first request. */
  readonly latencyMs: { readonly p50: number; readonly p95: number; readonly p99: number } | null;
}

/** One cluster. */
export interface ClusterStats {
  readonly name: string;
  /** Open connections to its servers. */
  readonly connections: number;
  readonly poolHitsTotal: number;
  readonly poolMissesTotal: number;
  readonly endpoints: readonly EndpointStats[];
}

/** One endpoint. */
export interface EndpointStats {
  readonly address: string;
  readonly state: 'available' | 'ejected' | 'draining' | 'unhealthy';
  readonly requestsInFlight: number;
}

/** The process. What the system doesn't tell is null. */
export interface ProcessStats {
  readonly cpuSeconds: number | null;
  readonly residentBytes: number | null;
  readonly openFiles: number | null;
  readonly threads: number;
}
