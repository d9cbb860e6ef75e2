/**
 * What does an embedded proxy look like from outside?
 *
 * The public face of `createProxy`: what it takes, what it gives, what it tells. Its code is elsewhere.
 */

import type { EventEmitter } from 'node:events';
import type { LoadedConfig } from '../config/load.js';
import type { Config } from '../config/types.js';
import type { MeshError } from '../errors.js';
import type { Logger } from '../logger.js';

/** Settings of a proxy that are not part of its configuration. */
export interface ProxyOptions {
  /**
   * Takes what the proxy has to say: pino, Fastify's `log`, or any other of that shape. Nothing is logged per request,
   * and nothing that a call of yours rejects with. Default: warnings and errors to standard error.
   */
  logger?: Logger;
  /** Closes the proxy when aborted; calls under way reject with its reason, but for a drain: that has reached its end. */
  signal?: AbortSignal;
  /** Where the admin server listens, `false` for nowhere; wins over the configuration. Default: nowhere. */
  admin?: string | false;
  /** How long a drain still accepts, in milliseconds; wins over the configuration. Default: 0. */
  lameDuckMs?: number;
  /** Data threads; wins over the configuration. Default: the CPU quota, at most 4. */
  threads?: number;
  /** Name servers to ask: `10.0.0.53`, `10.0.0.53:5353`. Default: the system's. */
  dnsServers?: readonly string[];
}

/**
 * Makes a proxy. Nothing listens before `listen()`.
 *
 * @throws {ConfigError} the configuration has the wrong shape; whether it makes sense is seen by `listen()`
 * @throws {OptionError} an option makes no sense
 * @throws {CoreUnavailableError} there is no native core for this platform
 */
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

/** How to listen. */
export interface ListenOptions {
  /** Gives up on it; once it has resolved, the signal means nothing more. */
  signal?: AbortSignal;
}

/** How to drain. */
export interface DrainOptions {
  /** How long new connections are still served, in milliseconds. Default: the option's or configuration's, else 0. */
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
  /**
   * Something needs attention, and the proxy goes on: a name can't be looked up (code `MESH_LOOKUP_FAILED`), a
   * certificate ends (`MESH_CERTIFICATE_ENDING`), a changed file was refused (`MESH_RELOAD_REFUSED`), what was applied
   * has another `threads` or `admin` than what runs (`MESH_RESTART_NEEDED`), or else (`MESH_WARNING`). The logger gets it
   * as well.
   */
  warning: [warning: MeshError];
  /**
   * A part failed, and the proxy goes on with the rest: a defect of the core was contained (`MESH_INTERNAL`). Unlike
   * other `error` events it throws nothing when nobody listens. The logger gets it as well.
   */
  error: [error: MeshError];
}

/** A proxy in this process. Its traffic runs on threads of the core and never waits for JavaScript. */
export interface MeshProxy extends EventEmitter<ProxyEvents>, AsyncDisposable {
  /** Whether it listens. */
  readonly listening: boolean;

  /**
   * Binds every listener of the configuration and starts to serve. All are bound, or none, and then it may be called
   * again. Called again meanwhile it joins the start that goes on, which ends early once every caller's signal has
   * given up on it. Called again later it tells where the proxy listens now, by what `apply()` has made live.
   *
   * @throws {ConfigError} the configuration makes no sense: a route leads to a cluster that is not there
   * @throws {ListenError} an address is in use or can't be had
   * @throws {CertificateError} a certificate or key can't be read or doesn't fit
   * @throws {OptionError} an option makes no sense
   */
  listen(options?: ListenOptions): Promise<Listening>;

  /**
   * Replaces the configuration while traffic flows: listeners that stay keep their sockets, clusters that stay their
   * connections. It goes live whole or is refused whole, and then the last good one serves on. Several calls take
   * effect in their order. `threads` and `admin` stay as they were at the start; others are a `warning`.
   *
   * @throws {ConfigError} the configuration is refused
   * @throws {ListenError} a new listener's address can't be had
   * @throws {CertificateError} a certificate or key can't be read or doesn't fit
   * @throws {StateError} it does not listen, the start that this waited for has failed, or it is draining or was closed
   */
  apply(config: Config | LoadedConfig): Promise<Listening>;

  /**
   * Stops to accept, lets work in flight end or meet its deadline, and closes. Resolves when all has ended. Called
   * again it joins the drain that goes on.
   *
   * @throws {OptionError} an option makes no sense; then no drain has begun
   */
  drain(options?: DrainOptions): Promise<void>;

  /** Ends everything at once; also a drain. Resolves when its threads are gone. May be called twice. */
  close(): Promise<void>;

  /** What it has done and is doing: the same as the admin server's `/stats`. */
  stats(): Promise<ProxyStats>;

  /** The same for Prometheus, in its text format. */
  metrics(): Promise<string>;

