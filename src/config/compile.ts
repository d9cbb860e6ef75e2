/**
 * What does a configuration mean in resources?
 *
 * One function, from the configuration people write to what the core reads, with a map back for the core's errors.
 * It decides nothing that the core decides: what is absent stays absent, and what makes no sense goes through to be
 * refused there. Equal configurations make equal resources, in the same order.
 */

import { isAbsolute, normalize, resolve } from 'node:path';
import { isIPv4, isIPv6 } from 'node:net';
import { Compilation, bytesOf, filled, listed, present } from './compile-values.js';
import { routeTable } from './compile-route.js';
import { durationMs } from './formats.js';
import type { Path } from './path.js';
import type {
  Balancer,
  CertificateAndKey,
  ClientTls,
  Cluster,
  Discovery,
  Endpoint,
  Endpoints,
  Listener,
  ListenerLimits,
  Locality,
  Resources,
  ServerTls,
} from './resources.js';
import { SourceMap } from './source-map.js';
import type {
  CertificateConfig,
  ClientTlsConfig,
  ClusterConfig,
  Config,
  EndpointConfig,
  ListenerConfig,
  ListenerLimitsConfig,
  LocalEndpointConfig,
  RouteConfig,
  ServerTlsConfig,
  TargetsConfig,
} from './types.js';

/** What belongs to the process and not to the resources. What is absent takes the host's default. */
export interface Settings {
  /** Where the admin server listens; false: nowhere. */
  admin?: string | false;
  /** Data threads. */
  threads?: number;
  /** For how long new connections are served once a drain begins, in milliseconds. */
  lameDuckMs?: number;
}

/** What a configuration means. */
export interface Compiled {
  /** What the core serves. */
  readonly resources: Resources;
  /** What holds for the whole process. */
  readonly settings: Settings;
  /** From places in `resources` to places in the configuration. */
  readonly sources: SourceMap;
}

/** Where the parts of a compilation find what they share. */
interface Context {
  readonly compilation: Compilation;
  /** The folder that relative file names are relative to; undefined: the process's. */
  readonly folder: string | undefined;
}

/** Compiles a configuration that the schema has accepted. `folder` is where its relative file names start. */
export function compile(config: Config, folder?: string): Compiled {
  const sources = new SourceMap();
  const clusters = Object.entries(config.clusters ?? {});
  const placed = (address: string): string => placedAddress(folder, address);
  const compilation = new Compilation(Object.keys(config.clusters ?? {}), sources, placed);
  const context: Context = { compilation, folder };
  const { resources } = compilation;

  for (const [name, routes] of Object.entries(config.routeTables ?? {})) {
    addTable(context, name, routes, ['routeTables', name], ['routeTables', name]);
  }
  for (const [index, written] of (config.listeners ?? []).entries()) {
    resources.listeners.push(listener(context, written, index));
  }
  for (const [name, written] of clusters) addCluster(context, name, written);
  compilation.addAnonymousClusters();

  const { admin, threads, lameDuck } = config;
  const settings = present<Settings>({
    admin: admin === 'off' ? false : admin && placed(admin),
    threads,
    lameDuckMs: lameDuck === undefined ? undefined : durationMs(lameDuck),
  });
  return { resources, settings, sources };
}

/** `from` is where the routes are written, `named` where the table's name is, for errors about them. */
function addTable(
  context: Context,
  name: string,
  routes: readonly RouteConfig[],
  from: Path,
  named: Path,
  placeOf = (route: number): Path => [...from, route],
): void {
  const { resources, sources } = context.compilation;
  const at = ['routeTables', resources.routeTables.length];
  sources.set(at, from);
  sources.set([...at, 'name'], named);
  context.compilation.tables.add(name);
  resources.routeTables.push(routeTable(context.compilation, name, routes, at, placeOf));
}

// Listeners -------------------------------------------------------------------------------------------------------

function listener(context: Context, config: ListenerConfig, index: number): Listener {
  const { compilation } = context;
  const at = ['listeners', index];
  const name = config.name ?? config.address;
  compilation.sources.set(at, at);
  if (config.name === undefined) compilation.sources.set([...at, 'name'], [...at, 'address']);
  const { to, accessLog, trustedNetworks, tls } = config;
  return present({
    name,
    address: placedAddress(context.folder, config.address),
    direction: config.direction,
    protocol: config.protocol,
    tls: tls && serverTls(context, tls, at),
    ...(to === undefined
      ? chosenTargets(context, config, name, at)
      : allTargets(context, config, to, name, at)),
    limits: config.limits && listenerLimits(config.limits),
    timeouts: config.timeouts && present({ ...config.timeouts }),
    trustedNetworks: filled((trustedNetworks ?? []).map(networkOf)),
    proxyProtocol: config.proxyProtocol,
    via: config.via,
    forwardProxy: config.forwardProxy,
    escapedSlashes: config.escapedSlashes,
    accessLog: accessLogOf(context, accessLog),
  });
}

