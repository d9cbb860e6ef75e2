// Which functions does a sidecar in a mesh run? Writes the list by which releases are linked.
//
//     node scripts/hot-functions.mjs
//
// It needs valgrind, runs two sidecars under callgrind, and takes some minutes more than a release build. Run it when
// much of the sidecar has changed: a function that the list does not know costs some kilobytes of memory and works.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ensureTypeScript } from './lib/artefacts.mjs';
import { hotFunctionsFile, nameOf } from './lib/hot-functions.mjs';
import { Failure, main, must, say } from './lib/run.mjs';
import { cargoEnv, root, targetDir } from './lib/toolchain.mjs';

const folder = join(root, '.build', 'hot');
/** A program under valgrind is some 50 times as slow. */
const LIMIT_MS = 120_000;
/** Twice the time between two reports to the control plane. */
const REPORTS_MS = 12_000;
const PORTS = { control: 24_144, application: 23_999, web: 24_200, basket: 24_300 };

await main(async () => {
  await ensureTypeScript();
  // With its symbols, and elsewhere: what ships has none.
  const symbols = ['--config', 'profile.release.package.mesh-sidecar.strip="none"'];
  const build = ['build', '--locked', '--release', '-p', 'mesh-sidecar', ...symbols];
  const targets = join(targetDir, 'hot');
  const env = { ...cargoEnv, CARGO_TARGET_DIR: targets };
  await must('cargo', build, { cwd: root, env });
  const program = join(targets, 'release', 'mesh-sidecar');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'mesh.yaml'), 'services: { web: { port: 3000 }, basket: { port: 3000 } }\n');
  const started = [];
  try {
    await train(program, started);
  } finally {
    for (const child of started) child.kill('SIGKILL');
  }
  const names = new Set(
    ['web', 'basket'].flatMap((service) => executed(join(folder, `${service}.callgrind`))),
  );
  const known = execFileSync('nm', ['--demangle', '--defined-only', program], {
    encoding: 'utf8',
    maxBuffer: 2 ** 30,
  });
  const hot = new Set();
  for (const line of known.split('\n')) {
    const symbol = /^[0-9a-f]+ [tTwW] (.+)$/.exec(line)?.[1];
    if (symbol && names.has(symbol)) hot.add(nameOf(symbol));
  }
  if (hot.size === 0) throw new Failure(`${program} has no symbols: the list stays as it is`);
  const head =
    '# What a sidecar in a mesh runs. Written by scripts/hot-functions.mjs, read by scripts/link-sidecar.mjs.';
  writeFileSync(hotFunctionsFile, `${[head, ...[...hot].filter(Boolean).toSorted()].join('\n')}\n`);
  say(`${hot.size} functions`);
});

/** Two sidecars, requests of each kind, a report, a drain. */
async function train(program, started) {
  const mesh = join(root, 'dist', 'cli', 'main.js');
  const control = `127.0.0.1:${PORTS.control}`;
  const plane = start(started, process.execPath, [mesh, 'control', '--listen', control]);
  await says(plane, /listens on/);
  const application = http.createServer((_, response) => response.end('hello'));
  application.listen(PORTS.application, '127.0.0.1');
  const sidecars = ['web', 'basket'].map((service) => {
    const token = join(folder, `${service}.token`);
    const text = execFileSync(process.execPath, [mesh, 'token', service], { cwd: folder });
    writeFileSync(token, text, { mode: 0o600 });
    const settings = {
      '--control': control,
      '--trust-anchors': join(folder, '.mesh', 'state', 'roots.pem'),
      '--token-file': token,
      '--identity': `spiffe://mesh.local/ns/default/sa/${service}`,
      '--name': service,
      '--ports': `3000=127.0.0.1:${PORTS.application}`,
      '--inbound': `127.0.0.1:${PORTS[service]}`,
      '--outbound': `127.0.0.1:${PORTS[service] + 1}`,
      '--admin': `127.0.0.1:${PORTS[service] + 2}`,
      '--lame-duck': '0s',
    };
    const seen = `--callgrind-out-file=${join(folder, `${service}.callgrind`)}`;
    const command = ['--tool=callgrind', seen, program, ...Object.entries(settings).flat()];
    return start(started, 'valgrind', command);
  });
  for (const sidecar of sidecars) await says(sidecar, /^mesh-sidecar: ready$/m);
  const outbound = PORTS.web + 1;
  for (let turn = 0; turn < 20; turn += 1) await byHttp1(outbound);
  await byHttp2(outbound);
  await byTunnel(outbound);
  await sleep(REPORTS_MS);
  for (const sidecar of sidecars) sidecar.kill('SIGTERM');
  await Promise.all(sidecars.map((sidecar) => sidecar.ended));
  application.close();
}

function start(started, command, args) {
  const child = spawn(command, args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  child.said = '';
  const hear = (text) => {
    child.said += text;
  };
  child.stdout.on('data', hear);
  child.stderr.on('data', hear);
  child.ended = once(child, 'close');
  started.push(child);
  return child;
}

async function says(child, pattern) {
  const end = performance.now() + LIMIT_MS;
  while (!pattern.test(child.said)) {
    if (performance.now() > end || child.exitCode !== null) throw new Failure(child.said);
    await sleep(100);
  }
}

async function byHttp1(port) {
  const asked = http.get({ host: '127.0.0.1', port, path: 'http://basket/', headers: { host: 'basket' } });
  const [response] = await once(asked, 'response');
  response.resume();
  await once(response, 'end');
}

async function byHttp2(port) {
  const session = http2.connect('http://basket', { createConnection: () => connect(port, '127.0.0.1') });
  for (let turn = 0; turn < 20; turn += 1) {
    const stream = session.request({ ':path': '/' });
    stream.resume();
    await once(stream, 'end');
  }
  session.close();
}

async function byTunnel(port) {
  const asked = http.request({ host: '127.0.0.1', port, method: 'CONNECT', path: 'basket:3000' });
  asked.end();
  const [, socket] = await once(asked, 'connect');
  socket.resume();
  socket.end('GET / HTTP/1.1\r\nhost: basket\r\nconnection: close\r\n\r\n');
  await once(socket, 'close');
}

/** The functions that callgrind has seen, each with all its names. */
function executed(file) {
  const names = new Map();
  const seen = new Set();
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    const [, kind, id, name] = /^(c?fn)=\((\d+)\)(?: (.*))?$/.exec(line) ?? [];
    if (name) names.set(id, name.replace(/'\d+$/, ''));
    if (kind === 'fn') seen.add(id);
  }
  return [...seen].map((id) => names.get(id) ?? '');
}
