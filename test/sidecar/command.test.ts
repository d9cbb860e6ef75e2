// Does a command live and end with its sidecar, and does nothing of it stay behind?

import test, { type ExecutionContext } from 'ava';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin, request } from '../support/http.js';
import { lives } from '../support/pids.js';
import { type Running, run, start } from '../support/processes.js';
import { cleanEnvironment, sidecarFile } from '../support/sidecar.js';
import { until } from '../support/wait.js';

/** A server that nobody asks: the proxy is ready without it. */
const NOWHERE = '127.0.0.1:9';

const environment = (): NodeJS.ProcessEnv => ({ ...cleanEnvironment(), MESH_ADMIN: 'off' });

const flags = (to = NOWHERE, lameDuck = '0s'): string[] => [
  '--listen',
  '127.0.0.1:0',
  '--to',
  to,
  '--lame-duck',
  lameDuck,
];

/** A sidecar that runs a command; its flags come first. */
function sidecarWith(t: ExecutionContext, given: readonly string[], command: readonly string[]): Running {
  return start(t, sidecarFile(), [...given, '--', ...command], { env: environment() });
}

/** Runs a command to its end. */
const toTheEnd = (command: readonly string[], given = flags()) =>
  run(sidecarFile(), [...given, '--', ...command], { env: environment() });

const gone = (...pids: number[]): Promise<boolean> =>
  until(`${pids.join(', ')} have gone`, () => !pids.some(lives));

/** The id that a script has written there. */
async function pidIn(file: string): Promise<number> {
  return until(`an id in ${file}`, () =>
    existsSync(file) && /^\d+\n$/.test(readFileSync(file, 'utf8'))
      ? Number(readFileSync(file, 'utf8'))
      : undefined,
  );
}

/**
 * A command with a child in its group and one that has left it, each with its id in a file. They pay no heed to
 * SIGTERM.
 */
function family(t: ExecutionContext): { command: string[]; pids: () => Promise<number[]> } {
  const folder = temporaryFolder(t);
  const file = (name: string): string => join(folder, name);
  const sleeper = (name: string): string => `trap '' TERM; echo $$ > ${file(name)}; sleep 600; sleep 600`;
  writeFileSync(file('near.sh'), sleeper('near'));
  writeFileSync(file('far.sh'), sleeper('far'));
  const script = `trap '' TERM; sh ${file('near.sh')} & setsid sh -c 'sh ${file('far.sh')} &' ; echo $$ > ${file('top')}; wait; sleep 600`;
  return {
    command: ['sh', '-c', script],
    pids: () => Promise.all(['top', 'near', 'far'].map((name) => pidIn(file(name)))),
  };
}

test("the exit code is the command's", async (t) => {
  for (const code of [0, 3, 255]) t.is((await toTheEnd(['sh', '-c', `exit ${code}`])).code, code);
});

test('a signal that ended the command is 128 and its number', async (t) => {
  t.is((await toTheEnd(['sh', '-c', 'kill -KILL $$'])).code, 137);
  t.is((await toTheEnd(['sh', '-c', 'kill -TERM $$'])).code, 143);
});

test("a command that can't be run has the codes of shells, and is named", async (t) => {
  const missing = await toTheEnd(['/no/such/command', 'x']);
  t.is(missing.code, 127);
  t.regex(missing.stderr, /\/no\/such\/command: No such file/);
  const folder = await toTheEnd(['/']);
  t.is(folder.code, 126);
  t.regex(folder.stderr, /\/: Permission denied/);
});

test('arguments, environment and standard streams arrive as they are', async (t) => {
  const { stdout, stderr, code } = await run(
    sidecarFile(),
    [
      ...flags(),
      '--',
      'sh',
      '-c',
      'cat; printf "%s|" "$GREETING" "$@"; echo told >&2',
      'name',
      'a b',
      '--',
      '--help',
    ],
    { env: { ...environment(), GREETING: 'hello' }, input: 'in|' },
  );
  t.is(code, 0, stderr);
  t.is(stdout.toString(), 'in|hello|a b|--|--help|');
  t.regex(stderr, /^told$/m);
});

test('the command has a group of its own', async (t) => {
  const { stdout } = await toTheEnd(['sh', '-c', 'echo $$ $(cut -d" " -f5 /proc/$$/stat)']);
  const [pid, group] = stdout.toString().trim().split(' ');
  t.truthy(pid);
  t.is(pid, group);
});

test('a border without a command is wrong usage', async (t) => {
  const { code, stderr } = await toTheEnd([]);
  t.is(code, 64);
  t.regex(stderr, /the command is missing/);
});

test("no command is started when the proxy can't serve", async (t) => {
  const origin = await httpOrigin(t, (_, response) => response.end());
  const taken = ['--listen', origin.address, '--to', NOWHERE];
  const { code, stdout } = await toTheEnd(['echo', 'started'], taken);
  t.is(code, 64);
  t.is(stdout.toString(), '');
});

