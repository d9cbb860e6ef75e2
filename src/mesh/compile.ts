/**
 * What does a mesh file mean in resources?
 *
 *     service, port ──> names that callers use ──> RouteTable ──> Cluster ──> Endpoints
 *     policies ───────> what each workload's inbound side enforces
 *
 * All but the endpoints of services that are run or discovered follows from the file alone. Those come and go: they are
 * a function of who is there (`endpointsOf`). Equal files make equal resources, in the same order.
 */

import { clientTls } from '../config/compile.js';
import { Compilation, listed, present } from '../config/compile-values.js';
import { routeTable } from '../config/compile-route.js';
import { hostAndPort } from '../config/formats.js';
import type { Path } from '../config/path.js';
import type {
  AuthorizationPolicy,
  Cluster,
  Endpoints,
  Resources,
  Route,
  RouteTable,
} from '../config/resources.js';
import { SourceMap } from '../config/source-map.js';
import type { RouteConfig } from '../config/types.js';
import { type CompiledPolicy, INBOUND, compilePolicy } from './compile-policies.js';
import { ANY_PORT, DEFAULT_PORT, clusterOf, hostsOf, identityOf, serverNameOf } from './names.js';
import { type MeshSettings, type Service, type ServicePort, servicesOf, settingsOf } from './services.js';
import type { DiscoveredEndpoint, EndpointLike } from '../discovery/types.js';
import type { MeshConfig, ServiceConfig } from './types.js';

/** A name that callers use, with the port, and where requests to it are told apart. */
export interface ServiceName {
  readonly name: string;
  readonly routeTable: string;
}

/** What the inbound side of a workload enforces. */
export interface Workload {
  /** Its SPIFFE id, or `*` for whatever workload has none of its own. */
  readonly name: string;
  readonly defaultPolicy: MeshSettings['defaultPolicy'];
  readonly policies: readonly AuthorizationPolicy[];
  /** The ports that it may be called by, in order; absent: all that it offers. */
  readonly ports?: readonly number[];
}

/** The name of what is said of workloads that nothing is said of by their own. */
const ALL_OTHERS = '*';

/** What a mesh file means. */
export interface CompiledMesh {
  readonly settings: MeshSettings;
  readonly services: readonly Service[];
  readonly routeTables: readonly RouteTable[];
  readonly clusters: readonly Cluster[];
  /** Of services whose addresses are written. */
  readonly endpoints: readonly Endpoints[];
  readonly names: readonly ServiceName[];
  readonly workloads: readonly Workload[];
  readonly policies: readonly CompiledPolicy[];
  /** From places in `checkable` to places in the file. */
  readonly sources: SourceMap;
}

/** Compiles a mesh file that the schema and `checkMesh` have accepted. `folder` is where its relative paths start. */
export function compileMesh(config: MeshConfig, folder?: string): CompiledMesh {
  const settings = settingsOf(config, folder);
  const services = servicesOf(config, folder);
  const sources = new SourceMap();
  const targets = clusterNames(services, settings);
  const compilation = new Compilation(targets.keys(), sources);
  const names: ServiceName[] = [];
  for (const service of services) {
    const written = config.services[service.name];
    if (!written) continue;
    for (const port of service.ports) {
      names.push(...namesOf(service, port, settings));
      addTable(compilation, service, port, config, settings, targets);
      addCluster(compilation, service, port, written, settings, folder);
    }
  }
  compilation.addAnonymousClusters();
  const policies = (config.policies ?? []).map((policy, index) =>
    compilePolicy(policy, index, settings, sources),
  );
  const { routeTables, clusters, endpoints } = compilation.resources;
  const answering = services.map((service) => {
    const written = service.discover?.endpoints ?? [];
    return [service.name, answeringFor(service, { settings, services, policies }, written)] as const;
  });
  const inside = services.filter(({ outside }) => !outside);
  const own = inside.map((service) =>
    workloadOf(identityOf(service.name, settings), [service], { settings, policies }),
  );
  const others = otherWorkloads({ settings, services, policies }, new Map(answering));
  const named = new Map([...own, ...others].map((workload) => [workload.name, workload]));
  // Whoever else was let in is protected by what protects all.
  const { ports: _, ...general } = workloadOf(ALL_OTHERS, [], { settings, policies });
  const workloads = [...named.values(), general];
  return { settings, services, routeTables, clusters, endpoints, names, workloads, policies, sources };
}

/** The resources in the form that the core checks: with one listener that stands for the inbound side of all. */
export function checkable(mesh: CompiledMesh): Resources {
  const nothing: RouteTable = {
    name: INBOUND,
    virtualHosts: [{ hosts: ['*'], routes: [{ action: { kind: 'respond', status: 404 } }] }],
  };
  return {
    listeners: [{ name: INBOUND, address: '127.0.0.1:0', direction: 'inbound', routes: INBOUND }],
    routeTables: [...mesh.routeTables, nothing],
    clusters: [...mesh.clusters],
    endpoints: [...mesh.endpoints, ...endpointsOf(mesh, () => [])],
    policies: mesh.policies.map(({ policy }) => policy),
  };
}