  /**
   * Adds every family of `metrics()` to a registry of prom-client, read at each scrape; several proxies may share one,
   * which then has their sums. Gives a function that takes them out.
   *
   * @throws {OptionError} it is no registry, or has a metric of one of the names; none of ours stays
   */
  register(registry: MetricsRegistry): () => void;

  /**
   * Looks at the files of certificates, keys and roots now. That happens by itself every two seconds: what changed is
   * used by new handshakes; what is bad is a `warning`, and what was read before stays in use.
   */
  reloadFiles(): void;

  /**
   * Counts a configuration that never came to `apply()` as refused, in `stats().updates` and the metrics: one that could
   * not be read, such as an error of `watchConfig`.
   */
  countRefused(): void;

  /** Opens the files of access logs anew, by their paths: for after they were moved. */
  reopenLogs(): void;

  /** Keeps the process alive while it listens, which is the default; like `net.Server`. */
  ref(): this;
  /** Lets the process end although it listens. */
  unref(): this;
}

/** The part of prom-client's `Registry` that is used. */
export interface MetricsRegistry {
  /** The format that it writes: in OpenMetrics the names of counters are others. */
  readonly contentType: string;
  /** Adds a metric; throws when there is one of this name. */
  registerMetric(metric: object): void;
  /** The metric of this name, if there is one. */
  getSingleMetric(name: string): object | undefined;
  /** Takes a metric out by its name. */
  removeSingleMetric(name: string): void;
}

/** A proxy's statistics, the same as `/stats` of its admin server: counts since its start, gauges of now. */
export interface ProxyStats {
  /** The version of the core. */
  readonly version: string;
  /** What passed, by listener, route, cluster, protocol and caller. */
  readonly routes: readonly RouteStats[];
  /** By name. */
  readonly listeners: readonly ListenerStats[];
  /** By name. */
  readonly clusters: readonly ClusterStats[];
  /** The data threads, by number. */
  readonly threads: readonly ThreadStats[];
  /** How much more the busiest data thread had to do than the average; 1 is even. */
  readonly threadImbalance: number;
  /** Configurations that went live, and that were refused. */
  readonly updates: { readonly applied: number; readonly refused: number };
  /** Defects of the core that were contained. */
  readonly panics: number;
  /** Names that are looked up. */
  readonly dns: DnsStats;
  /** Changed certificates, keys and roots that are in use now, and that were refused. */
  readonly reloads: { readonly done: number; readonly refused: number };
  /** Of each listener and cluster the certificate that ends first. */
  readonly certificates: readonly CertificateStats[];
  /** Lines of the access log, those for which there was no room, and files that could not be written or reopened. */
  readonly accessLog: { readonly written: number; readonly dropped: number; readonly errors: number };
  /** Uses of label sets that were counted under `other`, for the bound on label sets. */
  readonly overflows: number;
  /** Endpoints that are not listed, for the bound on their number. */
  readonly endpointsOmitted: number;
  /** The process that the proxy runs in, with all that is in it besides. */
  readonly process: ProcessStats;
}

/** Counts by name: of a reason, a limit, a response class. Names without a count are left out. */
export type Counts = Readonly<Record<string, number>>;

/** Durations. Percentiles are for people; who adds up proxies or subtracts moments does that with the buckets. */
export interface DurationStats {
  /** How many there were. */
  readonly count: number;
  /** Their sum in milliseconds. */
  readonly sumMs: number;
  /** Null before the first. */
  readonly p50Ms: number | null;
  /** As `p50Ms`. */
  readonly p95Ms: number | null;
  /** As `p50Ms`. */
  readonly p99Ms: number | null;
  /** Upper border in milliseconds (null: none) and count, of the buckets that are not empty. */
  readonly buckets: readonly (readonly [upperMs: number | null, count: number])[];
}

/** One route, for one cluster and protocol that it was used with. */
export interface RouteStats {
  /** The listener's name. */
  readonly listener: string;
  /** The route's name. */
  readonly route: string;
  /** The cluster's name. */
  readonly cluster: string;
  /** What was spoken. */
  readonly protocol: string;
  /** The identity of the workload that called, where one did. */
  readonly peer?: string;
  /** The port that was called, where that is one of a workload. */
  readonly port?: string;
  /** Requests, calls and streams that began. */
  readonly requests: number;
  /** In flight. */
  readonly active: number;
  /** Those that failed by the server's or the proxy's doing. */
  readonly failures: number;
  /** The share of ended requests that did not fail, 0 to 1; null before the first. */
  readonly successRate: number | null;
  /** Tries after the first. */
  readonly retries: number;
  /** Those that passed and would be denied, were the policies in audit mode enforced. */
  readonly audited: number;
  /** Bytes of bodies and streams from clients. */
  readonly bytesReceived: number;
  /** Bytes of bodies and streams to clients. */
  readonly bytesSent: number;
  /** Responses by class: `2xx`, `5xx`, ... */
  readonly responses: Counts;
  /** What the proxy answered or ended itself, by reason. */
  readonly reasons: Counts;
  /** Calls of gRPC that ended, by `grpc-status`: `0` to `16`, or `other`. */
  readonly grpcStatuses: Counts;
  /** From the request's head to the response's end. */
  readonly duration: DurationStats;
}

