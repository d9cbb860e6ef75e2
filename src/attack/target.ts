/**
 * What may be attacked, and by which connections?
 *
 * A target is somebody's own: an address of this machine, or with leave one of this network. Its name is resolved once, and
 * every connection goes to the address that was looked at, so that no name server can turn an attack on somebody else.
 */

import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { connect, isIP, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { MeshError } from '../mesh-error.js';
import { type Place, placeOf } from './addresses.js';
import { CONNECT_MS, type Deadline, LONGEST_URL, MOST_BYTES, MOST_CONNECTIONS } from './bounds.js';
import { Connection } from './connection.js';

/** A target that is not attacked. Code `MESH_ATTACK_REFUSED`. */
export class RefusedTargetError extends MeshError {
  static {
    this.prototype.name = 'RefusedTargetError';
  }

  constructor(message: string) {
    super('MESH_ATTACK_REFUSED', message);
  }
}

/** A target that can't be reached, or does not answer as a server does. */
export class NoTargetError extends Error {
  static {
    this.prototype.name = 'NoTargetError';
  }
}

/** How a target is reached. */
export interface Reach {
  /** Private addresses may be attacked too. */
  readonly network: boolean;
  /** TLS: whoever it is, it is believed. */
  readonly insecure: boolean;
  /** TLS: the roots that are believed, in PEM, instead of the system's. */
  readonly ca: string | undefined;
}

/** What is spoken on a connection; `bytes` is TCP without TLS whatever the URL says. */
export type Spoken = 'http/1.1' | 'h2' | 'bytes';

/** The addresses of a name. */
type Resolve = (name: string) => Promise<readonly string[]>;

const resolveName: Resolve = async (name) =>
  (await lookup(name, { all: true })).map(({ address }) => address);

const ONLY_YOURS = 'mesh attack only attacks what is yours';

/** Whether an address may be attacked. @throws {RefusedTargetError} when not */
function mustBeYours(address: string, place: Place, network: boolean): void {
  if (place === 'public')
    throw new RefusedTargetError(
      `${address} is a public address, and ${ONLY_YOURS}: give one of this machine or of your network`,
    );
  if (place === 'network' && !network)
    throw new RefusedTargetError(`${address} is not this machine, and ${ONLY_YOURS}: say --network if it is`);
}

/** Reads a URL. @throws {RefusedTargetError} when it is none that can be attacked */
export function targetUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isHttp = url?.protocol === 'http:' || url?.protocol === 'https:';
  if (!url || !isHttp || url.username || url.password)
    throw new RefusedTargetError(
      `expected a URL such as http://127.0.0.1:8080/ or https://localhost:8443/, received ${text}`,
    );
  if (url.href.length > LONGEST_URL)
    throw new RefusedTargetError(
      `expected a URL of at most ${LONGEST_URL} characters, received ${url.href.length}`,
    );
  return url;
}

/** The name, or the address without the brackets of IPv6. */
const hostOf = ({ hostname }: URL): string => hostname.replace(/^\[|\]$/g, '');

/** A proxy or server under attack. */
export class Target {
  #open = 0;
  #spent = 0;
  #waiting: (() => void)[] = [];

  private constructor(
    readonly url: URL,
    /** The address that every connection goes to. */
    readonly address: string,
    readonly reach: Reach,
    readonly deadline: Deadline,
  ) {}

  /**
   * Looks who it is, and whether somebody is there.
   *
   * @throws {RefusedTargetError} when it is nobody's own
   * @throws {NoTargetError} when nobody is there
   */
  static async find(url: URL, reach: Reach, deadline: Deadline, resolve = resolveName): Promise<Target> {
    const name = hostOf(url);
    const addresses = isIP(name) ? [name] : await addressesOf(url, name, deadline, resolve);
    // Before the first connection: one that may not be attacked among them means that the name is not only yours.
    for (const address of addresses) mustBeYours(address, placeOf(address), reach.network);
    let failure: unknown = { code: 'ENOTFOUND' };
    for (const address of addresses) {
      const target = new Target(url, address, reach, deadline);
      try {
        (await target.dial('bytes')).close();
        return target;
      } catch (error) {
        failure = error;
      }
    }
    throw failure instanceof NoTargetError ? failure : unreachable(url, failure);
  }