type ListenerTargets = Pick<Listener, 'routes' | 'tcp' | 'sni'>;

function chosenTargets(context: Context, config: ListenerConfig, name: string, at: Path): ListenerTargets {
  const { compilation } = context;
  const { routes, tcp, sni } = config;
  return {
    routes: Array.isArray(routes) ? ownTable(context, name, routes, at, [...at, 'routes']) : routes,
    tcp: tcp === undefined ? undefined : compilation.targets(tcp, [...at, 'tcp'], [...at, 'tcp']),
    sni: sni?.map(({ hosts, to }, index) => {
      const place = [...at, 'sni', index];
      if (!Array.isArray(hosts)) compilation.sources.set([...place, 'hosts', 0], [...place, 'hosts']);
      return { hosts: [...listed(hosts)], to: compilation.targets(to, [...place, 'to'], [...place, 'to']) };
    }),
  };
}

/** `to` at a listener: whatever is spoken goes there, as far as the listener's protocol lets it be spoken. */
function allTargets(
  context: Context,
  config: ListenerConfig,
  to: TargetsConfig,
  name: string,
  at: Path,
): ListenerTargets {
  const { compilation } = context;
  const { protocol = 'auto', tls } = config;
  const from = [...at, 'to'];
  const made: ListenerTargets = {};
  if (protocol === 'auto' || protocol === 'http1' || protocol === 'http2') {
    // The one route stands where the listener stands, so that its `to` is the listener's.
    made.routes = ownTable(context, name, [{ to }], at, at, () => at);
  }
  if (protocol === 'auto' || protocol === 'tcp') made.tcp = compilation.targets(to, [...at, 'tcp'], from);
  if (protocol === 'tlsPassthrough' || (protocol === 'auto' && tls === undefined)) {
    compilation.sources.set([...at, 'sni'], from);
    made.sni = [{ hosts: ['*'], to: compilation.targets(to, [...at, 'sni', 0, 'to'], from) }];
  }
  return made;
}

/** A table for one listener, called like it. */
function ownTable(
  context: Context,
  name: string,
  routes: readonly RouteConfig[],
  listenerAt: Path,
  from: Path,
  placeOf?: (route: number) => Path,
): string {
  const { compilation } = context;
  const free = compilation.freeTable(name);
  addTable(context, free, routes, from, [...listenerAt, 'name'], placeOf);
  return free;
}

function listenerLimits({
  headerBytes,
  requestBodyBytes,
  http2StreamWindowBytes,
  proxyHeaderBytes,
  ...counts
}: ListenerLimitsConfig): ListenerLimits {
  return present({
    ...counts,
    headerBytes: bytesOf(headerBytes),
    requestBodyBytes: bytesOf(requestBodyBytes),
    http2StreamWindowBytes: bytesOf(http2StreamWindowBytes),
    proxyHeaderBytes: bytesOf(proxyHeaderBytes),
  });
}

/** One address is a network of one. */
function networkOf(written: string): string {
  if (isIPv4(written)) return `${written}/32`;
  return isIPv6(written) ? `${written}/128` : written;
}

function accessLogOf(context: Context, written: ListenerConfig['accessLog']): Listener['accessLog'] {
  if (written === undefined || written === false) return undefined;
  if (written === true) return {};
  const { sample, path } = written;
  return present({ sample, path: path === undefined ? undefined : filePath(context, path) });
}

// TLS -------------------------------------------------------------------------------------------------------------

function serverTls(context: Context, tls: ServerTlsConfig, at: Path): ServerTls {
  const { certificate, key, certificates, clientCertificates, minimumVersion, alpn } = tls;
  const here = [...at, 'tls'];
  const pair = ({ certificate: chain, key: secret }: Partial<CertificateConfig>): CertificateAndKey =>
    ({ certificate: chain && pem(context, chain), key: secret && pem(context, secret) }) as CertificateAndKey;
  if (certificates === undefined) context.compilation.sources.set([...here, 'certificates', 0], here);
  return present({
    certificates: certificates?.map(pair) ?? [pair(present({ certificate, key }))],
    clientCertificates: clientCertificates && {
      ...clientCertificates,
      roots: pem(context, clientCertificates.roots),
    },
    minimumVersion,
    alpn,
  });
}

/** TLS to originate as the core has it. */
export function clientTls(context: Context, tls: true | ClientTlsConfig): ClientTls {
  if (tls === true) return {};
  const file = (text: string | undefined): string | undefined =>
    text === undefined ? undefined : pem(context, text);
  return present({
    serverName: tls.serverName,
    roots: file(tls.roots),
    certificate: file(tls.certificate),
    key: file(tls.key),
  });
}