/** Every port of every service, as it is told of: `basket.shop:3000`. */
export function portNames({ services, settings }: CompiledMesh): string[] {
  return services.flatMap(({ name, ports }) => ports.map(({ port }) => clusterOf(name, port, settings)));
}

// Workloads -------------------------------------------------------------------------------------------------------

/** Who answers for a service by another identity of the mesh than its own, and may be called there. */
export function answeringFor(
  { name, outside }: Service,
  mesh: Pick<CompiledMesh, 'settings' | 'services' | 'policies'>,
  endpoints: readonly EndpointLike[],
): Set<string> {
  const { settings } = mesh;
  const own = identityOf(name, settings);
  const domain = `spiffe://${settings.trustDomain}/`;
  const named = endpoints.flatMap((endpoint) =>
    typeof endpoint === 'string' ? [] : (endpoint.identity ?? []),
  );
  const others = new Set(outside ? [] : named.filter((id) => id !== own && id.startsWith(domain)));
  return new Set([...others].filter((id) => goesByOthers(name, id, mesh) === undefined));
}

/**
 * The service whose identity this is, where an enforced policy protects another `service` and not that one. A workload goes by
 * its own service's policies, whatever name it is called by: those of the other one would hold for nobody there.
 */
export function goesByOthers(
  service: string,
  identity: string | undefined,
  { settings, services, policies }: Pick<CompiledMesh, 'settings' | 'services' | 'policies'>,
): string | undefined {
  if (identity === undefined) return undefined;
  const own = services.find(({ name, outside }) => !outside && identityOf(name, settings) === identity)?.name;
  if (own === undefined || own === service) return undefined;
  const isApart = ({ to, policy }: CompiledPolicy): boolean =>
    policy.mode !== 'audit' && to?.has(service) === true && !to.has(own);
  return policies.some(isApart) ? own : undefined;
}

/**
 * The workloads that answer for other services, with the ports and the policies of those. One that is a service by itself has
 * its own ports as well, and its own policies alone.
 */
export function otherWorkloads(
  mesh: Pick<CompiledMesh, 'settings' | 'services' | 'policies'>,
  answering: ReadonlyMap<string, ReadonlySet<string>>,
): Workload[] {
  const servicesOfEach = new Map<string, Set<string>>();
  for (const [service, identities] of answering) {
    for (const identity of identities) {
      servicesOfEach.set(identity, (servicesOfEach.get(identity) ?? new Set()).add(service));
    }
  }
  if (servicesOfEach.size === 0) return [];
  const identified = mesh.services.map(
    (service) => [service.outside ? '' : identityOf(service.name, mesh.settings), service] as const,
  );
  const own = new Map(identified);
  return [...servicesOfEach].map(([identity, names]) => {
    const others = mesh.services.filter(({ name }) => names.has(name));
    const service = own.get(identity);
    return service ? workloadOf(identity, [service], mesh, others) : workloadOf(identity, others, mesh);
  });
}

/** What holds for whoever is these services, and is called for `others` too. */
function workloadOf(
  name: string,
  services: readonly Service[],
  { settings, policies }: Pick<CompiledMesh, 'settings' | 'policies'>,
  others: readonly Service[] = [],
): Workload {
  const holds = ({ to }: CompiledPolicy): boolean =>
    to === undefined || services.some((service) => to.has(service.name));
  const ports = [...services, ...others].flatMap((service) => service.ports.map(({ port }) => port));
  return {
    name,
    defaultPolicy: settings.defaultPolicy,
    policies: policies.filter(holds).map(({ policy }) => policy),
    ports: [...new Set(ports)].toSorted((a, b) => a - b),
  };
}

// Names -----------------------------------------------------------------------------------------------------------

/** What routes may call the clusters of the services. */
function clusterNames(services: readonly Service[], settings: MeshSettings): Map<string, string> {
  const names = new Map<string, string>();
  for (const { name, ports } of services) {
    for (const { name: extra, port } of ports) {
      const cluster = clusterOf(name, port, settings);
      if (extra === undefined) names.set(name, cluster);
      names.set(`${name}:${port}`, cluster);
    }
  }
  return names;
}

/**
 * What callers call a port. A URL without a port means the service's own, unless another port is that one. With its own
 * port goes what says that the host is of the mesh, so that no other port of it is called around the mesh.
 */
function namesOf(
  service: Service,
  { name: extra, port }: ServicePort,
  settings: MeshSettings,
): ServiceName[] {
  const free = !service.ports.some((other) => other.port === DEFAULT_PORT);
  const own = free ? [port, DEFAULT_PORT, ANY_PORT] : [port, ANY_PORT];
  const ports = extra === undefined ? own : [port];
  return hostsOf(service.name, settings).flatMap((host) =>
    ports.map((each) => ({
      name: `${host}:${each}`,
      routeTable: clusterOf(service.name, port, settings),
    })),
  );
}

// Routes ----------------------------------------------------------------------------------------------------------