/** One listener. */
export interface ListenerStats {
  /** Its name. */
  readonly name: string;
  /** Connections accepted. */
  readonly connections: number;
  /** Connections open. */
  readonly active: number;
  /** Of those, the ones that wait for a request. */
  readonly idle: number;
  /** Connections that ended in the ordinary way. */
  readonly closed: number;
  /** Connections that ended in another way, by reason. */
  readonly closedBy: Counts;
  /** Connections by detected protocol. */
  readonly detected: Counts;
  /** Handshakes that were completed. */
  readonly tlsHandshakes: number;
  /** Handshakes that failed. */
  readonly tlsFailures: number;
  /** How long the completed handshakes took. */
  readonly tlsDuration: DurationStats;
  /** How often each limit was reached. */
  readonly limitHits: Counts;
  /** Workloads that called and were not believed, by why. */
  readonly identityRejections: Counts;
}

/** One cluster. */
export interface ClusterStats {
  /** Its name. */
  readonly name: string;
  /** Its endpoints, up to the bound that `endpointsOmitted` tells of. */
  readonly endpoints: readonly EndpointStats[];
  /** Connections made. */
  readonly connections: number;
  /** Connections open. */
  readonly active: number;
  /** Of those, the ones that wait in the pool. */
  readonly idle: number;
  /** Connections that ended with their last request, or by the server's doing. */
  readonly closed: number;
  /** Connections that the proxy ended, by reason: `idle_timeout`, `max_connection_age`. */
  readonly closedBy: Counts;
  /** Connections that could not be made, by reason. */
  readonly connectFailures: Counts;
  /** How long making connections took, TLS included. */
  readonly connectDuration: DurationStats;
  /** Requests that found a connection in the pool. */
  readonly poolHits: number;
  /** Requests that found none. */
  readonly poolMisses: number;
  /** Requests waiting for a connection. */
  readonly pending: number;
  /** How often each limit was reached. */
  readonly limitHits: Counts;
  /** Workloads that were called and not believed, by why. */
  readonly identityRejections: Counts;
}

/** One endpoint. */
export interface EndpointStats {
  /** `IP:PORT` or `unix:PATH`. */
  readonly address: string;
  /** `ejected`: it could not be connected to, or failed too often, and gets nothing for a while. `draining` and `unhealthy`: the configuration, or a source, says so. */
  readonly state: 'available' | 'ejected' | 'draining' | 'unhealthy';
  /** Requests in flight. */
  readonly active: number;
  /** Requests sent to it. */
  readonly requests: number;
  /** Connections to it that could not be made. */
  readonly connectFailures: number;
  /** How often it was taken out of the balancing. */
  readonly ejections: number;
  /** The moving average; null where the balancer keeps none. */
  readonly latencyMs: number | null;
}

/** Lookups of names. */
export interface DnsStats {
  /** By result: `success`, `not_found`, `no_records`, `timeout`, `server_failure`, `failed`. */
  readonly lookups: Counts;
  /** Each name with how it went. */
  readonly names: readonly NameStats[];
}

/** A name that is looked up. */
export interface NameStats {
  /** The name, without a port. */
  readonly name: string;
  /** Its addresses, A and AAAA, or its SRV records. */
  readonly kind: 'host' | 'srv';
  /** How many the last good answer had. */
  readonly answers: number;
  /** How old that is; null before the first. */
  readonly ageMs: number | null;
  /** Lookups that have failed since. */
  readonly failures: number;
  /** Why the last one failed; null when it did not. */
  readonly error: string | null;
}

/** A certificate that is shown. */
export interface CertificateStats {
  /** To the clients of a listener, or to the servers of a cluster. */
  readonly kind: 'listener' | 'cluster';
  /** The listener's or cluster's name. */
  readonly name: string;
  /** Its last second, since 1970. */
  readonly notAfterSeconds: number;
}

/** One data thread. */
export interface ThreadStats {
  /** Counted from 0. */
  readonly number: number;
  /** Its CPU time, user and system; null where the system does not tell. */
  readonly cpuSeconds: number | null;
  /** Connections open. */
  readonly connections: number;
}

/** The process. What the system doesn't tell is null. */
export interface ProcessStats {
  /** CPU time, user and system. */
  readonly cpuSeconds: number | null;
  /** Memory in RAM. */
  readonly residentBytes: number | null;
  /** Address space. */
  readonly virtualBytes: number | null;
  /** Open file descriptors. */
  readonly openFds: number | null;
  /** The bound of open file descriptors. */
  readonly maxFds: number | null;
  /** When it started, in seconds since 1970. */
  readonly startSeconds: number | null;
}
