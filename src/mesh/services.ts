/** What does a mesh file say about its services, with every default in its place? */

import { isAbsolute, resolve } from 'node:path';
import { durationMs, hostAndPort, isSpiffeId } from '../config/formats.js';
import { listed } from '../config/compile-values.js';
import { OptionError } from '../errors.js';
import { lifetimeMs } from './formats.js';
import { DEFAULT_PORT, type MeshNames, identityOf } from './names.js';
import type { EtcdOptions } from '../discovery/etcd-access.js';
import type { EndpointLike } from '../discovery/types.js';
import type { DiscoverConfig, EtcdConfig, MeshConfig, ServiceConfig } from './types.js';

/** The serial number of a certificate, as the control plane and openssl write it. */
const SERIAL = /^(?:[0-9a-f]{2}:?)+$/i;
/** What stands before its digits, in pairs. */
const ZEROS = /^(?:00)+(?=..)/;

type Protocol = 'auto' | 'http1' | 'http2' | 'tcp';

/** A port that others call a service by. */
export interface ServicePort {
  /** Absent: the service's own. */
  readonly name?: string;
  readonly port: number;
  readonly protocol: Protocol;
}

/** When is a copy ready? */
export type Readiness = { readonly kind: 'tcp' } | { readonly kind: 'http'; readonly path: string };

/** Ports of this machine. */
export interface Bind {
  readonly port?: number;
  readonly inbound?: number;
  readonly outbound?: number;
  readonly admin?: number;
}

/** How the copies of a service are run. */
export interface ProcessPlan {
  readonly run: string;
  readonly copies: number;
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly ready: Readiness;
  /** Ports of the first copy, where they are not to be free ones. */
  readonly bind: Bind;
  readonly graceMs: number;
}

/** Where endpoints come from. */
interface DiscoverPlan {
  readonly endpoints?: readonly EndpointLike[];
  readonly file?: string;
  readonly etcd?: EtcdOptions;
  /** Whether its sidecars announce themselves; absent: where there is no other source. */
  readonly registered?: boolean;
}

/** A service. */
export interface Service {
  readonly name: string;
  /** Its own port first. */
  readonly ports: readonly ServicePort[];
  /** Whether nobody there has an identity to prove. */
  readonly outside: boolean;
  /** How `mesh up` runs it; absent: it does not. */
  readonly process?: ProcessPlan;
  /** Absent: its addresses are written. */
  readonly discover?: DiscoverPlan;
}

/** What several control planes share. */
export interface SharedPlan {
  readonly etcd: EtcdOptions;
  /** The file with the operator's key, which etcd must not know; absent where the issuer is the operator's. */
  readonly keyFile?: string;
}

/** The PEM files of an issuer of the operator's. */
export interface IssuerPlan {
  readonly chain: string;
  readonly key: string;
  readonly roots: string;
}

/** What holds for all services. */
export interface MeshSettings extends MeshNames {
  readonly shared?: SharedPlan;
  readonly defaultPolicy: 'allow' | 'allowAuthenticated' | 'deny';
  readonly certificateTtlMs: number;
  readonly issuer?: IssuerPlan;
  readonly knownServicesOnly: boolean;
  /** Absent: those that the sidecar has in mind. */
  readonly opaquePorts?: readonly (number | string)[];
}

const DEFAULT_TTL_MS = 24 * 60 * 60 * 1000;
const DEFAULT_GRACE_MS = 10_000;

export function settingsOf({ mesh = {} }: MeshConfig, folder?: string): MeshSettings {
  const { trustDomain = 'mesh.local', namespace = 'default', knownServicesOnly = false } = mesh;
  const { defaultPolicy = 'allowAuthenticated', certificates, shared, opaquePorts } = mesh;
  const ttl = certificates?.ttl;
  return {
    trustDomain,
    namespace,
    defaultPolicy,
    certificateTtlMs: (ttl === undefined ? undefined : lifetimeMs(ttl)) ?? DEFAULT_TTL_MS,
    knownServicesOnly,
    ...(opaquePorts && { opaquePorts }),
    ...(shared && {
      shared: {
        etcd: etcdOf(shared.etcd, folder),
        ...(shared.keyFile !== undefined && { keyFile: pathFrom(folder, shared.keyFile) }),
      },
    }),
    ...(certificates?.issuer && {
      issuer: {
        chain: pathFrom(folder, certificates.issuer.chain),
        key: pathFrom(folder, certificates.issuer.key),
        roots: pathFrom(folder, certificates.issuer.roots),
      },
    }),
  };
}

