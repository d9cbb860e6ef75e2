// Is whoever has just begun told what is wrong, where, and how to mend it?

import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join, relative } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { probe } from '../../src/mesh/up/probe.js';
import { sidecarFile as findSidecar } from '../../src/mesh/up/sidecar-file.js';
import { FakeWorld } from '../cli/world.js';
import { Authority } from '../support/certificates.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin } from '../support/http.js';
import { type Running, run, start } from '../support/processes.js';
import { cleanEnvironment, sidecarFile } from '../support/sidecar.js';
import { closedPort } from '../support/tcp.js';
import { until } from '../support/wait.js';
import { Mesh, idOf, startMeshSidecar } from './support.js';

const MAIN = join(process.cwd(), 'dist', 'cli', 'main.js');

/** A file in a folder of its own. */
function written(t: ExecutionContext, name: string, text: string): string {
  const file = join(temporaryFolder(t), name);
  writeFileSync(file, text);
  return file;
}

/** A command that stays, and the folder it is typed in. */
function stay(t: ExecutionContext, cwd: string, ...args: string[]): Running {
  return start(t, process.execPath, [MAIN, ...args], { cwd, env: cleanEnvironment() });
}

const type = (cwd: string, ...args: string[]) =>
  run(process.execPath, [MAIN, ...args], { cwd, env: cleanEnvironment() });

const printed = (running: Running, pattern: RegExp): Promise<unknown> =>
  until(`it prints ${pattern}`, () => {
    const is = pattern.test(running.stdout().toString());
    if (!is && running.ended) throw new Error(`it ended: ${running.stderr()}`);
    return is;
  });

test('a file of the other kind is told which command takes it', async (t) => {
  const mesh = written(t, 'mesh.yaml', 'services: { web: { run: node web.mjs } }\n');
  const proxy = written(t, 'proxy.yaml', 'listeners: [{ address: :8080, to: 127.0.0.1:3000 }]\n');
  const { stdout } = await new FakeWorld().run('compile', proxy);
  const resources = written(t, 'resources.json', stdout);
  const compiled =
    /^\S*resources\.json:1:1: error: these are compiled resources, which mesh-sidecar --config takes/;
  for (const [args, said] of [
    [['run', '-c', resources], compiled],
    [['validate', resources], compiled],
    [['up', resources], compiled],
    [['run', '-c', mesh], /mesh\.yaml:1:1: error: this is a mesh file, which mesh up and mesh control take/],
    [
      ['up', proxy],
      /proxy\.yaml:1:1: error: this is the configuration of one proxy, which mesh run -c takes/,
    ],
    [['control', proxy], /proxy\.yaml:1:1: error: this is the configuration of one proxy/],
  ] as const) {
    const { code, stderr } = await new FakeWorld().run(...args);
    t.is(code, 64);
    t.regex(stderr, said);
    t.is(stderr.match(/error/g)?.length, 1, 'and nothing else');
  }
});

test('a mesh file that is not there: where it was looked for, and what stands in one', async (t) => {
  const folder = temporaryFolder(t);
  const { code, stderr } = await type(folder, 'up');
  t.is(code, 64);
  t.is(stderr, `mesh.yaml: error: there is no such file\n  looked for in ${folder}\n`);
  t.regex((await type(folder, 'up', '--help')).stdout.toString(), /A mesh file[^]*services:\n.*run: node/);
});

test('ports that the file gives out and others have are all told, each in its place', async (t) => {
  const origin = await httpOrigin(t);
  const first = await closedPort();
  const file = written(
    t,
    'mesh.yaml',
    `services:\n  web: { run: node web.mjs, bind: { port: ${first} } }\n` +
      `  basket: { run: node basket.mjs, copies: 2, bind: { inbound: ${origin.port - 1} } }\n`,
  );
  const { code, stderr } = await new FakeWorld().run('up', file);
  t.is(code, 64);
  const said = `services.basket.bind.inbound: port ${origin.port} of 127.0.0.1 can't be had: another program has it`;
  t.regex(stderr, new RegExp(String.raw`mesh\.yaml:3:\d+: error: ${said}`));
  t.regex(stderr, /\^ free it, write another one, or none and it is a free one$/m);
  t.notRegex(stderr, /services\.web/);
});

