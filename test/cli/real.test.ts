// Does the command do for a user what its help says, with the real core and real traffic?

import { copyFileSync, existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Authority } from '../support/certificates.js';
import { pipe, temporaryFolder } from '../support/files.js';
import { hasGroups, newGroup } from '../support/groups.js';
import { httpOrigin, request } from '../support/http.js';
import { type Running, must, run, start } from '../support/processes.js';
import { cleanEnvironment, sidecarFile } from '../support/sidecar.js';
import { until, within } from '../support/wait.js';

const main = join(process.cwd(), 'dist', 'cli', 'main.js');

/** Starts the command; what it says on standard output is looked at with `said`. */
function mesh(t: ExecutionContext, args: string[], env: Record<string, string> = {}): Running {
  return start(t, process.execPath, [main, ...args], { env: { ...cleanEnvironment(), ...env } });
}

async function said(running: Running, pattern: RegExp): Promise<string> {
  return until(`it says ${pattern}`, () => {
    const text = running.stdout().toString();
    const match = pattern.exec(text);
    if (!match && running.ended) throw new Error(`it ended, and said:\n${text}\n${running.stderr()}`);
    return match ? (match[1] ?? match[0]) : undefined;
  });
}

async function ended(t: ExecutionContext, running: Running): Promise<void> {
  running.signal('SIGINT');
  t.deepEqual(await within('its end', running.exit), { code: 0, signal: null });
  t.true(running.stdout().toString().endsWith('draining; a second signal ends at once\nclosed\n'));
}

const testOfQuota = availableParallelism() > 1 && hasGroups('cpu') ? test : test.skip;

test('mesh run from one address to another, told by variables', async (t) => {
  const origin = await httpOrigin(t);
  const running = mesh(t, ['run', '--lame-duck', '0s'], {
    MESH_LISTEN: '127.0.0.1:0',
    MESH_TO: origin.address,
    MESH_ADMIN: 'off',
    MESH_CONFIG: '',
  });
  const port = Number(await said(running, /^main: listening on 127\.0\.0\.1:(\d+)$/m));
  t.is((await request(port)).status, 200);
  await ended(t, running);
  t.is(running.stderr(), '');
});

test('mesh run -c follows its file: changes go live, mistakes are told and change nothing', async (t) => {
  const file = join(temporaryFolder(t), 'mesh.yaml');
  const write = (body: string, more = ''): void =>
    writeFileSync(
      file,
      `listeners:
  - name: web
    address: 127.0.0.1:0
    routes:
      - { respond: { status: 200, body: ${body} } }
${more}`,
    );
  write('first');
  const running = mesh(t, ['run', '-c', file, '--admin', 'off', '--lame-duck', '0s']);
  const port = Number(await said(running, /^web: listening on 127\.0\.0\.1:(\d+)$/m));
  const body = async (): Promise<string> => (await request(port)).text;
  t.is(await body(), 'first');

  write('second');
  await said(running, /^applied: changed route table web$/m);
  t.is(await body(), 'second');

  write('third', '  - { name: side, address: 127.0.0.1:0, to: nowhere }\n');
  await running.said(/mesh\.yaml:6:\d+: error: listeners\[1\]\.to: there is no cluster `nowhere`/);
  await running.said(/not applied: the last good configuration keeps serving/);
  t.is(await body(), 'second');

  write('fourth');
  await said(running, /(?:^applied: .*\n[^]*){2}/m);
  t.is(await body(), 'fourth');
  await ended(t, running);
});

test('mesh run -c reads a pipe once', async (t) => {
  const file = pipe(t);
  const running = mesh(t, ['run', '-c', file, '--admin', 'off', '--lame-duck', '0s']);
  await writeFile(file, "listeners: [{ name: web, address: '127.0.0.1:0', routes: [{ respond: 204 }] }]\n");
  const port = Number(await said(running, /^web: listening on 127\.0\.0\.1:(\d+)$/m));
  t.is((await request(port)).status, 204);
  await ended(t, running);
  t.is(running.stderr(), '');
});

