/** Where on this machine is a copy, and what is it told of that? Pure: from the plan and ports to arguments and variables. */

import {
  OWN_PREFIX,
  type PROXY_VARIABLES,
  hostsOf,
  identityOf,
  portVariable,
  urlVariable,
} from '../names.js';
import type { MeshSettings, ProcessPlan, Service } from '../services.js';

const HOST = '127.0.0.1';
/** What applications reach without a sidecar. */
const NO_PROXY = ['localhost', HOST, '::1'];

/** One process of a service, planned. */
export interface CopyPlan {
  readonly service: Service;
  readonly process: ProcessPlan;
  /** From 1. */
  readonly number: number;
}

/** What others see of a mesh. */
export interface MeshPlan {
  readonly settings: MeshSettings;
  readonly services: readonly Service[];
}

/** The addresses of a copy. */
export interface Places {
  /** What the application listens on, by the port that others call. */
  readonly ports: ReadonlyMap<number, string>;
  readonly inbound: string;
  readonly outbound: string;
  readonly admin: string;
  /** Where every port of every service is, for clients that know no proxies: `basket:3000`. */
  readonly forwards: ReadonlyMap<string, string>;
  /** Those of them that any other free one would do for. */
  readonly free: ReadonlySet<string>;
}

/** The name of a copy in logs: `basket.1`. */
export const labelOf = ({ service, number }: CopyPlan): string => `${service.name}.${number}`;
/** What its sidecar calls itself: `basket-1`. */
export const nameOf = ({ service, number }: CopyPlan): string => `${service.name}-${number}`;

/** How many free ports a copy needs. */
export function portsNeeded({ service }: CopyPlan, { services }: MeshPlan): number {
  return service.ports.length + 3 + forwarded(services).length;
}

/** Spreads free ports over what a copy needs; ports that are given take the place of free ones. */
export function placesOf(copy: CopyPlan, mesh: MeshPlan, free: readonly number[]): Places {
  const { service, process, number } = copy;
  const left = [...free];
  const spread = new Set<string>();
  const next = (given?: number): string => {
    const port = left.shift() ?? 0;
    if (given !== undefined) return `${HOST}:${given + number - 1}`;
    const address = `${HOST}:${port}`;
    spread.add(address);
    return address;
  };
  const { bind } = process;
  const ports = new Map(
    service.ports.map(({ name, port }) => [port, next(name === undefined ? bind.port : undefined)]),
  );
  const [inbound, outbound, admin] = [next(bind.inbound), next(bind.outbound), next(bind.admin)];
  const forwards = new Map(forwarded(mesh.services).map(({ target }) => [target, next()]));
  return { ports, inbound, outbound, admin, forwards, free: spread };
}

interface Forwarded {
  /** `basket:3000`. */
  readonly target: string;
  /** `MESH_URL_BASKET`. */
  readonly variable: string;
  readonly scheme: 'http' | 'tcp';
}

function forwarded(services: readonly Service[]): Forwarded[] {
  return services.flatMap(({ name, ports }) =>
    ports.map(({ name: extra, port, protocol }) => ({
      target: `${name}:${port}`,
      variable: urlVariable(name, extra),
      scheme: protocol === 'tcp' ? ('tcp' as const) : ('http' as const),
    })),
  );
}

const portOf = (address: string | undefined): string => address?.slice(address.lastIndexOf(':') + 1) ?? '';

/** The command of a copy, with its ports in place. */
export function commandOf({ service, process }: CopyPlan, { ports }: Places): string {
  return process.run.replaceAll(/\{port(?:\.([^{}]*))?\}/g, (whole, extra: string | undefined) => {
    const meant = service.ports.find(({ name }) => name === extra);
    return meant ? portOf(ports.get(meant.port)) : whole;
  });
}

/** What this process passes on to all applications. */
interface Inherited {
  /** This process's own environment. */
  readonly env: NodeJS.ProcessEnv;
  /** The URL of the module that Node programs are to load. */
  readonly register: string;
  /** Where the control plane is. */
  readonly control: readonly string[];
}

/** Variables of an application. */
export function environmentOf(
  { service, process }: CopyPlan,
  mesh: MeshPlan,
  places: Places,
  { env: inherited, register, control }: Inherited,
): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = {};
  // What steers this process or other sidecars is not for this one.
  for (const [name, value] of Object.entries(inherited)) if (!name.startsWith(OWN_PREFIX)) env[name] = value;
  const proxy = `http://${places.outbound}`;
  const hosts = control.map((address) => address.slice(0, address.lastIndexOf(':')).replaceAll(/[[\]]/g, ''));
  const direct = [...new Set([...NO_PROXY, ...hosts])].join(',');
  const proxies: Record<(typeof PROXY_VARIABLES)[number], string> = {
    HTTP_PROXY: proxy,
    http_proxy: proxy,
    NO_PROXY: direct,
    no_proxy: direct,
    NODE_USE_ENV_PROXY: '1',
  };
  const { NODE_OPTIONS = inherited['NODE_OPTIONS'], ...own } = process.env;
  Object.assign(env, proxies, {
    NODE_OPTIONS: [NODE_OPTIONS, `--import ${register}`].filter(Boolean).join(' '),
    MESH_OUTBOUND: places.outbound,
    MESH_NAMES: mesh.services.flatMap(({ name }) => hostsOf(name, mesh.settings)).join(','),
  });
  for (const { target, variable, scheme } of forwarded(mesh.services)) {
    env[variable] = `${scheme}://${places.forwards.get(target)}`;
  }
  for (const { name, port } of service.ports) {
    env[portVariable(name)] = portOf(places.ports.get(port));
  }
  return { ...env, ...own };
}

/** What a sidecar needs to know of its control plane. */
export interface Credentials {
  readonly control: readonly string[];
  readonly trustAnchors: string;
  readonly tokenFile: string;
}

/** The flags of a copy's sidecar. */
export function sidecarFlags(
  copy: CopyPlan,
  mesh: MeshPlan,
  places: Places,
  { control, trustAnchors, tokenFile }: Credentials,
): string[] {
  const { service } = copy;
  const { settings } = mesh;
  const ports = service.ports.map(({ port, protocol }) => {
    const suffix = protocol === 'auto' ? '' : `/${protocol}`;
    return `${port}=${places.ports.get(port)}${suffix}`;
  });
  // Nothing is looked for in the bytes of what is no HTTP.
  const isTcp = new Set(
    forwarded(mesh.services).flatMap(({ target, scheme }) => (scheme === 'tcp' ? [target] : [])),
  );
  const forwards = [...places.forwards].map(
    ([target, address]) => `${target}=${address}${isTcp.has(target) ? '/tcp' : ''}`,
  );
  const flags: Record<string, string> = {
    '--control': control.join(','),
    '--trust-anchors': trustAnchors,
    '--token-file': tokenFile,
    '--name': nameOf(copy),
    '--identity': identityOf(service.name, settings),
    '--service': service.name,
    '--inbound': places.inbound,
    '--outbound': places.outbound,
    '--admin': places.admin,
    '--ports': ports.join(','),
    '--forward': forwards.join(','),
    ...(settings.knownServicesOnly && { '--egress': 'known' }),
    ...(settings.opaquePorts && { '--opaque-ports': settings.opaquePorts.join(',') || 'none' }),
  };
  return Object.entries(flags).flat();
}
