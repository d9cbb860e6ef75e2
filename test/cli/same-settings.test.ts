// Does `mesh run` take what `mesh-sidecar` takes, by the same flags, variables and defaults?

import { join } from 'node:path';
import test from 'ava';
import { mistyped } from '../../src/cli/mistyped.js';
import { meshProgram } from '../../src/cli/program.js';
import { run, start } from '../support/processes.js';
import { cleanEnvironment, sidecarFile } from '../support/sidecar.js';
import { until } from '../support/wait.js';
import { FakeWorld } from './world.js';

/** Flags that one of them has alone, or that mean something else, and why. */
const EXCEPTIONS: { why: string; flags: readonly string[] }[] = [
  {
    why: 'a workload of a mesh is a sidecar: the process beside it is not asked to have Node',
    flags: (
      '--control --trust-anchors --identity --token-file --attestation --name --service --inbound --advertise ' +
      '--outbound --outbound-from --ports --forward --transparent --opaque-ports --egress --name-idle --state-dir'
    ).split(' '),
  },
  {
    why: 'only the sidecar starts a command (-- COMMAND), and may die with the process it is beside',
    flags: ['--grace', '--with-parent'],
  },
  { why: '`mesh run` is one of the commands that print tables, or JSON for programs', flags: ['--output'] },
  { why: 'of the whole command: `mesh --version`', flags: ['--version'] },
  {
    why: '`mesh run` tells by itself, on standard output, what `info` would say once more',
    flags: ['--log-level'],
  },
  {
    why: 'a gateway may take more than the one core that a sidecar leaves its neighbour',
    flags: ['--threads'],
  },
];

const NODE = process.execPath;
const RUN = [join('dist', 'cli', 'main.js'), 'run'];
const BOTH = [
  { name: 'mesh run', file: NODE, args: RUN },
  { name: 'mesh-sidecar', file: sidecarFile(), args: [] },
];

/** Each flag of a help page, with its variable and its default. */
function flagsOf(help: string): Map<string, { variable?: string; byDefault?: string }> {
  const [, ...parts] = help.split(/\n(?= {2}(?:-\w, )?--[a-z])/);
  return new Map(
    parts.map((part) => {
      const text = part.split('\n\n', 1)[0]?.replaceAll(/\s+/g, ' ') ?? '';
      return [
        /--[a-z-]+/.exec(text)?.[0] ?? '',
        { variable: /\bMESH_[A-Z_]+/.exec(text)?.[0], byDefault: /\(default:? ([^)]*)\)/.exec(text)?.[1] },
      ];
    }),
  );
}

test('the flags of both, with their variables and defaults, are the same', async (t) => {
  const env = cleanEnvironment();
  const command = await run(NODE, [...RUN, '--help'], { env });
  const sidecar = await run(sidecarFile(), ['--help'], { env });
  const [ours, theirs] = [command, sidecar].map(({ stdout }) => flagsOf(stdout.toString())) as [
    ReturnType<typeof flagsOf>,
    ReturnType<typeof flagsOf>,
  ];
  const exceptions = EXCEPTIONS.flatMap(({ flags }) => flags);
  for (const flag of exceptions) {
    t.notDeepEqual(ours.get(flag), theirs.get(flag), `${flag} is no exception any more`);
    ours.delete(flag);
    theirs.delete(flag);
  }
  t.true(ours.size > 8);
  t.deepEqual(
    [...ours].toSorted(([a], [b]) => (a < b ? -1 : 1)),
    [...theirs].toSorted(([a], [b]) => (a < b ? -1 : 1)),
  );
});

test('what a variable says wrong is told by its name, a mistyped one by the name that it has nearly', async (t) => {
  const variables = {
    MESH_LISTEN: 'here',
    MESH_TO: '127.0.0.1:1',
    MESH_THREADS: '0',
    MESH_LOG_LEVEL: 'loud',
    MESH_ACESS_LOG: '-',
    MESH_AMDIN: 'off',
    // What Kubernetes says of a service called `mesh`.
    MESH_SERVICE_HOST: '10.0.0.1',
    MESH_SERVICE_PORT: '80',
    MESH_PORT: 'tcp://10.0.0.1:80',
    MESH_PORT_80_TCP: 'tcp://10.0.0.1:80',
    MESH_PORT_80_TCP_ADDR: '10.0.0.1',
  };
  for (const { name, file, args } of BOTH) {
    const { code, stderr } = await run(file, [...args, '--to', '1.2.3.4'], {
      env: { ...cleanEnvironment(), ...variables },
    });
    t.is(code, 64);
    t.deepEqual(
      Array.from(
        stderr.toString().matchAll(/(?:^|[\s:])(MESH_\w+|--\w+): expected/g),
        ([, told]) => told,
      ).toSorted(),
      ['--to', 'MESH_LISTEN', 'MESH_LOG_LEVEL', 'MESH_THREADS'],
      stderr.toString(),
    );
    t.deepEqual(
      Array.from(stderr.toString().matchAll(/warning: (.*)/g), ([, told]) => told),
      [
        `MESH_ACESS_LOG is no variable of ${name}; did you mean MESH_ACCESS_LOG?`,
        `MESH_AMDIN is no variable of ${name}; did you mean MESH_ADMIN?`,
      ],
    );
  }
});

test('a mistyped variable keeps nobody from serving', async (t) => {
  for (const { name, file, args } of BOTH) {
    const flags = ['--listen', '127.0.0.1:0', '--to', '127.0.0.1:1', '--admin', 'off', '--lame-duck', '0s'];
    const env = { ...cleanEnvironment(), MESH_THREDS: '2', MESH_LOG_FORMAT: 'json' };
    const proxy = start(t, file, [...args, ...flags], { env });
    await proxy.said(new RegExp(`MESH_THREDS is no variable of ${name}; did you mean MESH_THREADS\\?`));
    await until('it listens', () => /listen/.test(proxy.stdout().toString() + proxy.stderr()));
    proxy.signal('SIGTERM');
    t.deepEqual(await proxy.exit, { code: 0, signal: null });
  }
});

test("no program takes another one's variables for mistyped ones of its own", async (t) => {
  const world = new FakeWorld();
  const { commands } = meshProgram(world, () => {});
  const clean = cleanEnvironment();
  const help = await run(sidecarFile(), ['--help'], { env: clean });
  const names = [
    ...commands.flatMap(({ options }) => options.flatMap(({ envVar }) => envVar ?? [])),
    ...Array.from(help.stdout.toString().matchAll(/\bMESH_[A-Z_]+$/gm), ([name]) => name),
    'MESH_NAMES',
    'MESH_URL_CONTROL',
    'MESH_URL_NAME',
  ];
  t.true(new Set(names).size > 35);
  const env = Object.fromEntries(names.map((name) => [name, 'x']));
  for (const command of commands) t.deepEqual(mistyped(command, env), [], command.name());
  const { code, stderr } = await run(sidecarFile(), [], { env: { ...clean, ...env } });
  t.is(code, 64);
  t.notRegex(stderr.toString(), /warning/);
});