test('SIGTERM: what is in flight is answered before the command hears of it', async (t) => {
  const held: ServerResponse[] = [];
  const origin = await httpOrigin(t, (_, response) => {
    // Only the first is in flight: those that ask whether the socket is closed may come before it is.
    if (held.length === 0) held.push(response);
    else response.end();
  });
  const sidecar = sidecarWith(t, flags(origin.address), [
    'sh',
    '-c',
    'trap "echo asked >&2; exit 7" TERM; echo up >&2; while :; do sleep 0.02; done',
  ]);
  const [, port] = await sidecar.said(/main listens on 127\.0\.0\.1:(\d+)/);
  await sidecar.said(/^up$/m);
  const answer = request(Number(port));
  await until('the request is at the server', () => held.length === 1);
  sidecar.signal('SIGTERM');
  await sidecar.said(/draining/);
  await until('the socket is closed', () =>
    request(Number(port)).then(
      () => false,
      (error: NodeJS.ErrnoException) => error.code === 'ECONNREFUSED',
    ),
  );
  t.notRegex(sidecar.stderr(), /^asked$/m);
  held[0]?.end('finished');
  t.is((await answer).text, 'finished');
  t.deepEqual(await sidecar.exit, { code: 7, signal: null });
  t.regex(sidecar.stderr(), /^asked$/m);
});

test('a command that does not end when asked is killed after its grace, with its family', async (t) => {
  const { command, pids } = family(t);
  const sidecar = sidecarWith(t, [...flags(), '--grace', '50ms'], command);
  const all = await pids();
  t.true(all.every(lives));
  sidecar.signal('SIGTERM');
  t.deepEqual(await sidecar.exit, { code: 137, signal: null });
  t.deepEqual(all.filter(lives), []);
});

test('a second signal ends the command and its family at once', async (t) => {
  const { command, pids } = family(t);
  const sidecar = sidecarWith(t, [...flags(NOWHERE, '1h'), '--grace', '1h'], command);
  const all = await pids();
  sidecar.signal('SIGTERM');
  await sidecar.said(/a second signal ends at once/);
  sidecar.signal('SIGTERM');
  t.deepEqual(await sidecar.exit, { code: 1, signal: null });
  t.deepEqual(all.filter(lives), []);
});

test('a second signal also ends a command that was asked to end', async (t) => {
  const script = 'trap "echo asked >&2" TERM; echo $$ >&2; while :; do sleep 0.02; done';
  const sidecar = sidecarWith(t, [...flags(), '--grace', '1h'], ['sh', '-c', script]);
  const [, pid] = await sidecar.said(/^(\d+)$/m);
  sidecar.signal('SIGTERM');
  await sidecar.said(/^asked$/m);
  sidecar.signal('SIGINT');
  t.is((await sidecar.exit).code, 1);
  t.false(lives(Number(pid)));
});

test('what a command leaves behind is ended before the sidecar goes', async (t) => {
  const file = join(temporaryFolder(t), 'left');
  const { code } = await toTheEnd(['sh', '-c', `setsid sleep 600 & echo $! > ${file}; exit 4`]);
  t.is(code, 4);
  t.false(lives(await pidIn(file)));
});

test('a command that has ended is not called any more, though what it left does not end', async (t) => {
  const file = join(temporaryFolder(t), 'left');
  const left = `trap '' TERM; echo $$ > ${file}; while :; do sleep 0.02; done`;
  const script = `sh -c "$0" & until [ -s ${file} ]; do sleep 0.02; done; exit 4`;
  const sidecar = sidecarWith(t, [...flags(), '--grace', '1h'], ['sh', '-c', script, left]);
  const [, port] = await sidecar.said(/main listens on 127\.0\.0\.1:(\d+)/);
  await sidecar.said(/the command has ended, and what it left is being ended: draining/);
  await until('the socket is closed', () =>
    request(Number(port)).then(
      () => false,
      (error: NodeJS.ErrnoException) => error.code === 'ECONNREFUSED',
    ),
  );
  const pid = await pidIn(file);
  t.true(lives(pid));
  sidecar.signal('SIGTERM');
  t.is((await sidecar.exit).code, 1);
  t.false(lives(pid));
});

test('a sidecar that is killed takes the command and its family along', async (t) => {
  const { command, pids } = family(t);
  const sidecar = sidecarWith(t, flags(), command);
  const all = await pids();
  sidecar.signal('SIGKILL');
  await sidecar.exit;
  t.true(await gone(...all));
});

test('with --with-parent, a parent that is killed takes all along', async (t) => {
  const { command, pids } = family(t);
  const script = `
    const { spawn } = require('node:child_process');
    const [file, ...args] = JSON.parse(process.argv[1]);
    const child = spawn(file, ['--with-parent', String(process.pid), ...args], { stdio: 'ignore' });
    console.error('sidecar ' + child.pid + '.');
    setInterval(() => {}, 1000);`;
  const line = JSON.stringify([sidecarFile(), ...flags(), '--', ...command]);
  const parent = start(t, process.execPath, ['-e', script, line], { env: environment() });
  const [, sidecar] = await parent.said(/sidecar (\d+)\./);
  const all = [...(await pids()), Number(sidecar)];
  t.true(all.every(lives));
  parent.signal('SIGKILL');
  await parent.exit;
  t.true(await gone(...all));
});

test('a parent that is not the parent is one that has gone', async (t) => {
  const { code, stderr } = await toTheEnd(['true'], [...flags(), '--with-parent', '1']);
  t.is(code, 1);
  t.regex(stderr, /--with-parent/);
});
