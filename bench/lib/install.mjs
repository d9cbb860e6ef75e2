// What does the benchmark need beside ours and the programs of the system, and how does it get here?
//
// A module of nginx from Debian, and http-proxy from npm into the cache folder.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { must, step } from '../../scripts/lib/run.mjs';
import { ensurePrograms } from '../../scripts/lib/system.mjs';
import { build } from './places.mjs';

/** nginx relays TCP with this module. */
const streamModule = { file: '/usr/lib/nginx/modules/ngx_stream_module.so', name: 'libnginx-mod-stream' };

/** Installs the missing ones among `programs`, and what belongs to them. */
export function ensurePeers(programs) {
  const isBare = programs.includes('nginx') && !existsSync(streamModule.file);
  return ensurePrograms(programs, isBare ? [streamModule.name] : []);
}

const HTTP_PROXY = '1.18.1';

/** The folder of Node's http-proxy, installed on first use. */
export async function ensureHttpProxy() {
  const folder = join(build, 'http-proxy');
  const installed = join(folder, 'node_modules', 'http-proxy', 'package.json');
  if (!existsSync(installed) || JSON.parse(readFileSync(installed, 'utf8')).version !== HTTP_PROXY) {
    await step(`installing http-proxy ${HTTP_PROXY}`, async () => {
      mkdirSync(folder, { recursive: true });
      const manifest = { private: true, dependencies: { 'http-proxy': HTTP_PROXY } };
      writeFileSync(join(folder, 'package.json'), JSON.stringify(manifest));
      const args = ['install', '--no-audit', '--no-fund', '--ignore-scripts', '--loglevel', 'error'];
      await must('npm', args, { cwd: folder });
    });
  }
  return join(folder, 'node_modules', 'http-proxy');
}

/** A certificate for all of them: ECDSA P-256, self-signed. Made anew every time, since it costs nothing. */
export function makeCertificate() {
  const [key, certificate, both] = ['key.pem', 'certificate.pem', 'both.pem'].map((name) =>
    join(build, name),
  );
  const request = [
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-days',
    '30',
  ];
  const names = ['-subj', '/CN=bench.test', '-addext', 'subjectAltName=DNS:bench.test'];
  execFileSync('openssl', [...request, ...names, '-keyout', key, '-out', certificate], { stdio: 'pipe' });
  writeFileSync(both, readFileSync(certificate, 'utf8') + readFileSync(key, 'utf8'), { mode: 0o600 });
  return { key, certificate, both };
}
