// Does `mesh run` start, follow its file, drain and end as it says?

import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { ConfigError, ListenError, MeshError, StateError } from '../../src/errors.js';
import { temporaryFolder } from '../support/files.js';
import { until } from '../support/wait.js';
import { FakeProxy, FakeWorld } from './world.js';

const PAIR = ['--listen', '127.0.0.1:8080', '--to', '127.0.0.1:3000'];

function configFile(t: ExecutionContext, text: string): string {
  const file = join(temporaryFolder(t), 'mesh.yaml');
  writeFileSync(file, text);
  return file;
}

/** The only proxy of a world. */
function proxyOf(world: FakeWorld): FakeProxy {
  const [proxy] = world.proxies;
  if (!proxy) throw new Error('nothing runs');
  return proxy;
}

test.serial('from one address to another: everything goes there, a signal drains', async (t) => {
  const world = new FakeWorld();
  const ended = world.run('run', ...PAIR);
  await world.said('metrics on');
  const proxy = proxyOf(world);
  t.is(world.out, 'main: listening on 127.0.0.1:8080\nadmin: metrics on http://127.0.0.1:4191/metrics\n');
  const { listeners, clusters } = proxy.config.compiled.resources;
  t.deepEqual(listeners[0]?.tcp, [{ cluster: '127.0.0.1:3000' }]);
  t.is(clusters.length, 1);

  world.signals.emit('SIGTERM');
  t.deepEqual(proxy.drained, { lameDuckMs: 3000 });
  proxy.emit('close');
  const { code, stdout, stderr } = await ended;
  t.is(code, 0);
  t.true(stdout.endsWith('draining; a second signal ends at once\nclosed\n'));
  t.is(stderr, '');
  t.deepEqual(world.signals.eventNames(), []);
});

test.serial('a second signal ends at once', async (t) => {
  const world = new FakeWorld();
  const ended = world.run('run', ...PAIR);
  await world.said('listening');
  world.signals.emit('SIGINT');
  world.signals.emit('SIGINT');
  t.is((await ended).code, 1);
  t.deepEqual(proxyOf(world).calls.slice(0, 3), ['listen', 'drain', 'close']);
});

test.serial(
  'SIGHUP looks at certificates, SIGUSR1 opens logs anew; neither matters when nothing listens',
  async (t) => {
    const world = new FakeWorld();
    const ended = world.run('run', ...PAIR, '--dns-server', '10.0.0.53, [::1]:5353');
    await world.said('listening');
    const proxy = proxyOf(world);
    t.deepEqual(proxy.options?.dnsServers, ['10.0.0.53', '[::1]:5353']);
    world.signals.emit('SIGHUP');
    world.signals.emit('SIGUSR1');
    t.deepEqual(proxy.calls, ['listen', 'reloadFiles', 'reopenLogs']);
    world.signals.emit('SIGTERM');
    proxy.listening = false;
    world.signals.emit('SIGHUP');
    world.signals.emit('SIGUSR1');
    proxy.emit('close');
    t.is((await ended).code, 0);
    t.deepEqual(proxy.calls.slice(2), ['reopenLogs', 'drain', 'close']);
  },
);

test.serial('options win over the configuration, and that over the defaults', async (t) => {
  const start = async (text: string, ...args: string[]): Promise<FakeProxy> => {
    const world = new FakeWorld();
    const ended = world.run('run', '-c', configFile(t, text), ...args);
    await world.said('listening');
    world.signals.emit('SIGTERM');
    proxyOf(world).emit('close');
    await ended;
    return proxyOf(world);
  };
  const text = 'listeners: [{ address: ":0", to: "localhost:1" }]\n';
  const plain = await start(text);
  t.is(plain.options?.admin, '127.0.0.1:4191');
  t.is(plain.options?.threads, undefined);
  const configured = await start(`${text}admin: 127.0.0.1:9999\nlameDuck: 0s\nthreads: 2\n`);
  t.is(configured.options?.admin, '127.0.0.1:9999');
  t.is(configured.config.compiled.settings.threads, 2);
  t.deepEqual(configured.drained, { lameDuckMs: 0 });
  const told = await start(`${text}admin: 127.0.0.1:9999\n`, '--admin', 'off', '--threads', '7');
  t.is(told.options?.admin, false);
  t.is(told.options?.threads, 7);
  const ducks = await start(`${text}lameDuck: 9s\n`, '--lame-duck', '250ms');
  t.deepEqual(ducks.drained, { lameDuckMs: 250 });
});

