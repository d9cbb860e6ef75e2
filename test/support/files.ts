// Where do tests put files? In a folder of their own that goes away with them.

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