test('mesh run: what was refused for files that were not there goes live once they are, and by SIGHUP', async (t) => {
  const folder = temporaryFolder(t);
  const file = join(folder, 'mesh.yaml');
  const plain = "listeners:\n  - { name: web, address: '127.0.0.1:0', routes: [{ respond: 204 }] }\n";
  writeFileSync(file, plain);
  const running = mesh(t, ['run', '-c', file, '--admin', 'off', '--lame-duck', '0s']);
  await said(running, /^web: listening on/m);
  const tls = 'tls: { certificate: new.crt, key: new.key }';
  writeFileSync(
    file,
    `${plain}  - { name: safe, address: '127.0.0.1:0', ${tls}, routes: [{ respond: 204 }] }\n`,
  );
  await running.said(/new\.key. can't be read[^]*not applied: the last good configuration keeps serving/);

  const authority = await Authority.create(t);
  const { certificate, key } = await authority.sign({ names: ['web.test'] });
  copyFileSync(certificate, join(folder, 'new.crt'));
  copyFileSync(key, join(folder, 'new.key'));
  await said(running, /^applied: .*added listener safe/m);
  running.signal('SIGHUP');
  await said(running, /^applied: nothing that matters$/m);
  await ended(t, running);
});

test('mesh run refuses what it can not serve with one clear line each, and 64', async (t) => {
  const folder = temporaryFolder(t);
  const origin = await httpOrigin(t);
  const env = cleanEnvironment();
  const inUse = await run(
    process.execPath,
    [main, 'run', '--listen', origin.address, '--to', '127.0.0.1:1'],
    { env },
  );
  t.is(inUse.code, 64);
  t.regex(inUse.stderr, /^error: listener main: cannot listen on .*: the address is in use; .*\n$/);

  const file = join(folder, 'mesh.yaml');
  writeFileSync(
    file,
    "listeners:\n  - { address: ':0', to: '127.0.0.1:1', tls: { certificate: none.crt, key: none.key } }\n",
  );
  const noFiles = await run(process.execPath, [main, 'run', '-c', file, '--admin', 'off'], { env });
  t.is(noFiles.code, 64);
  for (const name of ['none.crt', 'none.key']) {
    t.regex(noFiles.stderr, new RegExp(String.raw`mesh\.yaml:2:\d+: error: .*/${name}. can't be read`));
  }
  const json = await run(process.execPath, [main, 'run', '-c', file, '--admin', 'off', '-o', 'json'], {
    env,
  });
  t.is(json.code, 64);
  const { error } = JSON.parse(json.stdout.toString()) as { error: { code: string; issues: object[] } };
  t.is(error.code, 'MESH_CERTIFICATE_INVALID');
  t.is(error.issues.length, 2);
});

test('mesh stats tells of a running proxy, to people and to programs', async (t) => {
  const origin = await httpOrigin(t);
  const where = `--listen 127.0.0.1:0 --to ${origin.address} --admin 127.0.0.1:0 --lame-duck 0s`;
  const running = mesh(t, ['run', ...where.split(' ')]);
  const admin = await said(running, /^admin: metrics on http:\/\/(\S+)\/metrics$/m);
  const port = Number(await said(running, /^main: listening on 127\.0\.0\.1:(\d+)$/m));
  for (let sent = 0; sent < 3; sent += 1) await request(port);
  const env = { ...cleanEnvironment(), MESH_ADMIN: admin };
  const row = new RegExp(String.raw`^main\t\*\t${origin.address}\thttp1\t3\t100\.00 %\t`, 'm');
  // A request is counted as a success a moment after its response.
  await until('all are counted', async () =>
    row.test(await must(process.execPath, [main, 'stats'], { env })),
  );
  const json = await must(process.execPath, [main, 'stats', '-o', 'json'], { env });
  const { routes } = JSON.parse(json) as { routes: { requests: number }[] };
  t.deepEqual(
    routes.map(({ requests }) => requests),
    [3],
  );
  await ended(t, running);
});

testOfQuota('mesh run takes as many data threads as its CPU quota grants', async (t) => {
  const group = newGroup(t, 'cpu', { 'cpu.cfs_period_us': 100_000, 'cpu.cfs_quota_us': 100_000 });
  const where = '--listen 127.0.0.1:0 --to 127.0.0.1:1 --admin 127.0.0.1:0 --lame-duck 0s';
  const enter = `echo $$ > "$0/cgroup.procs" && exec "$@"`;
  const args = ['-c', enter, group, process.execPath, main, 'run', ...where.split(' ')];
  const running = start(t, 'sh', args, { env: cleanEnvironment() });
  const admin = await said(running, /^admin: metrics on http:\/\/(\S+)\/metrics$/m);
  const env = { ...cleanEnvironment(), MESH_ADMIN: admin };
  t.regex(await must(process.execPath, [main, 'stats'], { env }), /^mesh \S+, 1 data threads,/);
  await ended(t, running);
});

test('mesh compile makes what mesh-sidecar runs', async (t) => {
  const folder = temporaryFolder(t);
  const [file, resources] = [join(folder, 'mesh.yaml'), join(folder, 'resources.json')];
  writeFileSync(file, "listeners:\n  - { name: web, address: '127.0.0.1:0', routes: [{ respond: 204 }] }\n");
  const env = cleanEnvironment();
  writeFileSync(resources, await must(process.execPath, [main, 'compile', file], { env }));
  t.regex(readFileSync(resources, 'utf8'), /^\{\n {2}"listeners"/);
  await must(sidecarFile(), ['--config', resources, '--check'], { env });
});

test('mesh run --check looks at the files too, and makes none', async (t) => {
  const folder = temporaryFolder(t);
  const file = join(folder, 'mesh.yaml');
  const listener = {
    address: ':0',
    to: '127.0.0.1:1',
    tls: { certificate: 'missing.crt', key: 'missing.key' },
    accessLog: { path: 'access.log' },
  };
  writeFileSync(file, JSON.stringify({ listeners: [listener] }));
  const args = [main, 'run', '-c', file, '--check'];
  const { code, stderr } = await run(process.execPath, args, { env: cleanEnvironment() });
  t.is(code, 64);
  t.regex(stderr, /mesh\.yaml:1:\d+: error: .*missing\.crt/);
  t.deepEqual(readdirSync(folder), ['mesh.yaml']);
});

for (const command of ['', 'run', 'validate', 'compile', 'stats', 'version']) {
  test(`mesh ${command} --help has examples`, async (t) => {
    const help = await must(process.execPath, [main, ...(command ? [command] : []), '--help']);
    t.regex(help, /^Usage: mesh/);
    t.regex(help, /\nExamples:\n {2}mesh /);
    if (command) t.regex(help, /-o, --output <format>/);
  });
}

test('mesh validate opens the files as a start does; --no-files is for other machines', async (t) => {
  const file = join(temporaryFolder(t), 'mesh.yaml');
  const listener = { address: ':0', to: '127.0.0.1:1', tls: { certificate: 'no.crt', key: 'no.key' } };
  writeFileSync(file, JSON.stringify({ listeners: [listener] }));
  const env = cleanEnvironment();
  const { code, stderr } = await run(process.execPath, [main, 'validate', file], { env });
  t.is(code, 64);
  t.regex(stderr, /mesh\.yaml:1:\d+: error: .*no\.crt/);
  t.regex(await must(process.execPath, [main, 'validate', file, '--no-files'], { env }), /ok, 1 listener/);
});

test('mesh run serves on when nobody reads what it says, applies changes, and drains', async (t) => {
  const [one, two] = await Promise.all([
    httpOrigin(t, (_, response) => response.end('one')),
    httpOrigin(t, (_, response) => response.end('two')),
  ]);
  const file = join(temporaryFolder(t), 'mesh.yaml');
  const write = (to: string): void =>
    writeFileSync(file, JSON.stringify({ lameDuck: '0s', listeners: [{ address: '127.0.0.1:0', to }] }));
  write(one.address);
  const running = mesh(t, ['run', '-c', file, '--admin', 'off']);
  const port = Number(await said(running, /listening on 127\.0\.0\.1:(\d+)$/m));
  t.is((await request(port)).text, 'one');
  running.child.stdout.destroy();
  running.child.stderr.destroy();
  write(two.address);
  await until('the change is live', async () => (await request(port)).text === 'two');
  // Both what it says of changes and what it says of mistakes find no reader.
  writeFileSync(file, 'listeners: none\n');
  write(one.address);
  await until('the next change is live', async () => (await request(port)).text === 'one');
  running.signal('SIGTERM');
  t.deepEqual(await within('its end', running.exit), { code: 0, signal: null });
});

test('mesh run: SIGTERM and POST /drain go by the lame duck time that is applied now', async (t) => {
  const origin = await httpOrigin(t);
  const file = join(temporaryFolder(t), 'mesh.yaml');
  const write = (lameDuck: string): void =>
    writeFileSync(
      file,
      JSON.stringify({ lameDuck, listeners: [{ name: 'web', address: '127.0.0.1:0', to: origin.address }] }),
    );
  for (const how of ['signal', 'admin'] as const) {
    write('1h');
    const running = mesh(t, ['run', '-c', file, '--admin', '127.0.0.1:0']);
    const admin = Number(await said(running, /metrics on http:\/\/127\.0\.0\.1:(\d+)\/metrics$/m));
    write('0s');
    await said(running, /^applied: changed setting lameDuck$/m);
    if (how === 'signal') running.signal('SIGTERM');
    else t.is((await request(admin, { method: 'POST', path: '/drain' })).status, 202);
    t.deepEqual(await within('its end', running.exit), { code: 0, signal: null });
  }
});

test('mesh run: configurations that could not be read are counted as refused', async (t) => {
  const origin = await httpOrigin(t);
  const file = join(temporaryFolder(t), 'mesh.yaml');
  const good = JSON.stringify({
    lameDuck: '0s',
    listeners: [{ address: '127.0.0.1:0', to: origin.address }],
  });
  writeFileSync(file, good);
  const running = mesh(t, ['run', '-c', file, '--admin', '127.0.0.1:0']);
  const admin = Number(await said(running, /metrics on http:\/\/127\.0\.0\.1:(\d+)\/metrics$/m));
  writeFileSync(file, 'listeners: none\n');
  await until('it is refused', () => running.stderr().includes('not applied'));
  const { text } = await request(admin, { path: '/metrics' });
  t.regex(text, /^mesh_config_updates_total\{result="refused"\} [1-9]/m);
});

test('mesh run: where the access log is standard output, what it says goes to standard error', async (t) => {
  const origin = await httpOrigin(t);
  const env = { MESH_LAME_DUCK: '0s', MESH_ADMIN: 'off' };
  const args = ['run', '--listen', '127.0.0.1:0', '--to', origin.address, '--access-log', '-'];
  const running = mesh(t, args, env);
  const port = await until(
    'it listens',
    () => /listening on 127\.0\.0\.1:(\d+)$/m.exec(running.stderr())?.[1],
  );
  t.is((await request(Number(port))).status, 200);
  running.signal('SIGTERM');
  t.deepEqual(await within('its end', running.exit), { code: 0, signal: null });
  const lines = running.stdout().toString().trim().split('\n');
  t.is(lines.length, 1);
  t.notThrows(() => JSON.parse(lines[0] ?? '') as unknown);
  t.regex(running.stderr(), /^draining;.*\nclosed\n$/m);
});

test('output that finds no room is told in one line, and 1', async (t) => {
  const full = '/dev/full';
  if (!existsSync(full)) return void t.pass('this system has no such device');
  const file = join(temporaryFolder(t), 'mesh.yaml');
  writeFileSync(file, 'listeners: []\n');
  const told = async (...args: string[]) =>
    run('/bin/sh', ['-c', `exec "$0" "$@" > ${full}`, process.execPath, main, ...args], {
      env: cleanEnvironment(),
    });
  for (const args of [
    ['validate', file],
    ['compile', file],
    ['--help'],
    ['validate', `${file}x`, '-o', 'json'],
  ]) {
    const { code, stderr } = await told(...args);
    t.is(code, 1, args.join(' '));
    t.regex(stderr, /^error: standard output can't be written: ENOSPC.*\n$/);
  }
  const { code } = await run(
    '/bin/sh',
    ['-c', `exec "$0" "$@" 2> ${full}`, process.execPath, main, 'nothing'],
    {
      env: cleanEnvironment(),
    },
  );
  t.is(code, 1);
});
