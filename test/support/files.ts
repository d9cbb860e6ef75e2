// Where do tests put files? In a folder of their own that goes away with them.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';

/** A folder that goes away with the test. */
export function temporaryFolder(t: Pick<ExecutionContext, 'teardown'>): string {
  const folder = mkdtempSync(join(tmpdir(), 'mesh-test-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A pipe with a name, in a folder of its own. */
export function pipe(t: Pick<ExecutionContext, 'teardown'>): string {
  const file = join(temporaryFolder(t), 'pipe.yaml');
  execFileSync('mkfifo', [file]);
  return file;
}
