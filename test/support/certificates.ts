// Where do test certificates come from? A small authority made by `openssl`, in a folder that goes away with the test.

import { readFileSync, writeFileSync } from 'node:fs';
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
  /** DNS names, and IP addresses as `IP:127.0.0.1`, `URI:spiffe://...`; `DER:30:03:...` alone is all of the extension. */
  names?: string[];
  /** A certificate for clients, or for both sides. Default: for servers. */
  client?: boolean | 'too';
  /** It ended yesterday. */
  expired?: boolean;
  /** It begins tomorrow. */
  early?: boolean;
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

  /** An authority under this one, in PEM, as the operator of a mesh gives it; `days` from now on, or from one to another. */
  async issuer(
    days: number | readonly [number, number] = 20,
  ): Promise<{ chain: string; key: string; roots: string }> {
    const [certificate, key, request, extensions] = ['crt', 'key', 'csr', 'ext'].map((end) =>
      join(this.folder, `issuer.${end}`),
    ) as [string, string, string, string];
    writeFileSync(extensions, 'basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign\n');
    await openssl(`req -new ${NEW_KEY} -subj /CN=issuer`, ['-keyout', key, '-out', request]);
    const signs = ['-in', request, '-extfile', extensions, '-out', certificate];
    if (typeof days === 'number')
      await openssl(`x509 -req -days ${days} -set_serial 1000`, [...this.#signer, ...signs]);
    else await this.#signDated(join(this.folder, 'issuer'), days, signs);
    const [chain = '', own = '', roots = ''] = [certificate, key, this.root].map((file) =>
      readFileSync(file, 'utf8'),
    );
    return { chain, key: own, roots };
  }

  /** Makes a certificate. */
  async sign({ names = [], client = false, expired = false, early = false }: Subject): Promise<Certificate> {
    this.#count += 1;
    const base = join(this.folder, `leaf-${this.#count}`);
    const [certificate, key, request, extensions] = ['crt', 'key', 'csr', 'ext'].map(
      (end) => `${base}.${end}`,
    ) as [string, string, string, string];
    const alternatives = names.map((name) => (/^(IP|URI|DER):/.test(name) ? name : `DNS:${name}`));
    writeFileSync(
      extensions,
      [
        'basicConstraints=critical,CA:FALSE',
        `extendedKeyUsage=${client === 'too' ? 'clientAuth,serverAuth' : client ? 'clientAuth' : 'serverAuth'}`,
        ...(alternatives.length > 0 ? [`subjectAltName=${alternatives.join(',')}`] : []),
      ].join('\n'),
    );
    const [name = 'nobody'] = names;
    // Slashes divide a subject, and it is no place for bytes.
    const subject = `/CN=${/^(URI|DER):/.test(name) ? 'workload' : name}`;
    await openssl(`req -new ${NEW_KEY}`, ['-subj', subject, '-keyout', key, '-out', request]);
    const signs = ['-in', request, '-extfile', extensions, '-out', certificate];
    if (early) await this.#signDated(base, [1, 3], signs);
    else if (expired) await this.#signDated(base, [-3, -1], signs);
    else await openssl(`x509 -req -days 10 -set_serial ${this.#count}`, [...this.#signer, ...signs]);
    return { certificate, key };
  }

  get #signer(): string[] {
    return ['-CA', this.root, '-CAkey', this.key];
  }

  /** From the one day from now to the other. Only `openssl ca` lets one say when a certificate begins; it keeps books. */
  async #signDated(base: string, days: readonly [number, number], signs: readonly string[]): Promise<void> {
    const config = `${base}.cnf`;
    writeFileSync(`${base}.index`, '');
    writeFileSync(
      config,
      `[ca]\ndefault_ca=own\n[own]\ndatabase=${base}.index\nnew_certs_dir=${this.folder}\ndefault_md=sha256
      policy=any\nrand_serial=yes\n[any]\ncommonName=supplied\n`,
    );
    const [from, to] = days.map((day) =>
      new Date(Date.now() + day * 86_400_000).toISOString().replace(/[-:T]|\.\d+/g, ''),
    );
    const signer = ['-config', config, '-cert', this.root, '-keyfile', this.key];
    await openssl(`ca -batch -notext -startdate ${from} -enddate ${to}`, [...signer, ...signs]);
  }
}