/** PEM text as it is, a file's name made absolute. */
function pem(context: Context, text: string): string {
  return isPemText(text) ? text : filePath(context, text);
}

/** Whether a PEM is text, and not the path of a file: what the core recognises, too. */
export const isPemText = (pemOrPath: string): boolean => pemOrPath.trimStart().startsWith(PEM_BEGINS);

/** How PEM text begins. */
export const PEM_BEGINS = '-----BEGIN';

function filePath({ folder }: Pick<Context, 'folder'>, path: string): string {
  return folder === undefined || isAbsolute(path) ? path : resolve(folder, path);
}

/**
 * An address as it is, a Unix socket's path made absolute and written in one way, so that two listeners on it are seen. A
 * step back stays: before it may stand a link.
 */
function placedAddress(folder: string | undefined, address: string): string {
  if (!address.startsWith(UNIX)) return address;
  const path = filePath({ folder }, address.slice(UNIX.length));
  return `${UNIX}${path.split('/').includes('..') ? path : normalize(path)}`;
}

const UNIX = 'unix:';

// Clusters --------------------------------------------------------------------------------------------------------

function addCluster(context: Context, name: string, config: ClusterConfig): void {
  const { resources, sources } = context.compilation;
  const at = ['clusters', resources.clusters.length];
  const from = ['clusters', name];
  sources.set(at, from);
  sources.set([...at, 'discovery'], [...from, config.dns === undefined ? 'srv' : 'dns']);
  sources.set([...at, 'balancer'], [...from, 'balance']);
  const { tls, balance, limits, timeouts } = config;
  const made: Cluster = {
    name,
    discovery: discovery(config),
    protocol: config.protocol,
    tls: tls === undefined || tls === false ? undefined : clientTls(context, tls),
    balancer: balance === undefined ? undefined : balancer(balance),
    slowStart: config.slowStart,
    limits: limits && present({ ...limits }),
    timeouts: timeouts && present({ ...timeouts }),
  };
  resources.clusters.push(present(made));
  const group = endpoints(context, name, config, from);
  if (group) resources.endpoints.push(group);
}

function discovery({ dns, srv }: ClusterConfig): Discovery | undefined {
  if (srv !== undefined) return { kind: 'dnsSrv', name: srv };
  if (dns === undefined) return undefined;
  const colon = dns.lastIndexOf(':');
  return { kind: 'dns', host: dns.slice(0, colon), port: Number(dns.slice(colon + 1)) };
}

function balancer(written: NonNullable<ClusterConfig['balance']>): Balancer {
  return typeof written === 'string' ? { kind: written } : present({ ...written });
}

function endpoints(context: Context, name: string, config: ClusterConfig, from: Path): Endpoints | undefined {
  const { resources, sources } = context.compilation;
  const at = ['endpoints', resources.endpoints.length];
  sources.set(at, from);
  if (config.localities) {
    sources.set([...at, 'localities'], [...from, 'localities']);
    const localities = config.localities.map(({ endpoints: members, ...locality }) =>
      present({ ...locality, endpoints: members.map((member) => endpointOf(context, member)) }),
    );
    return { cluster: name, localities };
  }
  if (!config.endpoints) return undefined;
  const groups = new Map<string, { endpoint: string | EndpointConfig; source: number }[]>();
  for (const [source, endpoint] of config.endpoints.entries()) {
    const { zone = '', priority = 0 } = typeof endpoint === 'string' ? {} : endpoint;
    const key = JSON.stringify([priority, zone]);
    groups.set(key, [...(groups.get(key) ?? []), { endpoint, source }]);
  }
  const localities = [...groups.values()].map((members, index): Locality => {
    for (const [place, { source }] of members.entries()) {
      sources.set([...at, 'localities', index, 'endpoints', place], [...from, 'endpoints', source]);
    }
    const first = members[0]?.endpoint;
    const made = members.map(({ endpoint }) => endpointOf(context, endpoint));
    return present({
      ...(typeof first === 'object' && { zone: first.zone, priority: first.priority }),
      // In one list an endpoint's share is its own weight, so that a group weighs what its members do.
      weight: groups.size > 1 ? made.reduce((sum, { weight = 1 }) => sum + weight, 0) : undefined,
      endpoints: made,
    });
  });
  return { cluster: name, localities };
}

function endpointOf({ folder }: Context, written: string | EndpointConfig | LocalEndpointConfig): Endpoint {
  if (typeof written === 'string') return { address: placedAddress(folder, written) };
  const { weight, health, metadata } = written;
  return present({ address: placedAddress(folder, written.address), weight, health, metadata });
}