function addTable(
  compilation: Compilation,
  service: Service,
  port: ServicePort,
  config: MeshConfig,
  settings: MeshSettings,
  targets: ReadonlyMap<string, string>,
): void {
  const { resources, sources } = compilation;
  const at = ['routeTables', resources.routeTables.length];
  const key = routesKey(config, service, port);
  const from: Path = key === undefined ? ['services', service.name] : ['routes', key];
  sources.set(at, from);
  const written = key === undefined ? [] : (config.routes?.[key] ?? []);
  const table = routeTable(
    compilation,
    clusterOf(service.name, port.port, settings),
    written,
    at,
    (route) => [...from, route],
  );
  const routes = table.virtualHosts.flatMap((host) => host.routes).map((route) => directed(route, targets));
  if (!written.some(takesAll)) {
    const cluster = clusterOf(service.name, port.port, settings);
    sources.set([...at, 'virtualHosts', 0, 'routes', routes.length], from);
    routes.push({ name: service.name, action: { kind: 'forward', to: [{ cluster }] } });
  }
  const hosts = hostsOf(service.name, settings);
  sources.set([...at, 'virtualHosts', 0, 'hosts'], from);
  resources.routeTables.push({ name: table.name, virtualHosts: [{ hosts, routes }] });
}

/** The key of `routes` that is for a port: `basket:3000`, or `basket` for its own. */
function routesKey(config: MeshConfig, { name }: Service, port: ServicePort): string | undefined {
  const keys = [`${name}:${port.port}`, ...(port.name === undefined ? [name] : [])];
  return keys.find((key) => config.routes && Object.hasOwn(config.routes, key));
}

/** Whether nothing is left for other routes. */
function takesAll({ match }: RouteConfig): boolean {
  if (match === undefined) return true;
  const { path, ...others } = match;
  return (path === undefined || path === '/*') && Object.keys(others).length === 0;
}

/** The route with clusters in place of what people call them. */
function directed(route: Route, targets: ReadonlyMap<string, string>): Route {
  if (route.action.kind !== 'forward') return route;
  const to = route.action.to.map((target) => ({
    ...target,
    cluster: targets.get(target.cluster) ?? target.cluster,
  }));
  return { ...route, action: { kind: 'forward', to } };
}

// Clusters --------------------------------------------------------------------------------------------------------

function addCluster(
  compilation: Compilation,
  service: Service,
  { name: extra, port, protocol }: ServicePort,
  written: ServiceConfig,
  settings: MeshSettings,
  folder: string | undefined,
): void {
  const { resources, sources } = compilation;
  const from: Path = ['services', service.name];
  const at = ['clusters', resources.clusters.length];
  sources.set(at, extra === undefined ? from : [...from, 'ports', extra]);
  sources.set([...at, 'discovery'], [...from, 'address']);
  sources.set([...at, 'tls'], [...from, 'tls']);
  const addresses = listed(written.address);
  const dns = addresses.length === 1 ? hostAndPort(addresses[0] ?? '') : undefined;
  const inside = !service.outside;
  const { tls } = written;
  resources.clusters.push(
    present<Cluster>({
      name: clusterOf(service.name, port, settings),
      discovery: dns && { kind: 'dns', ...dns },
      protocol,
      tls: tls === undefined || tls === false ? undefined : clientTls({ compilation, folder }, tls),
      workload: inside ? { serverName: serverNameOf(service.name, port, settings) } : undefined,
    }),
  );
  if (service.discover || dns) return;
  const group = ['endpoints', resources.endpoints.length, 'localities', 0, 'endpoints'];
  sources.set(group.slice(0, 2), [...from, 'address']);
  for (const index of addresses.keys()) {
    sources.set(
      [...group, index],
      Array.isArray(written.address) ? [...from, 'address', index] : [...from, 'address'],
    );
  }
  resources.endpoints.push({
    cluster: clusterOf(service.name, port, settings),
    localities: [{ endpoints: addresses.map((address) => ({ address })) }],
  });
}

// Endpoints -------------------------------------------------------------------------------------------------------

/**
 * Who answers for services, all unless some are named, whose addresses are not written; nobody: an empty list. Inside the
 * mesh, an endpoint that names no identity has to prove that of its service, and none is there that goes by others' policies.
 */
export function endpointsOf(
  mesh: Pick<CompiledMesh, 'settings' | 'services' | 'policies'>,
  answering: (service: string) => readonly DiscoveredEndpoint[],
  services: readonly Service[] = mesh.services,
): Endpoints[] {
  const { settings } = mesh;
  return services
    .filter(({ discover }) => discover !== undefined)
    .flatMap(({ name, ports, outside }) => {
      const all = answering(name).filter(
        ({ identity }) => outside || goesByOthers(name, identity, mesh) === undefined,
      );
      return ports.map(({ port }) => {
        const endpoints = all
          .filter((endpoint) => endpoint.ports?.includes(port) ?? true)
          .map(({ address, weight, draining, identity }) =>
            present({
              address,
              weight,
              health: draining === true ? ('draining' as const) : undefined,
              identity: identity ?? (outside ? undefined : identityOf(name, settings)),
            }),
          );
        const localities = endpoints.length > 0 ? [{ endpoints }] : [];
        return { cluster: clusterOf(name, port, settings), localities };
      });
    });
}