/** The services in the order of the file. `folder` is where relative folders start. */
export function servicesOf(config: MeshConfig, folder?: string): Service[] {
  return Object.entries(config.services).map(([name, written]) => ({
    name,
    ports: portsOf(written),
    outside: isOutside(written),
    ...(written.run !== undefined && { process: processOf(written.run, written, folder) }),
    ...(written.address === undefined && { discover: discoverOf(written.discover, folder) }),
  }));
}

/**
 * Whom a service is, or the SPIFFE id that stands there instead. `ids` ends what is expected.
 *
 * @throws {OptionError} when there is no such service
 */
export function identityFor(
  whom: string,
  { services, settings }: { readonly services: readonly Service[]; readonly settings: MeshNames },
  ids = ', or a SPIFFE id',
): string {
  if (isSpiffeId(whom)) return whom;
  const names = services.filter(({ outside }) => !outside).map(({ name }) => name);
  if (!names.includes(whom)) throw new OptionError('service', `one of ${names.join(', ')}${ids}`, whom);
  return identityOf(whom, settings);
}

/**
 * Whom to revoke: the identity of a service, or what is one already, or the serial number of a certificate.
 *
 * @throws {OptionError} when it is none of these
 */
export function deniedFor(
  whom: string,
  mesh: { readonly services: readonly Service[]; readonly settings: MeshNames },
): string {
  const isService = mesh.services.some(({ name, outside }) => name === whom && !outside);
  const ids = ', a SPIFFE id, or the serial number of a certificate';
  return (isService ? undefined : serialIn(whom)) ?? identityFor(whom, mesh, ids);
}

/** A serial number as the control plane writes it, however it was written; undefined: it is none. */
export function serialIn(text: string): string | undefined {
  return SERIAL.test(text) ? text.replaceAll(':', '').toLowerCase().replace(ZEROS, '') : undefined;
}

/** Whether a service is outside of the mesh. Who does not say so is inside, and has an identity to prove. */
export function isOutside({ address, discover }: ServiceConfig): boolean {
  return address !== undefined || discover?.outside === true;
}

function discoverOf(written: DiscoverConfig = {}, folder?: string): DiscoverPlan {
  const { endpoints, file, etcd, registered } = written;
  return {
    ...(endpoints && { endpoints }),
    ...(registered !== undefined && { registered }),
    ...(file !== undefined && { file: pathFrom(folder, file) }),
    ...(etcd && { etcd: etcdOf(etcd, folder) }),
  };
}

function etcdOf({ endpoints, ...etcd }: EtcdConfig, folder?: string): EtcdOptions {
  const { passwordFile, roots, certificate, key } = etcd;
  const files = Object.entries({ passwordFile, roots, certificate, key }).flatMap(([name, path]) =>
    path === undefined ? [] : [[name, pathFrom(folder, path)]],
  );
  return { ...etcd, endpoints: listed(endpoints), ...Object.fromEntries(files) };
}

const pathFrom = (folder = process.cwd(), path: string): string =>
  isAbsolute(path) ? path : resolve(folder, path);

/** The ports that others call a service by, its own first. */
export function portsOf(service: ServiceConfig): ServicePort[] {
  const { port = portOf(listed(service.address)[0]) ?? DEFAULT_PORT, protocol = 'auto' } = service;
  const more = Object.entries(service.ports ?? {}).map(([name, written]) =>
    typeof written === 'number'
      ? { name, port: written, protocol: 'auto' as const }
      : { name, port: written.port, protocol: written.protocol ?? 'auto' },
  );
  return [{ port, protocol }, ...more];
}

/** The port of an address. */
function portOf(address: string | undefined): number | undefined {
  if (address === undefined || address.startsWith('unix:')) return undefined;
  const port = hostAndPort(address)?.port ?? Number(/:(\d+)$/.exec(address)?.[1]);
  return port > 0 ? port : undefined;
}

function processOf(run: string, service: ServiceConfig, folder?: string): ProcessPlan {
  const { copies = 1, env = {}, cwd = '.', ready = 'tcp', bind = {}, grace } = service;
  return {
    run,
    copies,
    env,
    cwd: pathFrom(folder, cwd),
    ready: ready === 'tcp' ? { kind: 'tcp' } : { kind: 'http', path: ready.http },
    bind,
    graceMs: (grace === undefined ? undefined : durationMs(grace)) ?? DEFAULT_GRACE_MS,
  };
}