test('a port that the file gives out twice: by which other key', async (t) => {
  const port = await closedPort();
  const bind = `{ port: ${port}, inbound: ${port} }`;
  const file = written(t, 'mesh.yaml', `services: { web: { run: node web.mjs, bind: ${bind} } }\n`);
  const { code, stderr } = await new FakeWorld().run('up', file);
  t.is(code, 64);
  t.regex(
    stderr,
    /services\.web\.bind\.inbound: port \d+ of 127\.0\.0\.1 can't be had: services\.web\.bind\.port gives it out too/,
  );
});

test('an application that listens elsewhere: on which port it has to', async (t) => {
  // The sidecar waits for it too, or for nothing.
  let waits = false;
  const admin = createServer((_, response) => {
    waits = !waits;
    if (waits) response.writeHead(503).end('the application does not listen yet\n');
    else response.end('ready\n');
  }).listen(0, '127.0.0.1');
  t.teardown(() => admin.close());
  await once(admin, 'listening');
  const at = `127.0.0.1:${(admin.address() as AddressInfo).port}`;
  const application = `127.0.0.1:${await closedPort()}`;
  for (const [readiness, what] of [
    [{ kind: 'tcp' }, `nothing listens on ${application}`],
    [{ kind: 'http', path: '/' }, `nothing answers on ${application}`],
  ] as const) {
    for (let look = 0; look < 2; look += 1) {
      const missing = await probe(at, application, readiness);
      t.is(missing?.what, what);
      t.regex(missing?.mend ?? '', /it has to listen on the port in its variable PORT/);
    }
  }
});

test('a second mesh up in one folder leaves the first one its socket, and says so', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'mesh.yaml'), 'services: { web: { run: sleep 600 } }\n');
  const up = ['up', '--sidecar', sidecarFile()];
  const first = stay(t, folder, ...up);
  await printed(first, /the control plane listens/);
  const second = stay(t, folder, ...up);
  await second.said(/^error: another mesh answers at \S+control\.sock: .* folders of their own$/m);
  second.signal('SIGTERM');
  await second.exit;
  t.is((await type(folder, 'edges')).code, 0);
});

test('mesh stat and mesh edges of a service that is not there, or was not called', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(
    join(folder, 'mesh.yaml'),
    'services: { web: { run: sleep 600 }, ledger: { address: 10.0.0.7:80 } }\n',
  );
  const mesh = stay(t, folder, 'up', '--sidecar', sidecarFile());
  await printed(mesh, /the control plane listens/);
  for (const args of [
    ['stat', '--from', 'wbe'],
    ['stat', '--to', 'wbe'],
    ['edges', '--to', 'wbe'],
    ['edges', '--from', 'wbe', '-o', 'json'],
  ]) {
    const { code, stdout, stderr } = await type(folder, ...args);
    t.is(code, 64, args.join(' '));
    t.regex(stdout.toString() + stderr, /there is no service wbe; did you mean web\?/);
  }
  for (const to of ['web', 'ledger']) {
    const { code, stdout } = await type(folder, 'stat', '--to', to);
    t.is(code, 0);
    t.regex(stdout.toString(), new RegExp(`^to\t.*\n${to}\\.default:80\t0\t0\\.0\t-\t`));
  }
});

test('mesh control says where clients without TLS ask it', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'mesh.yaml'), 'services: { web: {} }\n');
  const control = stay(t, folder, 'control', '--listen', '127.0.0.1:0', '--plaintext-xds', '127.0.0.1:0');
  const said = /^gRPC clients and Envoy on this machine ask 127\.0\.0\.1:[1-9]\d*, without TLS$/m;
  await printed(control, said);
  t.regex(control.stdout().toString(), said);
});

test('who is given a token or revoked, and is nobody there: wrong usage, and who it may be', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'mesh.yaml'), 'services: { web: {}, basket: {} }\n');
  const control = stay(t, folder, 'control', '--listen', '127.0.0.1:0');
  await printed(control, /the control plane listens/);
  for (const [command, whom, said] of [
    ['token', 'nope', 'web, basket, or a SPIFFE id, received nope'],
    ['revoke', 'nope', 'web, basket, a SPIFFE id, or the serial number of a certificate, received nope'],
  ] as const) {
    const { code, stderr } = await type(folder, command, whom);
    t.is(code, 64, command);
    t.is(stderr, `error: service: expected one of ${said}\n`);
  }
});

