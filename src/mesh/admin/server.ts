/**
 * How does a mesh that runs on this machine answer questions?
 *
 * Over a Unix socket that its owner alone may open: the file system says who that is, so nothing listens on a port.
 */

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type Stats, chmodSync, linkSync, lstatSync, renameSync, rmSync } from 'node:fs';
import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http';
import { connect } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { text as bodyOf } from 'node:stream/consumers';
import type { SourceStatus } from '../../discovery/types.js';
import { makePrivateFolder } from '../../files.js';
import { MeshError } from '../../mesh-error.js';
import { messageOf } from '../../thrown.js';
import type { Edge, Sidecar } from '../control-plane.js';
import type { IssuerLife } from '../issuer-life.js';
import { tooLong } from './client.js';
import type {
  MeshStatus,
  MissingStatus,
  RevokeAnswer,
  RevokeRequest,
  ServiceStatus,
  TokenRequest,
} from './types.js';

/** Rates are over the last seconds. */
const WINDOW_MS = 30_000;
const LOOK_MS = 1000;
/** A request for a token says a name and two numbers. */
const MAX_BODY = 64 * 1024;

/** Whom is asked. */
export interface MeshSource {
  readonly trustDomain: string;
  readonly version: string;
  /** Whether it is known that processes of this machine can go around a sidecar. */
  readonly isBypassable: boolean;
  /** When the issuer that was given begins and ends; null where there is none. */
  issuer(): IssuerLife | null;
  sidecars(): readonly Sidecar[];
  /** How long a sidecar's certificate lives in all, as far as that is known. */
  lifeMs(sidecar: Sidecar): number | null;
  /** Who left without a word and is not among those that are here. */
  missing(here: readonly Sidecar[], atMs: number): readonly MissingStatus[];
  /** Sidecars that are ready, and neither a service nor who answers for one. */
  strangers(): readonly Sidecar[];
  /** Who is revoked: identities and serial numbers. */
  revoked(): readonly string[];
  /** Services whose endpoints come and go. */
  services(): readonly ServiceStatus[];
  /** Every port of every service of the mesh file. */
  declared(): readonly string[];
  edges(): readonly Edge[];
  sources(): readonly SourceStatus[];
  /** A token for a service. @throws when there is no such service */
  token(request: TokenRequest): string | Promise<string>;
  /** Believes somebody no more, or again. @throws when there is nobody of that name */
  revoke(request: RevokeRequest): Promise<RevokeAnswer>;
}

function makeFolder(folder: string): void {
  try {
    makePrivateFolder(folder);
  } catch (cause) {
    const { code = 'unknown', message } = cause as NodeJS.ErrnoException;
    const mend = 'they can when the mesh file is in a folder where this user may write';
    throw new MeshError(code, `mesh stat and the like can't ask this mesh: ${message}; ${mend}`, { cause });
  }
}

/** How it is told that nobody listens on a Unix socket: there is none, or it is another kind of file. */
const NOBODY: ReadonlySet<string> = new Set(['ECONNREFUSED', 'ENOENT', 'ENOTSOCK', 'EPROTOTYPE']);

/**
 * Whether somebody listens on a Unix socket. Whoever has too many waiting does.
 *
 * @throws it is not known: it can't be connected to
 */
async function isAnswered(path: string): Promise<boolean> {
  const socket = connect(path);
  try {
    await once(socket, 'connect');
    return true;
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code === 'EAGAIN') return true;
    if (NOBODY.has(code)) return false;
    throw error;
  } finally {
    socket.destroy();
  }
}

/** A name beside a path that nobody else has, and that is no longer: the length of a socket's is limited. */
function besideOf(path: string): string {
  const length = basename(path).length;
  return join(dirname(path), randomBytes(length).toString('hex').slice(0, length));
}

const whatIsAt = (path: string): Stats | undefined => lstatSync(path, { throwIfNoEntry: false });

/**
 * Puts a socket that listens where it is to be found, unless there is one that is answered: of several who do so at once, one
 * does. Which file that is.
 *
 * @throws {MeshError} `EADDRINUSE`: another mesh answers there
 */
async function putSocket(own: string, path: string): Promise<number | undefined> {
  for (;;) {
    const there = whatIsAt(path);
    if (there === undefined) {
      if (isPut(own, path)) return whatIsAt(path)?.ino;
      continue;
    }
    if (await isAnswered(path)) {
      throw new MeshError(
        'EADDRINUSE',
        `another mesh answers at ${path}: mesh stat and the like ask that one, and not this one; ` +
          'end one of them, or keep their mesh files in folders of their own',
      );
    }
    takeAway(path, there);
  }
}

