/**
 * Which requests of this process belong to the mesh, and where do they go instead?
 *
 * Told by two variables that `mesh up` sets: `MESH_OUTBOUND`, the address of this copy's own sidecar, and `MESH_NAMES`,
 * the hosts of the mesh with commas between. Everything else is left as it is.
 */

/** The sidecar of this process, and the hosts that it knows the way to. */
export interface Mesh {
  readonly host: string;
  readonly port: number;
  readonly names: ReadonlySet<string>;
}

/** What the variables say; nothing when they say nothing that makes sense. */
export function meshOf(env: Readonly<Record<string, string | undefined>>): Mesh | undefined {
  const [, host = '', port = ''] = /^\[?([^\]]+)\]?:(\d{1,5})$/.exec(env['MESH_OUTBOUND'] ?? '') ?? [];
  const names = new Set((env['MESH_NAMES'] ?? '').split(',').map((name) => name.trim().toLowerCase()));
  names.delete('');
  return host !== '' && Number(port) > 0 && names.size > 0 ? { host, port: Number(port), names } : undefined;
}

/** Whether a host is one of the mesh; a dot may end it, as one ends a name that is whole. */
export function isOfMesh({ names }: Mesh, host: unknown): host is string {
  return typeof host === 'string' && names.has(host.toLowerCase().replace(/\.$/, ''));
}

/** Where a host is told that was replaced by the one that is asked. */
export const FORWARDED_HOST = 'x-forwarded-host';

/** Whether two hosts of plain HTTP, each with its port or none, are the same; a dot may end each name. */
export function isSameHost(one: string, other: string): boolean {
  const plain = (host: string): string =>
    host
      .toLowerCase()
      .replace(/:80$/, '')
      .replace(/\.(?=$|:)/, '');
  return plain(one) === plain(other);
}