test('a second control plane in one folder is told that each needs its own', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'mesh.yaml'), 'services: { web: {} }\n');
  const first = stay(t, folder, 'control', '--listen', '127.0.0.1:0');
  await printed(first, /the control plane listens/);
  const { code, stderr } = await type(folder, 'control', '--listen', '127.0.0.1:0');
  t.is(code, 64);
  t.regex(
    stderr,
    /^error: \S+authority is in use by another process: each control plane needs a folder of its own$/m,
  );
});

test('where no mesh answers: whether there was one', async (t) => {
  const folder = temporaryFolder(t);
  const { stderr } = await type(folder, 'stat');
  t.regex(
    stderr,
    /^error: no mesh answers at \S+: there is none in this folder, nor in one above it \(ENOENT\); start/,
  );
  mkdirSync(join(folder, '.mesh'));
  const socket = join(folder, '.mesh', 'control.sock');
  const server = `require('node:net').createServer().listen(${JSON.stringify(socket)})`;
  const killed = start(t, process.execPath, ['-e', server]);
  await until('the socket is there', () => existsSync(socket));
  await killed.kill();
  const again = await type(folder, 'stat');
  t.regex(
    again.stderr,
    /^error: no mesh answers at \S+: the one that was here has ended \(ECONNREFUSED\); start/,
  );
});

test('control planes that share an issuer: which key file is missing, and which etcd', async (t) => {
  const folder = temporaryFolder(t);
  const etcd = `http://127.0.0.1:${await closedPort()}`;
  writeFileSync(
    join(folder, 'mesh.yaml'),
    `mesh: { shared: { keyFile: operator.key, etcd: { endpoints: ['${etcd}'], prefix: /x/ } } }\nservices: { web: {} }\n`,
  );
  const control = ['control', '--listen', '127.0.0.1:0'];
  const key = join(folder, 'operator.key');
  const { code, stderr } = await type(folder, ...control);
  t.is(code, 1);
  t.is(
    stderr,
    `error: mesh.shared.keyFile: ${key}: there is no such file; openssl rand -hex 32 > ${key} makes one, which each control plane gets\n`,
  );
  writeFileSync(key, 'k'.repeat(64));
  const waiting = stay(t, folder, ...control);
  await waiting.said(
    /^error: mesh\.shared\.etcd: http:\S+ fails, and the first start needs it: .*ECONNREFUSED/m,
  );
});

// In a network of its own, where nothing is redirected should a tool be found after all.
const canHide = process.getuid?.() === 0 && process.platform === 'linux';
(canHide ? test : test.skip)('interception without its tool: what to install', async (t) => {
  for (const [backend, mend] of [
    ['nft', 'install nftables, or choose --backend iptables'],
    ['iptables', 'install iptables'],
  ] as const) {
    const script = `mount -t tmpfs none /usr/sbin; exec '${process.execPath}' '${MAIN}' redirect on --backend ${backend}`;
    const { code, stderr } = await run('unshare', ['--net', '--mount', 'sh', '-ec', script], {
      env: cleanEnvironment(),
    });
    t.is(code, 64);
    t.true(stderr.startsWith(`error: ${backend} can't be run`) && stderr.includes(mend), stderr);
  }
});

