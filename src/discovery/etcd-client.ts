/**
 * How is etcd spoken to? Over its JSON gateway, which every etcd since 3.4 has on the port of its clients.
 *
 * Numbers of 64 bits and all bytes are texts there: the first in decimal, the others in base64.
 */

import type { IncomingMessage } from 'node:http';
import * as http from 'node:http';
import * as https from 'node:https';
import { MeshError } from '../mesh-error.js';

/** How long etcd may take to answer unless told otherwise; one that has lost its leader takes longer. */
export const ANSWER_MS = 5000;
/** The most bytes of one answer: 10,000 endpoints say less. */
const MAX_BYTES = 16 * 1024 * 1024;
/** How soon a connection on which nothing passes is looked at by the kernel. */
const KEEP_ALIVE_MS = 10_000;

/** Who is asked, and as whom. */
export interface EtcdAccess {
  /** `http://127.0.0.1:2379` or `https://...`. */
  readonly url: string;
  /** PEM: whom to believe instead of the system's roots, and who we are. */
  readonly tls?: { readonly roots?: string; readonly certificate?: string; readonly key?: string };
  /** What `authenticate` gave. */
  readonly token?: string;
  /** How long it may take to answer. Default: 5 s. */
  readonly answerMs?: number;
}

/** Etcd can't be asked, refuses, or says what can't be. Code `MESH_ETCD`. */
export class EtcdError extends MeshError {
  static {
    this.prototype.name = 'EtcdError';
  }

  declare readonly code: 'MESH_ETCD';

  constructor(message: string, options?: ErrorOptions) {
    super('MESH_ETCD', message, options);
  }
}

/** A pair as the gateway writes it. */
export interface RawPair {
  readonly key: string;
  readonly value?: string;
  readonly mod_revision?: string;
}

/** An answer to `range`. */
export interface RangeAnswer {
  readonly header: { readonly revision: string };
  readonly kvs?: readonly RawPair[];
  readonly more?: boolean;
  readonly count?: string;
}

/** An answer to `txn`. */
export interface TxnAnswer {
  readonly header: { readonly revision: string };
  readonly succeeded?: boolean;
}

/** A message of a watch. */
export interface WatchMessage {
  readonly header?: { readonly revision?: string };
  readonly canceled?: boolean;
  readonly compact_revision?: string;
  readonly cancel_reason?: string;
  readonly events?: readonly { readonly type?: 'PUT' | 'DELETE'; readonly kv: RawPair }[];
}

export const base64 = (text: string): string => Buffer.from(text).toString('base64');
export const fromBase64 = (text = ''): string => Buffer.from(text, 'base64').toString();

/** The first key that does not begin so: what etcd calls the end of a range. */
export function endOf(prefix: string): string {
  const bytes = Buffer.from(prefix);
  for (let at = bytes.length - 1; at >= 0; at -= 1) {
    const byte = bytes[at] ?? 255;
    if (byte === 255) continue;
    bytes[at] = byte + 1;
    return bytes.subarray(0, at + 1).toString('base64');
  }
  return base64('\0');
}

/** Asks once. */
export async function ask<T>(
  access: EtcdAccess,
  path: string,
  body: object,
  signal: AbortSignal,
): Promise<T> {
  const response = await post(access, path, body, signal);
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) {
    text += chunk as string;
    if (text.length > MAX_BYTES) throw new EtcdError(`an answer of more than ${MAX_BYTES} bytes`);
  }
  return parsed(text) as T;
}

/** A token for a user. */
export async function authenticate(
  access: EtcdAccess,
  name: string,
  password: string,
  signal: AbortSignal,
): Promise<string> {
  const { token } = await ask<{ token?: string }>(
    access,
    '/v3/auth/authenticate',
    { name, password },
    signal,
  );
  if (token === undefined) throw new EtcdError('etcd gave no token');
  return token;
}

/** Watches; ends with the connection. */
export async function* watch(
  access: EtcdAccess,
  request: object,
  signal: AbortSignal,
): AsyncGenerator<WatchMessage, void, undefined> {
  const response = await post(access, '/v3/watch', { create_request: request }, signal);
  let rest = '';
  for await (const chunk of response.setEncoding('utf8')) {
    rest += chunk as string;
    if (rest.length > MAX_BYTES) throw new EtcdError(`a message of more than ${MAX_BYTES} bytes`);
    const lines = rest.split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line !== '') yield (parsed(line) as { result: WatchMessage }).result;
    }
  }
}

/** The head of an answer that went well. All of it has to come in time, but for what is watched. */
async function post(
  { url, tls, token, answerMs = ANSWER_MS }: EtcdAccess,
  path: string,
  body: object,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  const late = AbortSignal.timeout(answerMs);
  const { request } = url.startsWith('https:') ? https : http;
  const text = JSON.stringify(body);
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const asked = request(new URL(path, url), {
      method: 'POST',
      // One connection each: they are few, and one that is dead is never taken again.
      agent: false,
      headers: {
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(text),
        ...(token !== undefined && { authorization: token }),
      },
      ...(tls && { ca: tls.roots, cert: tls.certificate, key: tls.key }),
      signal,
    });
    const tooLate = (): void => void asked.destroy(new EtcdError(`no answer within ${answerMs} ms`));
    late.addEventListener('abort', tooLate, { once: true });
    asked.on('socket', (socket) => socket.setKeepAlive(true, KEEP_ALIVE_MS));
    asked.on('error', reject);
    asked.on('response', (answer) => {
      if (path === '/v3/watch') late.removeEventListener('abort', tooLate);
      resolve(answer);
    });
    asked.end(text);
  });
  if (response.statusCode !== 200) {
    let said = '';
    for await (const chunk of response.setEncoding('utf8')) said = (said + (chunk as string)).slice(0, 4096);
    throw new EtcdError(`etcd answers ${response.statusCode}: ${reasonIn(said)}`);
  }
  return response;
}

function parsed(text: string): unknown {
  let value: { error?: { message?: string } | string };
  try {
    value = JSON.parse(text) as { error?: { message?: string } | string };
  } catch {
    throw new EtcdError('etcd answers something that is no JSON');
  }
  if (value.error !== undefined) throw new EtcdError(`etcd says: ${reasonIn(text)}`);
  return value;
}

function reasonIn(text: string): string {
  try {
    const { error, message } = JSON.parse(text) as {
      error?: { message?: string } | string;
      message?: string;
    };
    return message ?? (typeof error === 'object' ? error.message : error) ?? text;
  } catch {
    return text;
  }
}
