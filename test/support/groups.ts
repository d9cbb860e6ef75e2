// How does a test give a process less than the machine has? By control groups of version 1, which are root's to make.

import { accessSync, constants, mkdtempSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { until } from './wait.js';

type Kind = 'memory' | 'cpu';

const folderOf = (kind: Kind): string => join('/sys/fs/cgroup', kind);

/** Whether groups of a kind can be made here. */
export function hasGroups(kind: Kind): boolean {
  try {
    accessSync(join(folderOf(kind), 'cgroup.procs'), constants.W_OK);
    return isRemoved(mkdtempSync(join(folderOf(kind), 'mesh-probe-')));
  } catch {
    return false;
  }
}

/** A group with settings, by the names of their files. It goes away with the test, once nobody is in it. */
export function newGroup(
  t: Pick<ExecutionContext, 'teardown'>,
  kind: Kind,
  settings: Readonly<Record<string, number>>,
): string {
  const group = mkdtempSync(join(folderOf(kind), 'mesh-test-'));
  t.teardown(() => until('the end of all in the group', () => isRemoved(group)));
  for (const [name, value] of Object.entries(settings)) writeFileSync(join(group, name), String(value));
  return group;
}

/** Removes a control group, unless somebody is still in it. */
function isRemoved(group: string): boolean {
  try {
    rmdirSync(group);
  } catch {
    return false;
  }
  return true;
}
