// Does the sidecar take its settings from flags and environment, and say in one line each what is wrong with them?

import test from 'ava';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkConfig } from '../../src/index.js';
import { Authority } from '../support/certificates.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin, request } from '../support/http.js';
import { start } from '../support/processes.js';
import { cleanEnvironment, sidecarFile } from '../support/sidecar.js';
import { tcpServer } from '../support/tcp.js';
import { Admin, fileWith, runSidecar } from './support.js';

/** Each flag with a value that the sidecar knows. The help is its table of them: these are what it reads by name. */
const known = new Set(
  Array.from(
    readFileSync('crates/sidecar/src/settings.rs', 'utf8').matchAll(
      /"(--(?!check"|help"|version")[a-z-]+)"/g,
    ),
    ([, flag = '']) => flag,
  ),
);

test('--help tells every setting with its variable; --version is that of the package', async (t) => {
  const help = await runSidecar(['--help']);
  t.deepEqual([help.code, help.stderr], [0, '']);
  t.true(known.size > 25);
  const told = Array.from(
    help.stdout.toString().matchAll(/^ {2}(--[a-z-]+) .*\b(MESH_[A-Z_]+)$/gm),
    ([, flag = '', variable]) => [flag, variable] as const,
  );
  t.deepEqual(told.map(([flag]) => flag).toSorted(), [...known].toSorted());
  for (const [flag, variable] of told) {
    t.is(variable, `MESH_${flag.slice(2).replaceAll('-', '_').toUpperCase()}`);
  }
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
  const said = await runSidecar(['--version']);
  t.deepEqual([said.code, said.stdout.toString()], [0, `mesh-sidecar ${version}\n`]);
});

test('a configuration or an empty file as --config: what makes resources of it', async (t) => {
  const file = join(temporaryFolder(t), 'mesh.yaml');
  const mend = '`mesh compile FILE > resources.json` makes it of a configuration';
  for (const [text, what] of [
    ['listeners: [{ address: ":1", to: "localhost:2" }]\n', 'this is no resources JSON'],
    ['', 'the file is empty, and no resources JSON'],
    ['\n', 'the file is empty, and no resources JSON'],
  ] as const) {
    writeFileSync(file, text);
    const { code, stderr } = await runSidecar(['--config', file]);
    t.is(code, 64);
    t.is(stderr, `mesh-sidecar: ${file}: ${what}; ${mend}\n`);
  }
  writeFileSync(file, '{ "listeners": [{ "adress": ":1" }] }');
  t.is(
    (await runSidecar(['--config', file])).stderr,
    `mesh-sidecar: ${file}:1:26: listeners[0].adress: there is no field \`adress\`; did you mean \`address\`?\n` +
      `mesh-sidecar: ${file}: where this is no resources JSON yet, ${mend}\n`,
  );
  writeFileSync(file, '{\n  "listeners": [\n');
  t.is(
    (await runSidecar(['--config', file])).stderr,
    `mesh-sidecar: ${file}:3:1: listeners: the text ends too early (expected \`]\`)\n`,
  );
  writeFileSync(file, '{ "listeners": nothing }');
  const { stderr } = await runSidecar(['--config', file]);
  t.true(stderr.startsWith(`mesh-sidecar: ${file}:1:`), stderr);
});

test('everything that is wrong is said at once, a line each, with 64', async (t) => {
  const flags = await runSidecar([
    '--listen=here',
    '--to=1.2.3.4',
    '--threads=0',
    '--lame-duck=soon',
    '--log-level=loud',
    '--log-format=xml',
    '--admin=nowhere',
    '--colour',
  ]);
  t.is(flags.code, 64);
  const lines = flags.stderr.trimEnd().split('\n');
  t.is(lines.length, 8, flags.stderr);
  t.true(lines.every((line) => /^mesh-sidecar: --[a-z-]+: /.test(line)));
  const env = await runSidecar([], {
    MESH_LISTEN: 'here',
    MESH_TO: 'there',
    MESH_THREADS: '1e3',
    MESH_LAME_DUCK: '-1s',
    MESH_ADMIN: '4191',
    MESH_LOG_LEVEL: 'INFO',
    MESH_LOG_FORMAT: 'yaml',
  });
  t.is(env.code, 64);
  t.is(env.stderr.trimEnd().split('\n').length, 7, env.stderr);
});