test.serial('--check says whether it would run, and runs nothing', async (t) => {
  const file = configFile(t, "listeners: [{ address: ':0', to: 'localhost:1' }]\n");
  const good = new FakeWorld();
  t.deepEqual(await good.run('run', '-c', file, '--check'), {
    code: 0,
    stdout: 'the configuration is valid\n',
    stderr: '',
  });
  const bad = new FakeWorld();
  bad.issues = [{ path: 'listeners[0].address', code: 'bad_address', message: 'is no good' }];
  const { code, stderr } = await bad.run('run', '-c', file, '--check');
  t.is(code, 64);
  t.regex(stderr, /listeners\[0\]\.address: is no good/);
  t.is(good.proxies.length + bad.proxies.length, 0);
});

test.serial('--access-log goes to the one listener', async (t) => {
  for (const [path, expected] of [
    ['-', {}],
    ['/var/log/mesh.log', { path: '/var/log/mesh.log' }],
  ] as const) {
    const world = new FakeWorld();
    const ended = world.run('run', ...PAIR, '--access-log', path);
    await world.said('listening');
    world.signals.emit('SIGTERM');
    proxyOf(world).emit('close');
    await ended;
    t.deepEqual(proxyOf(world).config.compiled.resources.listeners[0]?.accessLog, expected);
  }
});

test.serial(
  'the file is followed: changes are applied, what is refused is told and changes nothing',
  async (t) => {
    const text = (clusters: string): string =>
      `listeners: [{ name: web, address: ':0', to: api }]\nclusters:\n  api: { endpoints: [127.0.0.1:1] }\n${clusters}`;
    const file = configFile(t, text(''));
    const world = new FakeWorld();
    const ended = world.run('run', '-c', file);
    await world.said('listening');
    const proxy = proxyOf(world);

    writeFileSync(file, text('  more: { dns: more.test:80 }\n'));
    await world.said('applied: added cluster more\n');
    t.is(proxy.applied.length, 1);

    writeFileSync(file, text('  more: { dns: more.test }\n'));
    // A look that falls between the two steps of a writer is told before.
    await world.said('mesh.yaml:4:16: error: clusters.more.dns: expected a DNS name and port');
    await world.said('not applied: the last good configuration keeps serving\n');
    t.is(proxy.applied.length, 1);

    FakeProxy.refusal = new ConfigError([
      { code: 'unknown_reference', field: 'listeners[0].to', message: 'there is no cluster `api`' },
    ]);
    world.err = '';
    writeFileSync(file, text('  other: { dns: other.test:80 }\n'));
    await world.said('there is no cluster `api`');
    await world.said('keeps serving');

    // What it named is there now: the file is the same, and a signal applies it.
    world.signals.emit('SIGHUP');
    await world.said('applied: added cluster other, removed cluster more\n');
    t.is(proxy.applied.length, 2);
    // Applied again though nothing changed, and refused again though it was told before.
    world.signals.emit('SIGHUP');
    await world.said('applied: nothing that matters\n');
    FakeProxy.refusal = new ConfigError([
      { code: 'unreadable', field: 'listeners[0].tls', message: 'is gone' },
    ]);
    world.err = '';
    world.signals.emit('SIGHUP');
    await world.said('is gone');
    await world.said('keeps serving');
    t.is(proxy.applied.length, 3);

    // What was refused is not the base of the next comparison.
    writeFileSync(file, `${text('')}admin: off\n`);
    await world.said('applied: removed cluster other\nadmin changes with the next start\n');
    t.is(proxy.applied.length, 4);
    writeFileSync(file, `${text('  more: { dns: more.test:80 }\n')}admin: off\nthreads: 3\n`);
    await world.said('applied: added cluster more\nadmin and threads change with the next start\n');
    // What runs, by the default.
    writeFileSync(file, `${text('')}admin: 127.0.0.1:4191\n`);
    await world.said('applied: removed cluster more\n');
    t.regex(world.out, /removed cluster more\n$/);

    world.signals.emit('SIGHUP');
    world.signals.emit('SIGTERM');
    proxy.emit('close');
    t.is((await ended).code, 0);
  },
);

