/** Where is the mesh that runs here, and how is it? */

import { existsSync, lstatSync } from 'node:fs';
import { request } from 'node:http';
import path from 'node:path';
import { UNIX_PATH_BYTES } from '../../config/formats.js';
import { OptionError } from '../../errors.js';
import { messageOf } from '../../thrown.js';
import type { MeshStatus, RevokeAnswer, RevokeRequest, TokenRequest } from './types.js';

/** Where `mesh up` and `mesh control` answer, beside their mesh file. */
export const SOCKET = path.join('.mesh', 'control.sock');
/** A mesh of 5,000 services says less. */
const MAX_BYTES = 64 * 1024 * 1024;
const TIMEOUT_MS = 5000;
const MEND = 'start one with mesh up or mesh control, or name its socket with --socket';

/** Why a path is none of a Unix socket; undefined where it may be one. */
export function tooLong(socket: string): string | undefined {
  const bytes = Buffer.byteLength(socket);
  return bytes > UNIX_PATH_BYTES
    ? `a path of a socket has at most ${UNIX_PATH_BYTES} bytes, and ${socket} has ${bytes}`
    : undefined;
}

const CONNECT_REASONS: Record<string, string> = {
  ENOENT: 'there is none in this folder, nor in one above it (ENOENT)',
  ECONNREFUSED: 'the one that was here has ended (ECONNREFUSED)',
  EACCES: "it is another user's (EACCES)",
  EAGAIN: 'it is there, and takes no more who ask: it is busy, or stopped (EAGAIN)',
};

/** There is no mesh at a socket, or it does not answer. */
export class NoAnswerError extends Error {
  /** Where, and why. */
  readonly what: string;
  /** How to have one. */
  readonly mend: string;

  constructor(socket: string, why: string, mend = MEND) {
    const what = `no mesh answers at ${socket}: ${why}`;
    super(`${what}; ${mend}`);
    this.name = 'NoAnswerError';
    this.what = what;
    this.mend = mend;
  }
}

const IS_OTHERS_MEND = 'ask as that user, or name the socket of another mesh with --socket';

/**
 * Sees that nobody else answers at a socket: what is asked may be a token or a revocation, and whoever may put a socket
 * into a folder above this one could answer what they like. So it and its folder are this user's or root's, and nobody
 * else may write there.
 *
 * @throws {NoAnswerError} somebody else may answer
 */
function refuseOthers(socket: string): void {
  const self = process.getuid?.();
  if (self === undefined) return;
  for (const at of [path.dirname(path.resolve(socket)), socket]) {
    const about = lstatSync(at, { throwIfNoEntry: false });
    if (about === undefined) return;
    if (about.uid !== self && about.uid !== 0) {
      throw new NoAnswerError(socket, `${at} is another user's (uid ${about.uid})`, IS_OTHERS_MEND);
    }
    // Where the sticky bit is set, as in /tmp, they can't put something in its place.
    const isOpen = about.isDirectory() && (about.mode & 0o022) !== 0 && (about.mode & 0o1000) === 0;
    if (isOpen) throw new NoAnswerError(socket, `others may write in ${at}`, `chmod go-w ${at}`);
  }
}

/**
 * The socket of the mesh whose file is in this folder or in one above it.
 *
 * @throws {NoAnswerError} somebody else may answer there
 */
export function findSocket(folder: string): string {
  for (let at = path.resolve(folder); ; at = path.dirname(at)) {
    const socket = path.join(at, SOCKET);
    if (existsSync(socket)) {
      refuseOthers(socket);
      return socket;
    }
    if (path.dirname(at) === at) return path.join(path.resolve(folder), SOCKET);
  }
}

/**
 * Asks a mesh how it is.
 *
 * @throws {NoAnswerError} there is none
 */
export async function askStatus(socketPath: string): Promise<MeshStatus> {
  // What our own server has written.
  return (await ask(socketPath, 'GET', '/v1/status')) as MeshStatus;
}

/**
 * Asks a mesh for a token.
 *
 * @throws {NoAnswerError} there is none
 */
export async function askToken(socketPath: string, wanted: TokenRequest): Promise<string> {
  const { token } = (await ask(socketPath, 'POST', '/v1/token', wanted)) as { token: string };
  return token;
}

/**
 * Asks a mesh to believe somebody no more, or again.
 *
 * @throws {NoAnswerError} there is none
 * @throws {OptionError} it knows nobody of that name
 */
export async function askRevoke(socketPath: string, wanted: RevokeRequest): Promise<RevokeAnswer> {
  return (await ask(socketPath, 'POST', '/v1/revoke', wanted)) as RevokeAnswer;
}

/** Why a mesh did not do what it was asked. */
interface Refusal {
  readonly error?: string;
  readonly code?: string;
}

function refusalOf({ error, code }: Refusal, status = 0): Error {
  const message = error ?? `the mesh answers ${status}`;
  // What was asked makes no sense there: the mesh alone knows its services.
  return code === 'MESH_OPTION_INVALID' ? new OptionError(message) : new Error(message);
}

async function ask(socketPath: string, method: string, path_: string, body?: object): Promise<unknown> {
  const problem = tooLong(socketPath);
  if (problem !== undefined) throw new NoAnswerError(socketPath, problem);
  refuseOthers(socketPath);
  return await new Promise((resolve, reject) => {
    const fail = (why: string): void => reject(new NoAnswerError(socketPath, why));
    const sent = body === undefined ? '' : JSON.stringify(body);
    const headers = { 'content-length': Buffer.byteLength(sent) };
    const asked = request({ socketPath, method, path: path_, headers }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
        if (text.length > MAX_BYTES) asked.destroy(new Error(`the answer has more than ${MAX_BYTES} bytes`));
      });
      response.on('error', (error) => fail(error.message));
      response.on('end', () => {
        try {
          const value = JSON.parse(text) as Refusal;
          if (response.statusCode === 200) resolve(value);
          else reject(refusalOf(value, response.statusCode));
        } catch (error) {
          fail(messageOf(error));
        }
      });
    });
    asked.setTimeout(TIMEOUT_MS, () => asked.destroy(new Error(`no answer within ${TIMEOUT_MS} ms`)));
    asked.on('error', (error: NodeJS.ErrnoException) =>
      fail(CONNECT_REASONS[error.code ?? ''] ?? error.message),
    );
    asked.end(sent);
  });
}
