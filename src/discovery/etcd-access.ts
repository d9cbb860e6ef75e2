/** Where is etcd, and as whom is it asked? */

import { readFile } from 'node:fs/promises';
import { ANSWER_MS, type EtcdAccess, authenticate } from './etcd-client.js';

/** Where in etcd, and as whom. */
export interface EtcdOptions {
  /** Where it answers: `http://10.0.0.1:2379`, one for each member or for some: whoever answers. */
  readonly endpoints: readonly string[];
  /** What its keys begin with: `/mesh/basket/`. */
  readonly prefix: string;
  /** A user of etcd. Default: none. */
  readonly user?: string;
  /** The file that holds the password of `user`. */
  readonly passwordFile?: string;
  /** Whom to believe, a PEM file. Default: the system's roots. */
  readonly roots?: string;
  /** A client certificate, a PEM file. Default: none. */
  readonly certificate?: string;
  /** Its key, a PEM file. */
  readonly key?: string;
}

/**
 * How long a member may take to answer while there is another to ask. Of three members two may hang, and who waits for a
 * decision still hears it of the third: a sidecar is answered within 5 s.
 */
const MEMBER_MS = 1500;
/** The pause after all members have failed. */
const RETRY_MS = 1000;

/** The member whose turn it is. */
export function memberOf({ endpoints }: EtcdOptions, turn: number): string {
  return endpoints[turn % endpoints.length] ?? '';
}

/** Whether all members have had their turn with this one. */
export function isLast({ endpoints }: EtcdOptions, turn: number): boolean {
  return (turn + 1) % endpoints.length === 0;
}

/**
 * A way to one member: another one for each turn, from the `first` on. The last of a round has the longest to answer, since
 * all may be slow.
 */
export async function accessTo(
  turn: number,
  options: EtcdOptions,
  signal: AbortSignal,
  first = 0,
): Promise<EtcdAccess> {
  const { roots, certificate, key, user, passwordFile } = options;
  const read = async (file: string | undefined) =>
    file && (await readFile(file, { encoding: 'utf8', signal }));
  // Each time anew: files are replaced.
  const tls = { roots: await read(roots), certificate: await read(certificate), key: await read(key) };
  const answerMs = isLast(options, turn) ? ANSWER_MS : MEMBER_MS;
  const access: EtcdAccess = { url: memberOf(options, first + turn), tls, answerMs };
  if (user === undefined) return access;
  const password = (await read(passwordFile)) ?? '';
  return { ...access, token: await authenticate(access, user, password.trimEnd(), signal) };
}

/**
 * Does something with a member, and with the next one after a failure, until the signal aborts. A failure is told once,
 * until `well` was called or there is another.
 */
export async function withMembers(
  options: EtcdOptions,
  signal: AbortSignal,
  failed: (error: unknown) => void,
  work: (access: EtcdAccess, well: () => void) => Promise<void>,
): Promise<void> {
  let problem: string | undefined;
  const well = (): void => {
    problem = undefined;
  };
  for (let turn = 0; !signal.aborted; turn += 1) {
    try {
      await work(await accessTo(turn, options, signal), well);
    } catch (error) {
      if (signal.aborted) return;
      if (String(error) !== problem) failed(error);
      problem = String(error);
      if (isLast(options, turn)) await pause(RETRY_MS, signal);
    }
  }
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