test.serial('what is refused for an address in use is tried again, and told once', async (t) => {
  const text = "listeners: [{ name: web, address: ':0', to: 'localhost:1' }]\n";
  const file = configFile(t, text);
  const world = new FakeWorld();
  const ended = world.run('run', '-c', file);
  await world.said('listening');
  const proxy = proxyOf(world);
  const tries = async (number: number): Promise<unknown> =>
    await until('it is tried', () => proxy.calls.filter((call) => call === 'apply').length >= number);
  const inUse = new ListenError('EADDRINUSE', 'web', ':1');
  FakeProxy.refusal = inUse;
  writeFileSync(`${file}.new`, text.replace(':0', ':1'));
  renameSync(`${file}.new`, file);
  await tries(1);
  FakeProxy.refusal = inUse;
  await tries(2);
  await world.said('applied: changed listener web\n');
  t.is(world.err.split('the address is in use').length, 2);
  t.is(world.err.split('keeps serving').length, 2);
  world.signals.emit('SIGTERM');
  proxy.emit('close');
  t.is((await ended).code, 0);
});

test.serial('-o json says the same, one object a line', async (t) => {
  const file = configFile(t, "listeners: [{ name: web, address: ':0', to: 'localhost:1' }]\n");
  const world = new FakeWorld();
  const ended = world.run('run', '-c', file, '-o', 'json', '--admin', 'off');
  await world.said('listening');
  writeFileSync(file, 'listeners: []\nthreads: none\n');
  await world.said('refused');
  writeFileSync(file, 'listeners: []\n');
  await world.said('applied');
  proxyOf(world).emit('error', new ListenError('EADDRINUSE', 'web', ':0'));
  world.signals.emit('SIGTERM');
  proxyOf(world).emit('close');
  const { stdout, stderr } = await ended;
  const events = stdout
    .trimEnd()
    .split('\n')
    .map(
      (line) =>
        JSON.parse(line) as {
          event: string;
          error?: { code: string; issues?: { field: string }[] };
          changes?: unknown[];
        },
    )
    // A look may fall between the two steps of a writer.
    .filter(({ event, error }) => event !== 'refused' || error?.issues?.[0]?.field === 'threads');
  t.deepEqual(
    events.map(({ event }) => event),
    ['listening', 'refused', 'applied', 'error', 'draining', 'closed'],
  );
  t.is(events[1]?.error?.code, 'MESH_CONFIG_INVALID');
  t.true((events[2]?.changes?.length ?? 0) >= 3);
  t.is(events[3]?.error?.code, 'EADDRINUSE');
  t.is(stderr, '');
});

test.serial('a port in use ends with one clear line and 64', async (t) => {
  const world = new FakeWorld();
  FakeProxy.refusal = new ListenError('EADDRINUSE', 'main', '127.0.0.1:8080');
  const { code, stdout, stderr } = await world.run('run', ...PAIR);
  t.is(code, 64);
  t.is(stdout, '');
  t.regex(stderr, /^error: listener main: cannot listen on 127\.0\.0\.1:8080: the address is in use; .*\n$/);
  t.deepEqual(world.signals.eventNames(), []);
});

test.serial(
  'what fails while it runs is told, and the rest goes on; an end that nobody wished is a failure',
  async (t) => {
    const world = new FakeWorld();
    const ended = world.run('run', ...PAIR);
    await world.said('listening');
    proxyOf(world).emit('warning', new ListenError('EACCES', 'w', ':1'));
    proxyOf(world).emit('error', new Error('a defect'));
    await world.said('error: a defect\nthe rest keeps serving\n');
    proxyOf(world).emit('close');
    t.is((await ended).code, 1);
  },
);

