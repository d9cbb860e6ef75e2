// Where do test certificates come from? A small authority made by `openssl`, in a folder that goes away with the test.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { temporaryFolder } from './files.js';
import { must } from './processes.js';

/** A certificate and its key, as files. */
export interface Certificate {
  certificate: string;
  key: string;
}

/** What a certificate says. */
export interface Subject {
  /** DNS names, and IP addresses as `IP:127.0.0.1`, `URI:spiffe://...`. */
  names?: string[];
  /** A certificate for clients. Default: for servers. */
  client?: boolean;
  /** It ended yesterday. */
  expired?: boolean;
}

const NEW_KEY = '-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes';

/** `words` are split at spaces; files and what people wrote follow. */
async function openssl(words: string, rest: string[]): Promise<void> {
  await must('openssl', [...words.split(/\s+/), ...rest]);
}

/** Signs certificates. */
export class Authority {
  #count = 0;

  private constructor(
    readonly folder: string,
    readonly name: string,
    /** The root, as a file. */
    readonly root: string,
    readonly key: string,
  ) {}

  static async create(t: Pick<ExecutionContext, 'teardown'>, name = 'authority'): Promise<Authority> {
    const folder = temporaryFolder(t);
    const root = join(folder, 'root.crt');
    const key = join(folder, 'root.key');
    await openssl(
      `req -x509 ${NEW_KEY} -days 30 -addext basicConstraints=critical,CA:TRUE
      -addext keyUsage=critical,keyCertSign,cRLSign`,
      ['-subj', `/CN=${name}`, '-keyout', key, '-out', root],
    );
    return new Authority(folder, name, root, key);
  }

  /** Makes a certificate. */
  async sign({ names = [], client = false, expired = false }: Subject): Promise<Certificate> {
    this.#count += 1;
    const base = join(this.folder, `leaf-${this.#count}`);
    const [certificate, key, request, extensions] = ['crt', 'key', 'csr', 'ext'].map(
      (end) => `${base}.${end}`,
    ) as [string, string, string, string];
    const alternatives = names.map((name) => (/^(IP|URI):/.test(name) ? name : `DNS:${name}`));
    writeFileSync(
      extensions,
      [
        'basicConstraints=critical,CA:FALSE',
        `extendedKeyUsage=${client ? 'clientAuth' : 'serverAuth'}`,
        ...(alternatives.length > 0 ? [`subjectAltName=${alternatives.join(',')}`] : []),
      ].join('\n'),
    );
    const subject = `/CN=${names[0] ?? 'nobody'}`;
    await openssl(`req -new ${NEW_KEY}`, ['-subj', subject, '-keyout', key, '-out', request]);
    await openssl(`x509 -req -days ${expired ? -1 : 10} -set_serial ${this.#count}`, [
      '-in',
      request,
      '-CA',
      this.root,
      '-CAkey',
      this.key,
      '-extfile',
      extensions,
      '-out',
      certificate,
    ]);
    return { certificate, key };
  }
}
