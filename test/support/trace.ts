// Which system calls does a program make?

import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { temporaryFolder } from './files.js';
import { start } from './processes.js';
import { until } from './wait.js';

/** Writes down system calls of a process from now on; `read` gives them, a line each. */
export async function traced(
  t: Pick<ExecutionContext, 'teardown'>,
  pid: number,
  calls: string,
  ...flags: string[]
): Promise<{ read(): string; stop(): Promise<void> }> {
  const file = join(temporaryFolder(t), 'trace');
  const tracer = start(t, 'strace', [
    '-f',
    '-qq',
    ...flags,
    '-e',
    `trace=${calls}`,
    '-o',
    file,
    '-p',
    String(pid),
  ]);
  const tasks = `/proc/${pid}/task`;
  await until('every thread is traced', () =>
    readdirSync(tasks).every(
      (task) => !/^TracerPid:\s+0$/m.test(readFileSync(`${tasks}/${task}/status`, 'utf8')),
    ),
  );
  const stop = async (): Promise<void> => {
    tracer.signal('SIGINT');
    await tracer.exit;
  };
  return { read: () => readFileSync(file, 'utf8'), stop };
}