  get isTls(): boolean {
    return this.url.protocol === 'https:';
  }

  /** Connects, within the bounds. @throws {NoTargetError} when that fails */
  async dial(spoken: Spoken): Promise<Connection> {
    while (this.#open >= MOST_CONNECTIONS)
      await new Promise<void>((free) => {
        this.#waiting.push(free);
      });
    this.#open += 1;
    const socket = this.#socket(spoken);
    socket.once('close', () => {
      this.#open -= 1;
      this.#waiting.shift()?.();
    });
    const connection = new Connection(socket, (bytes) => this.#spend(bytes));
    const isTls = this.isTls && spoken !== 'bytes';
    const late = AbortSignal.timeout(Math.ceil(this.deadline.within(CONNECT_MS)));
    try {
      await once(socket, isTls ? 'secureConnect' : 'connect', { signal: late });
    } catch (error) {
      socket.destroy();
      throw unreachable(this.url, late.aborted ? { code: isTls ? LATE_TLS : 'ETIMEDOUT' } : error);
    }
    return connection;
  }

  #socket(spoken: Spoken): Socket {
    const host = this.address;
    const port = Number(this.url.port || (this.isTls ? 443 : 80));
    if (!this.isTls || spoken === 'bytes') return connect({ host, port });
    const name = hostOf(this.url);
    const { ca, insecure } = this.reach;
    return connectTls({
      host,
      port,
      ALPNProtocols: [spoken],
      rejectUnauthorized: !insecure,
      ...(isIP(name) === 0 && { servername: name }),
      ...(ca !== undefined && { ca }),
    });
  }

  #spend(bytes: number): void {
    this.#spent += bytes;
    if (this.#spent > MOST_BYTES) throw new Error(`a check sends ${MOST_BYTES} bytes at most`);
  }
}

/** Who asks name servers waits for as long as they let him; a check does not. */
async function addressesOf(
  url: URL,
  name: string,
  deadline: Deadline,
  resolve: Resolve,
): Promise<readonly string[]> {
  const answered = new AbortController();
  const late = sleep(deadline.within(CONNECT_MS), undefined, { signal: answered.signal }).then(() => {
    throw Object.assign(new Error(), { code: 'EAI_AGAIN' });
  });
  try {
    return await Promise.race([resolve(name), late]);
  } catch (error) {
    throw unreachable(url, error);
  } finally {
    answered.abort();
  }
}

/** Why nobody is there, in one line. */
function unreachable(url: URL, error: unknown): NoTargetError {
  const { code = '', message = '' } = error as Partial<NodeJS.ErrnoException>;
  const reason = REASONS[code] ?? (isOfTls(code) ? 'no TLS is made' : message);
  return new NoTargetError(`${url.origin} can't be reached: ${reason}${code && ` (${code})`}; ${mend(code)}`);
}

/** A handshake that never ends. */
const LATE_TLS = 'ERR_SSL_TIMEOUT';

/** What OpenSSL says is for its authors. */
const isOfTls = (code: string): boolean => /^(ERR_SSL|EPROTO)/.test(code);

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there',
  ETIMEDOUT: 'no connection is made in time',
  ECONNRESET: 'it breaks the connection',
  ENOTFOUND: 'there is no such name',
  EAI_AGAIN: 'no name server answers',
};

function mend(code: string): string {
  if (/CERT|ISSUER|SIGNATURE|ALTNAME/.test(code))
    return 'give its roots by --ca FILE, or believe it by --insecure';
  if (isOfTls(code)) return 'does it speak TLS there?';
  return 'start what is to be checked, or mend the URL';
}