/** Unless somebody was faster. */
function isPut(own: string, path: string): boolean {
  try {
    linkSync(own, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    // A file system that has no links.
    renameSync(own, path);
  }
  return true;
}

/** Takes away what an earlier mesh left. What somebody has put there meanwhile is put back. */
function takeAway(path: string, left: Stats): void {
  // It is no file of ours, and stays: this throws.
  if (left.isDirectory()) rmSync(path);
  const aside = besideOf(path);
  try {
    renameSync(path, aside);
    const taken = whatIsAt(aside);
    // Numbers of files are given out again.
    if (taken?.ino !== left.ino || taken.mtimeMs !== left.mtimeMs) isPut(aside, path);
  } catch (error) {
    // Somebody was faster in taking it away.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  rmSync(aside, { force: true });
}

interface Look {
  readonly atMs: number;
  readonly requests: ReadonlyMap<string, number>;
}

/** The answers of one mesh. */
export class MeshAdmin {
  readonly #source: MeshSource;
  readonly #path: string;
  readonly #startedAtMs = Date.now();
  readonly #looks: Look[] = [];
  readonly #server: Server;
  /** The file that its socket is. */
  #file: number | undefined;
  #timer: NodeJS.Timeout | undefined;

  private constructor(source: MeshSource, path: string) {
    this.#source = source;
    this.#path = path;
    this.#server = createServer({ requestTimeout: 5000 }, (request, response) => {
      void this.#answer(request, response);
    });
    this.#server.maxConnections = 16;
  }

  /**
   * Begins to answer at a path. What an earlier mesh left there is taken away.
   *
   * @throws {MeshError} `EADDRINUSE`: another mesh answers there; `ENAMETOOLONG`: it is no path of a socket; `EACCES` and
   * others: nothing can be put there
   */
  static async start(source: MeshSource, path: string): Promise<MeshAdmin> {
    const why = tooLong(path);
    if (why !== undefined) {
      const mend = 'they can when the mesh file is in a folder with a shorter path';
      throw new MeshError('ENAMETOOLONG', `mesh stat and the like can't ask this mesh: ${why}; ${mend}`);
    }
    const admin = new MeshAdmin(source, path);
    makeFolder(dirname(path));
    const own = besideOf(path);
    admin.#server.listen(own);
    try {
      await once(admin.#server, 'listening');
      chmodSync(own, 0o600);
      admin.#file = await putSocket(own, path);
    } catch (error) {
      // Left open it would keep the process from its end.
      admin.#server.close();
      throw error;
    } finally {
      rmSync(own, { force: true });
    }
    admin.#look();
    admin.#timer = setInterval(() => admin.#look(), LOOK_MS).unref();
    return admin;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const say = (status: number, value: object): void =>
      void response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    try {
      const asked = `${request.method} ${request.url}`;
      if (asked === 'GET /v1/status') say(200, this.status());
      else if (asked === 'POST /v1/token')
        say(200, { token: await this.#source.token(await tokenRequest(request)) });
      else if (asked === 'POST /v1/revoke') say(200, await this.#source.revoke(await revokeRequest(request)));
      else say(404, { error: 'there is GET /v1/status, POST /v1/token and POST /v1/revoke' });
    } catch (error) {
      say(400, { error: messageOf(error), ...(error instanceof MeshError && { code: error.code }) });
    }
  }

  /** How everything is now. */
  status(): MeshStatus {
    const atMs = Date.now();
    const before = this.#looks[0];
    const seconds = before ? Math.max(atMs - before.atMs, LOOK_MS) / 1000 : 1;
    const edges = this.#source.edges().map((edge) => {
      const earlier = before?.requests.get(keyOf(edge)) ?? 0;
      return { ...edge, rate: (edge.requests - earlier) / seconds };
    });
    const source = this.#source;
    const sidecars = source.sidecars();
    return {
      trustDomain: source.trustDomain,
      version: source.version,
      isBypassable: source.isBypassable,
      issuer: source.issuer(),
      atMs,
      startedAtMs: this.#startedAtMs,
      sidecars: sidecars.map((sidecar) => ({ ...sidecar, certificateLifeMs: source.lifeMs(sidecar) })),
      missing: source.missing(sidecars, atMs),
      strangers: source.strangers().map(({ name, identity }) => ({ name, identity })),
      revoked: source.revoked(),
      services: source.services(),
      declared: source.declared(),
      edges,
      sources: source.sources(),
    };
  }

  /** What the mesh counts has begun anew: rates are of what is counted from now on. */
  countAnew(): void {
    this.#looks.length = 0;
    this.#look();
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    // As long as it is answered, nobody else takes its place.
    if (whatIsAt(this.#path)?.ino === this.#file) rmSync(this.#path, { force: true });
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }

  #look(): void {
    const atMs = Date.now();
    const requests = new Map(this.#source.edges().map((edge) => [keyOf(edge), edge.requests]));
    this.#looks.push({ atMs, requests });
    while (this.#looks.length > 1 && atMs - (this.#looks[0]?.atMs ?? atMs) > WINDOW_MS) this.#looks.shift();
  }
}

async function read(request: IncomingMessage): Promise<unknown> {
  if (Number(request.headers['content-length'] ?? Infinity) > MAX_BODY)
    throw new Error('the request is too long');
  return JSON.parse(await bodyOf(request));
}

async function revokeRequest(request: IncomingMessage): Promise<RevokeRequest> {
  const { whom, undo } = (await read(request)) as Partial<RevokeRequest>;
  if (typeof whom !== 'string' || typeof undo !== 'boolean') throw new Error('expected whom and undo');
  return { whom, undo };
}

async function tokenRequest(request: IncomingMessage): Promise<TokenRequest> {
  const { service, uses, ttlMs } = (await read(request)) as Partial<TokenRequest>;
  if (typeof service !== 'string' || !Number.isInteger(uses) || !Number.isInteger(ttlMs))
    throw new Error('expected service, uses and ttlMs');
  return { service, uses: Number(uses), ttlMs: Number(ttlMs) };
}

function keyOf(edge: Edge): string {
  const { identity, direction, peer, service, port, protocol, mtls } = edge;
  return [identity, direction, peer, service, port, protocol, mtls].join(' ');
}
