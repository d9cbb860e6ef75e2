// Do the commands that look and print say the right thing to people, pipes and programs?

import { spawn, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { meshProgram } from '../../src/cli/program.js';
import { temporaryFolder } from '../support/files.js';
import { FakeWorld, STATS } from './world.js';

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const corpus = join(process.cwd(), 'test', 'config', 'corpus');
const good = join(corpus, 'good', 'gateway.yaml');
const bad = join(corpus, 'bad', 'missing.yaml');

/** A server that answers as an admin server, or not; its address. */
async function admin(t: ExecutionContext, status: number, body: string, socket?: string): Promise<string> {
  const server = createServer((request, response) => {
    response.statusCode = request.url === '/stats' ? status : 404;
    response.end(body);
  });
  await new Promise<void>((resolve) => {
    if (socket === undefined) server.listen(0, '127.0.0.1', resolve);
    else server.listen(socket, resolve);
  });
  t.teardown(() => server.close());
  return socket === undefined ? `127.0.0.1:${(server.address() as AddressInfo).port}` : `unix:${socket}`;
}

test('validate: a good file is 0, with what is in it', async (t) => {
  const { code, stdout, stderr } = await new FakeWorld().run('validate', good);
  t.deepEqual([code, stderr], [0, '']);
  t.is(stdout, `${good}: ok, 1 listener, 3 routes, 3 clusters\n`);
});

test('validate: all files are checked, one bad one is 64', async (t) => {
  const { code, stdout, stderr } = await new FakeWorld().run('validate', bad, good);
  t.is(code, 64);
  t.regex(stdout, /gateway\.yaml: ok/);
  t.is(
    stderr,
    `${relative('', bad)}:3:5: error: listeners[0].address: missing: expected an address such as 127.0.0.1:8080, [::1]:8080, localhost:8080, :8080 or unix:/run/app.sock
  3 |   - name: web
    |     ^
`,
  );
});

test('validate: what the core finds is shown in the file', async (t) => {
  const world = new FakeWorld();
  world.issues = [
    {
      path: 'routeTables[0].virtualHosts[0].routes[0].action.to[0].cluster',
      code: 'unknown_reference',
      message: 'there is no cluster `api`',
    },
  ];
  const { code, stderr } = await world.run('validate', good);
  t.is(code, 64);
  t.regex(
    stderr,
    /gateway\.yaml:8:13: error: listeners\[0\]\.routes\[0\]\.to: there is no cluster `api`\n {2}8 \| {9}to: api\n/,
  );
});

test('validate -o json: an array with every issue', async (t) => {
  const { code, stdout, stderr } = await new FakeWorld().run('validate', good, bad, '-o', 'json');
  t.deepEqual([code, stderr], [64, '']);
  const results = JSON.parse(stdout) as {
    file: string;
    valid: boolean;
    issues: { line: number; field: string }[];
  }[];
  t.deepEqual(
    results.map(({ file, valid, issues }) => [
      file,
      valid,
      issues.map(({ line, field }) => `${line} ${field}`),
    ]),
    [
      [good, true, []],
      [bad, false, ['3 listeners[0].address']],
    ],
  );
});

test('compile: prints the resources, the same every time', async (t) => {
  const first = await new FakeWorld().run('compile', good);
  const second = await new FakeWorld().run('compile', good);
  t.deepEqual([first.code, first.stderr], [0, '']);
  t.is(first.stdout, second.stdout);
  const expected = JSON.parse(readFileSync(good.replace('.yaml', '.resources.json'), 'utf8')) as {
    routeTables: unknown;
  };
  const printed = JSON.parse(first.stdout) as { routeTables: unknown; settings?: unknown };
  t.deepEqual(printed.routeTables, expected.routeTables);
  t.deepEqual(Object.keys(printed), ['listeners', 'routeTables', 'clusters', 'endpoints']);
});

test('compile: what is no resource is told as flags of mesh-sidecar', async (t) => {
  for (const [written, flags] of [
    ['admin: off\nthreads: 2\nlameDuck: 1.5s\n', '--admin off --threads 2 --lame-duck 1.5s'],
    ['admin: 127.0.0.1:9000\n', '--admin 127.0.0.1:9000'],
  ] as const) {
    const file = join(temporaryFolder(t), 'mesh.yaml');
    writeFileSync(file, `listeners: [{ address: ':0', to: 'localhost:1' }]\n${written}`);
    const { code, stdout, stderr } = await new FakeWorld().run('compile', file);
    t.is(code, 0);
    t.is(stderr, `not in the resources; give mesh-sidecar ${flags}\n`);
    t.deepEqual(Object.keys(JSON.parse(stdout) as object), [
      'listeners',
      'routeTables',
      'clusters',
      'endpoints',
    ]);
  }
});

test('compile: a bad file prints nothing but its mistakes', async (t) => {
  const { code, stdout, stderr } = await new FakeWorld().run('compile', bad);
  t.deepEqual([code, stdout], [64, '']);
  t.regex(stderr, /listeners\[0\]\.address/);
  const json = await new FakeWorld().run('compile', bad, '-o', 'json');
  t.is(json.code, 64);
  t.is((JSON.parse(json.stdout) as { error: { code: string } }).error.code, 'MESH_CONFIG_INVALID');
});

test('stats: to a pipe, columns are parted by tabs', async (t) => {
  const address = await admin(t, 200, JSON.stringify(STATS));
  const { code, stdout } = await new FakeWorld().run('stats', '--admin', address);
  t.is(code, 0);
  t.is(
    stdout,
    `mesh 1.2.3, 2 data threads, 9.4 MB resident, 2.0 s CPU

LISTENER\tROUTE\tCLUSTER\tPROTOCOL\tREQUESTS\tSUCCESS\tP50\tP95\tP99
web\tapi\tapi\thttp1\t2000\t99.50 %\t0.42 ms\t3.50 ms\t120 ms
web\tidle\tapi\tgrpc\t0\t-\t-\t-\t-

CLUSTER\tENDPOINT\tSTATE\tIN FLIGHT\tREQUESTS
api\t127.0.0.1:3001\tavailable\t2\t2000
`,
  );
});

test('stats: to a terminal, aligned and in colours unless NO_COLOR says no', async (t) => {
  const address = await admin(t, 200, JSON.stringify(STATS));
  const terminal = async (env: Record<string, string>): Promise<string> => {
    const world = new FakeWorld();
    world.isTTY = true;
    Object.assign(world.env, env);
    return (await world.run('stats', '--admin', address)).stdout;
  };
  const coloured = await terminal({ TERM: 'xterm' });
  t.true(coloured.includes('\u001B['));
  for (const env of [{ NO_COLOR: '1' }, { TERM: 'dumb' }] as Record<string, string>[]) {
    const plain = await terminal(env);
    t.false(plain.includes('\u001B['));
    t.true(
      plain.includes('LISTENER  ROUTE  CLUSTER  PROTOCOL  REQUESTS  SUCCESS      P50      P95     P99\n'),
    );
    t.true(
      plain.includes('web       api    api      http1         2000  99.50 %  0.42 ms  3.50 ms  120 ms\n'),
    );
  }
});

test('stats -o json: what the proxy said', async (t) => {
  const address = await admin(t, 200, JSON.stringify(STATS));
  const { stdout } = await new FakeWorld().run('stats', '--admin', address, '-o', 'json');
  t.deepEqual(JSON.parse(stdout), STATS);
});

test('stats: over a Unix socket', async (t) => {
  const address = await admin(t, 200, JSON.stringify(STATS), join(temporaryFolder(t), 'admin.sock'));
  t.is((await new FakeWorld().run('stats', '--admin', address)).code, 0);
});

test('stats: where no proxy answers, 1 and what to do', async (t) => {
  const free = await admin(t, 200, '');
  const cases: [address: string, message: RegExp][] = [
    [await admin(t, 404, 'not found'), /it answered 404/],
    [await admin(t, 200, '<html>'), /the answer is not that of a proxy/],
    [await admin(t, 200, '[]'), /the answer is not that of a proxy/],
    [`unix:${join(temporaryFolder(t), 'none.sock')}`, /ENOENT/],
    [free, /the answer is not that of a proxy/],
  ];
  for (const [address, message] of cases) {
    const { code, stdout, stderr } = await new FakeWorld().run('stats', '--admin', address);
    t.deepEqual([code, stdout], [1, ''], address);
    t.regex(stderr, message);
    t.regex(stderr, /start a proxy with mesh run, or give its admin address with --admin\n$/);
  }
  const json = await new FakeWorld().run('stats', '--admin', free, '-o', 'json');
  t.deepEqual([json.code, json.stderr], [1, '']);
  t.is((JSON.parse(json.stdout) as { error: { code: string } }).error.code, 'MESH_FAILURE');
});

test('stats: an address that is none is 64', async (t) => {
  const { code, stderr } = await new FakeWorld().run('stats', '--admin', 'example.test');
  t.is(code, 64);
  t.regex(stderr, /--admin: expected an address/);
});

for (const [what, args, code] of [
  ['help', ['--help'], 0],
  ['help of a command', ['run', '--help'], 0],
  ['no command', [], 64],
  ['an unknown command', ['rum'], 64],
  ['a missing argument', ['validate'], 64],
] as const) {
  test(`${what} ends with ${code} and shows an example or what is wrong`, async (t) => {
    const ended = await new FakeWorld().run(...args);
    t.is(ended.code, code);
    t.regex(code === 0 ? ended.stdout : ended.stderr, /Examples:\n {2}mesh|^error: /m);
    t.is(code === 0 ? ended.stderr : ended.stdout, '');
  });
}

test('every command has a description and an example in its help, and says -o json', async (t) => {
  const { commands } = meshProgram(new FakeWorld(), () => {});
  t.true(commands.length > 10);
  for (const command of commands) {
    const name = command.name();
    t.not(command.description(), '', name);
    const help = (await new FakeWorld().run(name, '--help')).stdout;
    t.regex(help, new RegExp(`^ {2}mesh ${name}( |$)`, 'm'), name);
    // What `redirect print` prints is read by nft and iptables as it is; `on` and `off` print nothing.
    const forms = name === 'redirect' ? undefined : ['text', 'json'];
    t.deepEqual(command.options.find(({ long }) => long === '--output')?.argChoices, forms, name);
  }
});

test('the program: version, for people and programs', (t) => {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
  const mesh = (...args: string[]) => spawnSync(process.execPath, [main, ...args], { encoding: 'utf8' });
  t.is(
    mesh('version').stdout,
    `mesh ${version} (node ${process.version}, ${process.platform} ${process.arch})\n`,
  );
  t.is((JSON.parse(mesh('version', '-o', 'json').stdout) as { version: string }).version, version);
  t.is(mesh('--version').stdout, `${version}\n`);
  const wrong = mesh('run', '--threads', 'many');
  t.is(wrong.status, 64);
  t.is(wrong.stdout, '');
});

test('the program: settings come from the environment too', (t) => {
  const env = { ...process.env, MESH_LISTEN: '1', MESH_TO: 'x', MESH_ADMIN: 'y', MESH_THREADS: 'z' };
  const { status, stderr } = spawnSync(process.execPath, [main, 'run'], { encoding: 'utf8', env });
  t.is(status, 64);
  for (const variable of ['MESH_LISTEN', 'MESH_TO', 'MESH_ADMIN', 'MESH_THREADS'])
    t.true(stderr.includes(`${variable}: expected`), variable);
});

test('the program: a reader that has seen enough is no failure', async (t) => {
  const child = spawn(process.execPath, [main, 'version', '-o', 'json'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child.stdout.destroy();
  let err = '';
  child.stderr.on('data', (chunk: Buffer) => {
    err += chunk.toString();
  });
  const code = await new Promise((resolve) => {
    child.once('close', resolve);
  });
  t.deepEqual([code, err], [0, '']);
});

test('up: what only a control plane alone can do is refused in its place', async (t) => {
  const file = join(temporaryFolder(t), 'mesh.yaml');
  writeFileSync(file, 'services:\n  web: { run: x }\n  basket: { port: 3000 }\n');
  const { code, stderr } = await new FakeWorld().run('up', file);
  t.is(code, 64);
  t.regex(stderr, /mesh\.yaml:3:3: error: services\.basket: nothing says how to run it/);
  t.regex(stderr, /write run or address, or use mesh control/);
});

test('check: that there is no mesh is a finding, and how to start one', async (t) => {
  const socket = join(temporaryFolder(t), 'no.sock');
  const text = await new FakeWorld().run('check', '--socket', socket);
  t.is(text.code, 1);
  t.is(text.stderr, '');
  t.regex(
    text.stdout,
    /^error: no mesh answers at .*no\.sock: there is none .*ENOENT.*; start one with mesh up/,
  );
  const program = await new FakeWorld().run('check', '--socket', socket, '-o', 'json');
  t.is(program.code, 1);
  const [finding] = JSON.parse(program.stdout) as [{ level: string; what: string; mend: string }];
  t.is(finding.level, 'error');
  t.regex(finding.what, /^no mesh answers at .*ENOENT/);
  t.regex(finding.mend, /^start one with mesh up or mesh control/);
});

test('control and token: wrong usage is 64, and nobody to ask is 1', async (t) => {
  const file = join(temporaryFolder(t), 'mesh.yaml');
  writeFileSync(file, 'services: { basket: { port: 3000 } }\n');
  for (const [args, said] of [
    [['control', file, '--listen', 'nowhere'], /--listen: expected an address such as 127\.0\.0\.1:4144/],
    [
      ['control', file, '--listen', 'localhost:4144'],
      /--listen: expected an address such as 127\.0\.0\.1:4144, received localhost:4144/,
    ],
    [['token', 'basket', '--uses', '0'], /--uses: expected a number from 1, received 0/],
    [
      ['token', 'basket', '--ttl', 'soon'],
      /--ttl: expected a duration such as .* at most 720h .*, received soon/,
    ],
    [['token', 'basket', '--ttl', '721h'], /--ttl: expected .* at most 720h .*, received 721h/],
  ] as const) {
    const { code, stderr } = await new FakeWorld().run(...args);
    t.is(code, 64);
    t.regex(stderr, said);
  }
  const { code, stderr } = await new FakeWorld().run('token', 'basket', '--socket', `${file}.sock`);
  t.is(code, 1);
  t.regex(stderr, /no mesh answers at .*: there is none .*ENOENT.*; start one with mesh up or mesh control/);
});

test('stats: from another host it says so, and asks for no other proxy', async (t) => {
  const address = await admin(t, 403, 'forbidden');
  const { code, stderr } = await new FakeWorld().run('stats', '--admin', address);
  t.is(code, 1);
  t.regex(
    stderr,
    /it answers its own host alone; ask from there, by a loopback address or its Unix socket\n$/,
  );
});

for (const value of ['', 'off']) {
  test(`stats: MESH_ADMIN=${value} is none`, (t) => {
    const env = { PATH: process.env['PATH'], MESH_ADMIN: value };
    const { status, stderr } = spawnSync(process.execPath, [main, 'stats'], { env, encoding: 'utf8' });
    t.true(status === 0 || (status === 1 && /no statistics from 127\.0\.0\.1:4191/.test(stderr)), stderr);
  });
}

test('validate: files that are named are looked at, unless told not to', async (t) => {
  const world = new FakeWorld();
  world.loadCore = async () => ({
    ...(await FakeWorld.prototype.loadCore.call(world)),
    checkResources: () => [{ path: 'listeners[0].address', code: 'certificate', message: 'is missing' }],
  });
  t.is((await world.run('validate', good)).code, 64);
  t.regex(world.err, /is missing/);
  t.is((await world.run('validate', good, '--no-files')).code, 0);
  t.is((await world.run('compile', good)).code, 0);
});