test('a folder in which nothing can be written: what that means, and what to do', async (t) => {
  const folder = temporaryFolder(t);
  // A file in its place: that stops the superuser too.
  writeFileSync(join(folder, '.mesh'), '');
  writeFileSync(join(folder, 'mesh.yaml'), 'services: { web: {} }\n');
  const control = await type(folder, 'control', '--listen', '127.0.0.1:0');
  t.is(control.code, 64);
  t.regex(control.stderr, /^error: the state folder can't be made: .*; --state-dir names another one$/m);
  writeFileSync(join(folder, 'mesh.yaml'), 'services: { web: { run: sleep 600 } }\n');
  const up = stay(t, folder, 'up', '--sidecar', sidecarFile());
  await up.said(
    /^error: mesh stat and the like can't ask this mesh: .*; they can when the mesh file is in a folder/m,
  );
  await printed(up, /the control plane listens/);
});

test('a sidecar program that is none is told by the flag that named it', async (t) => {
  const file = written(t, 'mesh.yaml', 'services: { web: { run: node web.mjs } }\n');
  for (const sidecar of ['/no/such/program', temporaryFolder(t)]) {
    const { code, stderr } = await new FakeWorld().run('up', file, '--sidecar', sidecar);
    t.is(code, 64);
    t.is(
      stderr,
      `error: ${sidecar} is no program that can be run; it was named by --sidecar or MESH_SIDECAR\n`,
    );
  }
});

test('a sidecar program is found from where the command is typed, wherever copies run', (t) => {
  const file = sidecarFile();
  t.is(findSidecar({}, relative(process.cwd(), file)), file);
});

test('a sidecar that is not let in says why, and what to do', async (t) => {
  const mesh = await Mesh.start(t);
  mesh.serve('basket', []);
  const token = written(t, 'token', 'nonsense');
  const unknown = await mesh.sidecar(t, 'basket', { token, ready: false });
  await unknown.process.said(
    /no certificate error=".*token_unknown.*" mend="mesh token SERVICE gives another token for --token-file"/,
  );
  const other = await Authority.create(t, 'other');
  const join_ = (options: { control: readonly string[]; trustAnchors: string }) =>
    startMeshSidecar(t, {
      identity: idOf('basket'),
      name: 'lost',
      token: mesh.token('basket'),
      ready: false,
      ...options,
    });
  const stranger = await join_({ control: mesh.control.addresses, trustAnchors: other.root });
  await stranger.process.said(
    /not in the mesh yet, and tried again error=".*" mend="--trust-anchors holds other roots/,
  );
  const lonely = await join_({
    control: [`127.0.0.1:${await closedPort()}`],
    trustAnchors: join(mesh.folder, 'roots.pem'),
  });
  await lonely.process.said(/not in the mesh yet.* mend="--control is where mesh control listens"/);
  t.notRegex(lonely.process.stderr(), /what is known goes on/);
  const { port } = await httpOrigin(t);
  const taken = await startMeshSidecar(t, {
    identity: idOf('basket'),
    name: 'taken',
    token: mesh.token('basket'),
    control: mesh.control.addresses,
    trustAnchors: join(mesh.folder, 'roots.pem'),
    inbound: port,
    ready: false,
  });
  await taken.process.said(
    /not applied, and nothing is served yet error=".*inbound can't listen on .* in use/,
  );
});

test('a state folder that can not be made is told at once, and one that can is for its owner alone', async (t) => {
  const file = written(t, 'mesh.yaml', 'services: { web: { port: 3000 } }\n');
  const folder = dirname(file);
  const keptIn = (place: string) => ['control', file, '--listen', '127.0.0.1:0', '--state-dir', place];
  // The first takes no folders, though it is one.
  for (const place of ['/proc/none', '/proc/none/state', join(file, 'state')]) {
    const { code, stderr } = await type(folder, ...keptIn(place));
    t.is(code, 64);
    t.regex(stderr, /^error: the state folder can't be made: E.*; --state-dir names another one\n$/);
  }
  const open = join(folder, 'open');
  mkdirSync(open);
  chmodSync(open, 0o755);
  const refused = await type(folder, ...keptIn(open));
  t.is(refused.code, 64);
  t.regex(refused.stderr, /open is open to others: take it .*chown; --state-dir names another one\n$/);
  // It may be made, and what belongs in it can't.
  const full = join(folder, 'full');
  mkdirSync(join(full, 'roots.pem', 'x'), { recursive: true });
  chmodSync(full, 0o700);
  const { code, stderr } = await type(folder, ...keptIn(full));
  t.is(code, 1);
  t.true(stderr.startsWith(`error: ${join(full, 'roots.pem')} can't be written: E`), stderr);
  const state = join(folder, 'some', 'state');
  const control = stay(t, folder, ...keptIn(state));
  await printed(control, /the control plane listens on/);
  for (const made of [state, dirname(state)]) t.is(statSync(made).mode & 0o777, 0o700);
});
