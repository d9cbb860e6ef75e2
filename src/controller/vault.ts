/**
 * How do control planes share an issuer over etcd, which must not know it?
 *
 * Whoever starts first makes a root and an issuer and puts them there, in one transaction that only one can win; all take
 * what is there then. They are encrypted with a key of the operator's, which is in a file on each of these machines:
 * scrypt makes 256 bits of its text, AES-256-GCM keeps them secret and whole.
 */

import { X509Certificate, createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto';
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type EtcdAccess, type RangeAnswer, ask, base64, fromBase64 } from '../discovery/etcd-client.js';
import { StateError } from '../errors.js';
import type { ControlPlaneOptions, StartControlPlane } from '../mesh/control-plane.js';

/** An issuer in PEM: its chain, its key, and the roots to trust. */
export type IssuerPem = NonNullable<ControlPlaneOptions['issuer']>;

/** The shortest text of a key: what people think of is shorter, and can be tried out. */
const SHORTEST_KEY = 32;
/** 32 MiB of memory and some 50 ms for each try. */
const SCRYPT = { N: 2 ** 15, r: 8, p: 1, maxmem: 64 * 1024 * 1024 };

/** The part of its life after which an issuer is renewed. */
const RENEW_AT = 0.7;

/** What is in etcd. All in base64. */
interface Sealed {
  readonly version: 1;
  readonly salt: string;
  readonly nonce: string;
  readonly tag: string;
  readonly data: string;
}

const derive = promisify<string, Buffer, number, typeof SCRYPT, Buffer>(scrypt);

/** Encrypts; `place` is where it may be read again, so that nothing can be moved elsewhere. */
export async function seal(text: string, key: string, place: string): Promise<string> {
  const [salt, nonce] = [randomBytes(16), randomBytes(12)];
  const cipher = createCipheriv('aes-256-gcm', await derive(key, salt, 32, SCRYPT), nonce);
  cipher.setAAD(Buffer.from(place));
  const data = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
  const parts = { salt, nonce, tag: cipher.getAuthTag(), data };
  const written = Object.entries(parts).map(([name, bytes]) => [name, bytes.toString('base64')]);
  return JSON.stringify({ version: 1, ...Object.fromEntries(written) });
}

/**
 * Decrypts; `where` it was found is for people.
 *
 * @throws {StateError} when the key is another, or what was written was changed or moved
 */
export async function unseal(
  text: string,
  key: string,
  place: string,
  where = `${place} in etcd`,
): Promise<string> {
  try {
    const { version, salt, nonce, tag, data } = JSON.parse(text) as Sealed;
    if (version !== 1) throw new Error(`version ${String(version)}`);
    const secret = await derive(key, Buffer.from(salt, 'base64'), 32, SCRYPT);
    const cipher = createDecipheriv('aes-256-gcm', secret, Buffer.from(nonce, 'base64'), {
      authTagLength: 16,
    });
    cipher.setAAD(Buffer.from(place)).setAuthTag(Buffer.from(tag, 'base64'));
    return cipher.update(Buffer.from(data, 'base64'), undefined, 'utf8') + cipher.final('utf8');
  } catch {
    throw new StateError(`${where} can't be read with this key: it is another's, or was changed`);
  }
}

/**
 * Reads a file that the mesh file names.
 *
 * @throws {StateError} it can't be read: which field names it, why, and how to mend it
 */
export async function readNamed(field: string, file: string, mend?: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const why = code === 'ENOENT' ? 'there is no such file' : message;
    throw new StateError(`${field}: ${file}: ${why}${mend === undefined ? '' : `; ${mend}`}`);
  }
}

/** Reads the operator's key. */
export async function readKey(file: string): Promise<string> {
  const made = `openssl rand -hex 32 > ${file} makes one, which each control plane gets`;
  const key = (await readNamed('mesh.shared.keyFile', file, made)).trim();
  if (key.length < SHORTEST_KEY)
    throw new StateError(
      `${file}: expected at least ${SHORTEST_KEY} letters, such as those of openssl rand -hex 32`,
    );
  return key;
}

/** An issuer with the folder of the authority that made it, by which it is renewed. */
export interface SharedIssuer {
  readonly issuer: IssuerPem;
  readonly files: Readonly<Record<string, string>>;
}

/** The place of the issuer in etcd. */
export class Vault {
  readonly #access: EtcdAccess;
  readonly #place: string;
  readonly #key: string;
  readonly #signal: AbortSignal;

  constructor(access: EtcdAccess, place: string, key: string, signal: AbortSignal) {
    this.#access = access;
    this.#place = place;
    this.#key = key;
    this.#signal = signal;
  }

