/** What is a service called: in a URL, in a certificate, in the resources? */

/** What all services of a mesh share. */
export interface MeshNames {
  readonly trustDomain: string;
  readonly namespace: string;
}

/** The port of a URL that names none. */
export const DEFAULT_PORT = 80;

/** The port that stands for all of a host's: sidecars ask for it before they call a host outside the mesh. */
export const ANY_PORT = '*';

/** The hosts of a service, shortest first. */
export function hostsOf(service: string, { namespace, trustDomain }: MeshNames): string[] {
  return [service, `${service}.${namespace}`, `${service}.${namespace}.${trustDomain}`];
}

/** The SPIFFE id of a service. */
export function identityOf(service: string, { trustDomain, namespace }: MeshNames): string {
  return `spiffe://${trustDomain}/ns/${namespace}/sa/${service}`;
}

/** The name of a service's port between sidecars. */
export function serverNameOf(service: string, port: number, { namespace, trustDomain }: MeshNames): string {
  return `p${port}.${service}.${namespace}.${trustDomain}`;
}

/** The cluster and the route table of a service's port. */
export function clusterOf(service: string, port: number, { namespace }: MeshNames): string {
  return `${service}.${namespace}:${port}`;
}

/** Who the control plane is: nobody else gets a certificate of that identity. */
export const CONTROL = { namespace: 'mesh', service: 'control' };

/** The variable that says where applications call a port of a service: `MESH_URL_BASKET`. */
export const urlVariable = (service: string, port: string | undefined): string =>
  ['MESH_URL', service, ...(port === undefined ? [] : [port])].map(variablePart).join('_');

/** The variable that says where a process listens: `PORT`, `PORT_GRPC`. */
export const portVariable = (port: string | undefined): string =>
  port === undefined ? 'PORT' : `PORT_${variablePart(port)}`;

/** Variables by which programs find their sidecar. */
export const PROXY_VARIABLES = [
  'HTTP_PROXY',
  'http_proxy',
  'NO_PROXY',
  'no_proxy',
  'NODE_USE_ENV_PROXY',
] as const;

/** What the variables begin with that only the mesh gives. */
export const OWN_PREFIX = 'MESH_';

/** A name as a part of the name of a variable: `PORT_GRPC`, `MESH_URL_MY_SHOP`. */
function variablePart(name: string): string {
  return name.toUpperCase().replaceAll(/[^A-Z0-9]/g, '_');
}