test('from one address to another, by flags or by environment', async (t) => {
  const origin = await httpOrigin(t, (_, response) => response.end('hello'));
  const ways: { args: string[]; env: Record<string, string> }[] = [
    { args: ['--listen=127.0.0.1:0', '--to', origin.address, '--admin', '127.0.0.1:0'], env: {} },
    {
      args: [],
      env: {
        MESH_LISTEN: '127.0.0.1:0',
        MESH_TO: origin.address,
        MESH_ADMIN: '127.0.0.1:0',
        MESH_THREADS: '2',
      },
    },
    // A flag wins over its variable.
    {
      args: ['--to', origin.address, '--admin', '127.0.0.1:0'],
      env: { MESH_LISTEN: '127.0.0.1:0', MESH_TO: '127.0.0.1:1', MESH_ADMIN: 'off', MESH_THREADS: '' },
    },
  ];
  for (const { args, env } of ways) {
    const proxy = start(t, sidecarFile(), [...args, '--lame-duck', '0s'], {
      env: { ...cleanEnvironment(), ...env },
    });
    const [, at = ''] = await proxy.said(/^mesh-sidecar: main listens on (\S+)$/m);
    const [, admin = ''] = await proxy.said(/^mesh-sidecar: admin listens on (\S+)$/m);
    t.is((await request(Number(at.split(':')[1]))).text, 'hello');
    t.is((await new Admin(admin).get('/ready')).status, 200);
    proxy.signal('SIGTERM');
    t.deepEqual(await proxy.exit, { code: 0, signal: null });
  }
});

test('--check looks at everything and serves nothing', async (t) => {
  const good = checkConfig({
    listeners: [{ address: '127.0.0.1:0', to: '127.0.0.1:1', accessLog: true }],
  }).toJson();
  const valid = await runSidecar(['--config', fileWith(t, good), '--check']);
  t.deepEqual([valid.code, valid.stdout.toString(), valid.stderr], [0, 'the configuration is valid\n', '']);
  const bad = await runSidecar([
    '--check',
    '--config',
    fileWith(t, '{"listeners": [{"nome": "a"}], "clusters": 1}'),
  ]);
  t.is(bad.code, 64);
  t.regex(bad.stderr, /resources\.json:.*nome/);
  const nothing = await runSidecar(['--check', '--config', join(temporaryFolder(t), 'none.json')]);
  t.is(nothing.code, 64);
  t.regex(nothing.stderr, /^mesh-sidecar: \S+none\.json: No such file or directory .*\n$/);
});

test('a port in use, of a listener and of the admin server: one line, 64', async (t) => {
  const taken = await tcpServer(t);
  const listener = await runSidecar(['--listen', taken.address, '--to', '127.0.0.1:1']);
  t.is(listener.code, 64);
  t.regex(
    listener.stderr,
    new RegExp(`^mesh-sidecar: listener main can't listen on ${taken.address}: Address already in use .*\n$`),
  );
  const admin = await runSidecar([
    '--listen',
    '127.0.0.1:0',
    '--to',
    '127.0.0.1:1',
    '--admin',
    taken.address,
  ]);
  t.is(admin.code, 64);
  t.regex(
    admin.stderr,
    new RegExp(`^mesh-sidecar: admin can't listen on ${taken.address}: .*--admin off\n$`),
  );
});

test('a missing certificate, a missing key and one of another certificate: one line each, 64', async (t) => {
  const authority = await Authority.create(t);
  const mine = await authority.sign({ names: ['a.test'] });
  const other = await authority.sign({ names: ['b.test'] });
  const none = join(temporaryFolder(t), 'none.pem');
  const cases = [
    [{ certificate: none, key: mine.key }, /none\.pem/],
    [{ certificate: mine.certificate, key: none }, /none\.pem/],
    [{ certificate: mine.certificate, key: other.key }, /key/],
  ] as const;
  for (const [tls, told] of cases) {
    const config = checkConfig({ listeners: [{ address: '127.0.0.1:0', tls, to: '127.0.0.1:1' }] });
    const file = fileWith(t, config.toJson());
    for (const args of [[], ['--check']]) {
      const said = await runSidecar(['--config', file, ...args]);
      t.is(said.code, 64, said.stderr);
      t.regex(said.stderr, /^mesh-sidecar: listeners\[0\]\.tls\.certificates\[0\].*\n$/);
      t.regex(said.stderr, told);
    }
  }
});