  /** What is there; the first who asks makes it. */
  async issuer(make: () => Promise<SharedIssuer>): Promise<SharedIssuer> {
    const there = await this.#read();
    if (there) return there.made;
    await this.#put(await make(), '0');
    const now = await this.#read();
    if (!now) throw new StateError(`${this.#place} in etcd went away at once`);
    return now.made;
  }

  /**
   * Puts another one in place of what is there, when that is due and one is made. Whoever is first wins.
   * Whether one was put there, or came too late.
   */
  async renew(make: (before: SharedIssuer) => Promise<SharedIssuer | undefined>): Promise<boolean> {
    const there = await this.#read();
    if (!there || !isDue(there.made.issuer, Date.now())) return false;
    const made = await make(there.made);
    if (made) await this.#put(made, there.revision);
    return made !== undefined;
  }

  async #read(): Promise<{ made: SharedIssuer; revision: string } | undefined> {
    const { kvs = [] } = await this.#ask<RangeAnswer>('/v3/kv/range', { key: base64(this.#place) });
    const [pair] = kvs;
    if (!pair) return undefined;
    const text = await unseal(fromBase64(pair.value), this.#key, this.#place);
    return { made: JSON.parse(text) as SharedIssuer, revision: pair.mod_revision ?? '0' };
  }

  /** Unless somebody else has put one there meanwhile; `revision` is 0 where there was none. */
  async #put(made: SharedIssuer, revision: string): Promise<void> {
    const key = base64(this.#place);
    const value = base64(await seal(JSON.stringify(made), this.#key, this.#place));
    const unchanged = { key, target: 'MOD', result: 'EQUAL', mod_revision: revision };
    await this.#ask('/v3/kv/txn', { compare: [unchanged], success: [{ request_put: { key, value } }] });
  }

  #ask<T>(path: string, body: object): Promise<T> {
    return ask<T>(this.#access, path, body, this.#signal);
  }
}

/** Makes a root and an issuer, or with `before` another issuer of its root, in a folder that is gone afterwards. */
export async function makeIssuer(
  start: StartControlPlane,
  settings: { readonly trustDomain: string; readonly certificateTtlMs: number },
  before?: SharedIssuer,
): Promise<SharedIssuer> {
  const folder = await mkdtemp(join(tmpdir(), 'mesh-issuer-'));
  try {
    const stateDir = join(folder, 'authority');
    await mkdir(stateDir, { mode: 0o700 });
    for (const [name, text] of Object.entries(before?.files ?? {})) {
      await writeFile(join(stateDir, name), text, { mode: 0o600 });
    }
    const { trustDomain, certificateTtlMs } = settings;
    const plane = await start({ trustDomain, certificateTtlMs, listen: [], stateDir, onEvent: () => {} });
    try {
      if (before) plane.rotateIssuer();
      const names = (await readdir(stateDir)).filter((name) => name !== 'lock');
      const read = async (name: string) => [name, await readFile(join(stateDir, name), 'utf8')] as const;
      const files = Object.fromEntries(await Promise.all(names.map(read)));
      const issuer =
        names
          .filter((name) => /^issuer-\d+\.crt$/.test(name))
          .sort(byNumber)
          .at(-1) ?? '';
      const [chain = '', key = ''] = [files[issuer], files[issuer.replace('.crt', '.key')]];
      return { issuer: { chain, key, roots: plane.bundle() }, files };
    } finally {
      await plane.close();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const byNumber = (a: string, b: string): number => Number(/\d+/.exec(a)?.[0]) - Number(/\d+/.exec(b)?.[0]);

/**
 * Whether another issuer is to be made: this one has lived long enough, as one that is not shared is renewed, or was made by
 * a clock that is ahead of this one, so that nobody believes it.
 */
export function isDue(issuer: IssuerPem, nowMs: number): boolean {
  const { fromMs, toMs } = lifeOf(issuer);
  return nowMs < fromMs || nowMs > fromMs + (toMs - fromMs) * RENEW_AT;
}

/** Whether what is signed with it is believed now; else why not, for people. */
export function whyNotNow(issuer: IssuerPem, nowMs: number): string | undefined {
  const { fromMs, toMs } = lifeOf(issuer);
  if (nowMs >= fromMs && nowMs < toMs) return undefined;
  const [from, to, now] = [fromMs, toMs, nowMs].map((atMs) => new Date(atMs).toISOString());
  return `is good from ${from} to ${to}, and this machine's clock says ${now}`;
}

function lifeOf({ chain }: IssuerPem): { fromMs: number; toMs: number } {
  const { validFrom, validTo } = new X509Certificate(chain);
  return { fromMs: Date.parse(validFrom), toMs: Date.parse(validTo) };
}
