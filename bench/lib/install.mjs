// Which programs does the benchmark need beside ours, and how do they get here?
//
// From Debian when this is a Debian system and we are root, and http-proxy from npm into the cache folder. What is
// there already is not touched.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Failure, must, step } from '../../scripts/lib/run.mjs';
import { build } from './places.mjs';

/** Each program with the Debian package it comes from. */
const packages = {
  haproxy: 'haproxy',
  nginx: 'nginx-light',
  strace: 'strace',
  openssl: 'openssl',
  taskset: 'util-linux',
};
/** nginx relays TCP with this module. */
const streamModule = { file: '/usr/lib/nginx/modules/ngx_stream_module.so', name: 'libnginx-mod-stream' };

/** System programs stand in folders that not every user has on the path. */
process.env.PATH = `${process.env.PATH}:/usr/sbin:/sbin`;

function has(program) {
  return process.env.PATH.split(':').some((folder) => folder && existsSync(join(folder, program)));
}

/** Installs the missing ones among `programs`. */
export async function ensurePrograms(programs) {
  const missing = programs.filter((program) => !has(program)).map((program) => packages[program]);
  if (programs.includes('nginx') && !existsSync(streamModule.file)) missing.push(streamModule.name);
  if (missing.length === 0) return;
  const list = missing.join(' ');
  if (process.getuid?.() !== 0 || !has('apt-get')) {
    throw new Failure(
      `missing on this system: ${list}. Install them (Debian: apt-get install ${list}) and run again.`,
    );
  }
  await step(`installing ${list}`, async () => {
    // Their daemons stay off: the benchmark starts its own.
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
    const quiet = { env, onLine: () => {} };
    await must('apt-get', ['update', '-q'], quiet);
    await must('apt-get', ['install', '-q', '-y', '--no-install-recommends', ...missing], quiet);
  });
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