test.serial('every wrong setting is told at once, and nothing starts', async (t) => {
  const world = new FakeWorld();
  const wrong = '--listen 80 --admin on --threads 0 --dns-server ns.test --lame-duck soon --log-level loud';
  const { code, stderr } = await world.run('run', ...wrong.split(' '));
  t.is(code, 64);
  t.is(stderr.split('\n').filter(Boolean).length, 7);
  for (const part of [
    '--to is missing',
    '--listen: expected an address',
    'write 127.0.0.1:80, or :80 for all addresses',
    '--admin: expected',
    '--threads: expected',
    '--dns-server: expected an IP address',
    '--lame-duck: expected a duration',
    '--log-level: expected error, warn, info, debug, received loud',
  ]) {
    t.true(stderr.includes(part), part);
  }
  t.is(world.proxies.length, 0);
});

for (const [what, args, message] of [
  ['nothing', [], /give -c FILE, or --listen ADDRESS and --to ADDRESS/],
  ['both', ['-c', 'x', ...PAIR], /-c FILE says all/],
  ['an access log of a file', ['-c', 'x', '--access-log', '-'], /--access-log goes with --listen/],
  ['a target that is none', [...PAIR.slice(0, 2), '--to', 'x'], /--to: expected .* site\.internal:80 or/],
  ...['3000', ':3000'].map(
    (port) =>
      [
        `a target that is a port: ${port}`,
        [...PAIR.slice(0, 2), '--to', port],
        /--to: expected .*; write localhost:3000$/m,
      ] as const,
  ),
  ['an unknown option', ['--lisen', 'x'], /unknown option '--lisen'[^]*Did you mean --listen/],
  [
    'a missing file',
    ['-c', 'no-such-file.yaml'],
    /^no-such-file\.yaml: error: there is no such file\n {2}looked for in /,
  ],
  ['a format that is none', ['-o', 'xml'], /Allowed choices are text, json/],
] as const) {
  test.serial(`${what}: 64 and what to do`, async (t) => {
    const world = new FakeWorld();
    const { code, stderr } = await world.run('run', ...args);
    t.is(code, 64);
    t.regex(stderr, message);
    t.is(world.proxies.length, 0);
  });
}

test.serial('a warning is told once: to people by the logger, to programs as an event', async (t) => {
  for (const [args, out] of [
    [[], ''],
    [['-o', 'json'], '{"event":"warning","error":{"code":"MESH_LOOKUP_FAILED","message":"no such name"}}\n'],
  ] as const) {
    const world = new FakeWorld();
    const ended = world.run('run', ...PAIR, ...args);
    await world.said('listening');
    world.out = '';
    proxyOf(world).emit('warning', new MeshError('MESH_LOOKUP_FAILED', 'no such name'));
    t.is(world.out, out);
    t.is(world.err, '');
    world.signals.emit('SIGTERM');
    proxyOf(world).emit('close');
    await ended;
  }
});

test.serial('a change that the end overtakes is not told as refused; one that is, is counted', async (t) => {
  const text = "listeners: [{ address: ':0', to: 'localhost:1' }]\n";
  const file = configFile(t, text);
  const world = new FakeWorld();
  const ended = world.run('run', '-c', file);
  await world.said('listening');
  const proxy = proxyOf(world);
  writeFileSync(file, 'listeners: none\n');
  await world.said('not applied');
  t.true(proxy.refused > 0);
  world.err = '';
  let overtaken = (): void => {};
  proxy.apply = () =>
    new Promise((_, reject) => {
      proxy.calls.push('apply');
      overtaken = () => reject(new StateError('the proxy was closed'));
    });
  writeFileSync(file, `${text}threads: 1\n`);
  await until('it is being applied', () => proxy.calls.includes('apply'));
  world.signals.emit('SIGTERM');
  overtaken();
  proxy.emit('close');
  const { code, stderr } = await ended;
  t.deepEqual([code, stderr], [0, '']);
});
