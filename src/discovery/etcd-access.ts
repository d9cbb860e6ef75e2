/** Where is etcd, and as whom is it asked? */

import { readFile } from 'node:fs/promises';
import { type EtcdAccess, authenticate } from './etcd-client.js';

/** Where in etcd, and as whom. */
export interface EtcdOptions {
  /** `http://10.0.0.1:2379`, one for each member or for some: whoever answers. */
  readonly endpoints: readonly string[];
  /** `/mesh/basket/`. */
  readonly prefix: string;
  /** A user of etcd, with the file that holds its password. */
  readonly user?: string;
  readonly passwordFile?: string;
  /** PEM files: whom to believe instead of the system's roots, and a client certificate. */
  readonly roots?: string;
  readonly certificate?: string;
  readonly key?: string;
}

/** A way to one member: another one for each turn. */
export async function accessTo(turn: number, options: EtcdOptions, signal: AbortSignal): Promise<EtcdAccess> {
  const { endpoints, roots, certificate, key, user, passwordFile } = options;
  const read = async (file: string | undefined) =>
    file && (await readFile(file, { encoding: 'utf8', signal }));
  // Each time anew: files are replaced.
  const tls = { roots: await read(roots), certificate: await read(certificate), key: await read(key) };
  const access: EtcdAccess = { url: endpoints[turn % endpoints.length] ?? '', tls };
  if (user === undefined) return access;
  const password = (await read(passwordFile)) ?? '';
  return { ...access, token: await authenticate(access, user, password.trimEnd(), signal) };
}

/** Waits, and ends early without an error when the signal says so. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms).unref();
    signal.addEventListener('abort', done, { once: true });
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    }
  });
}
