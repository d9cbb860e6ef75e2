// Who vouches for the workloads, ours and HAProxy's alike? One root and one issuer, made anew every time.
//
// Everybody so shows and verifies chains of the same length and kind: ECDSA P-256, two certificates, one SPIFFE id.

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from './places.mjs';

export const TRUST_DOMAIN = 'bench.test';
export const idOf = (service) => `spiffe://${TRUST_DOMAIN}/ns/bench/sa/${service}`;

/** The name that a caller asks a workload's sidecar for, by TLS. */
export const serverNameOf = (service, port) => `p${port}.${service}.bench.${TRUST_DOMAIN}`;

const authority = (length) =>
  `basicConstraints=critical,CA:TRUE${length}\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectAltName=URI:spiffe://${TRUST_DOMAIN}\n`;
const leaf = (service) =>
  'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n' +
  `subjectAltName=URI:${idOf(service)},DNS:${serverNameOf(service, 3000)}\n`;

/** Makes root, issuer and the certificates of those who don't ask a control plane. */
export function makeAuthority() {
  const folder = join(build, 'authority');
  mkdirSync(folder, { recursive: true });
  const path = (name) => join(folder, name);
  const text = (name) => readFileSync(path(name), 'utf8');
  const openssl = (line) => execFileSync('openssl', line.split(' '), { stdio: 'pipe', cwd: folder });
  const make = (name, extensions, signer) => {
    writeFileSync(path(`${name}.ext`), extensions);
    openssl(`ecparam -name prime256v1 -genkey -noout -out ${name}.sec1`);
    openssl(`pkcs8 -topk8 -nocrypt -in ${name}.sec1 -out ${name}.key`);
    openssl(`req -new -key ${name}.key -subj /O=bench/CN=${name} -out ${name}.csr`);
    const by = signer ? `-CA ${signer}.crt -CAkey ${signer}.key -CAcreateserial` : `-signkey ${name}.key`;
    openssl(`x509 -req -in ${name}.csr ${by} -days 30 -sha256 -extfile ${name}.ext -out ${name}.crt`);
  };
  make('root', authority(''));
  make('issuer', authority(',pathlen:0'), 'root');
  for (const service of ['web', 'basket']) {
    make(service, leaf(service), 'issuer');
    writeFileSync(path(`${service}.chain`), text(`${service}.crt`) + text('issuer.crt'));
    writeFileSync(path(`${service}.pem`), text(`${service}.chain`) + text(`${service}.key`), { mode: 0o600 });
  }
  return {
    path,
    issuer: { chain: text('issuer.crt'), key: text('issuer.key'), roots: text('root.crt') },
  };
}
