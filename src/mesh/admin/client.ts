/** Where is the mesh that runs here, and how is it? */

import { existsSync } from 'node:fs';
import { request } from 'node:http';
import path from 'node:path';
import type { MeshStatus, RevokeAnswer, RevokeRequest, TokenRequest } from './types.js';

/** Where `mesh up` and `mesh control` answer, beside their mesh file. */
export const SOCKET = path.join('.mesh', 'control.sock');
/** A mesh of 5,000 services says less. */
const MAX_BYTES = 64 * 1024 * 1024;
const TIMEOUT_MS = 5000;
const MEND = 'start one with mesh up or mesh control, or name its socket with --socket';

const CONNECT_REASONS: Record<string, string> = {
  ENOENT: 'there is none in this folder, nor in one above it (ENOENT)',
  ECONNREFUSED: 'the one that was here has ended (ECONNREFUSED)',
  EACCES: "it is another user's (EACCES)",
};

/** There is no mesh at a socket, or it does not answer. */
export class NoAnswerError extends Error {
  /** Where, and why. */
  readonly what: string;
  /** How to have one. */
  readonly mend = MEND;

  constructor(socket: string, why: string) {
    const what = `no mesh answers at ${socket}: ${why}`;
    super(`${what}; ${MEND}`);
    this.name = 'NoAnswerError';
    this.what = what;
  }
}

/** The socket of the mesh whose file is in this folder or in one above it. */
export function findSocket(folder: string): string {
  for (let at = path.resolve(folder); ; at = path.dirname(at)) {
    const socket = path.join(at, SOCKET);
    if (existsSync(socket)) return socket;
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
 */
export async function askRevoke(socketPath: string, wanted: RevokeRequest): Promise<RevokeAnswer> {
  return (await ask(socketPath, 'POST', '/v1/revoke', wanted)) as RevokeAnswer;
}

function ask(socketPath: string, method: string, path_: string, body?: object): Promise<unknown> {
  return new Promise((resolve, reject) => {
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
          const value = JSON.parse(text) as { error?: string };
          if (response.statusCode === 200) resolve(value);
          else reject(new Error(value.error ?? `the mesh answers ${response.statusCode}`));
        } catch (error) {
          fail(error instanceof Error ? error.message : String(error));
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
