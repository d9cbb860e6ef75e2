// Does `mesh run` take what `mesh-sidecar` takes, by the same flags, variables and defaults?

import { join } from 'node:path';
import test from 'ava';
import { run } from '../support/processes.js';
import { cleanEnvironment, sidecarFile } from '../support/sidecar.js';

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
  const command = await run(process.execPath, [join('dist', 'cli', 'main.js'), 'run', '--help'], { env });
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
