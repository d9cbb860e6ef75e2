/**
 * Where does a mesh keep its tokens and roots while it runs, and who removes them when it was killed?
 *
 * Each `mesh up` has a folder of its own in the temporary folder, for its user's eyes, and writes there who it is. The
 * next one removes what nobody has any more: those of the same user alone, and those alone of which that is known. A
 * process is told from a later one with its number by when it started; where another machine, an earlier boot or another
 * process namespace wrote, numbers mean nothing here, and the folder stays.
 */

import { readFileSync, readlinkSync } from 'node:fs';
import { lstat, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const PREFIX = 'mesh-up-';
const OWNER = 'owner.json';
/** More are left for the start after this one: a start must not take long. */
const MOST_LOOKED_AT = 256;
/** Fields of /proc/PID/stat after the program's name, which may hold anything: the start is the 22nd of all. */
const START_FIELD = 19;

/** A process, told from every other one that this machine has seen since it was switched on. */
interface Owner {
  readonly pid: number;
  /** When it started, in the kernel's ticks since boot. */
  readonly start: string;
  /** The boot and the process namespace that the number belongs to. */
  readonly where: string;
}

/** Makes the folder of this process, mode 0700. What killed ones left is removed before; what hinders that is told. */
export async function makeFolder(trouble: (error: unknown) => void): Promise<string> {
  const parent = tmpdir();
  const self = thisProcess();
  // Without a kernel that tells processes apart nothing is known of the others.
  if (self) await removeLeft(parent, self.where).catch(trouble);
  const folder = await mkdtemp(join(parent, PREFIX));
  if (!self) return folder;
  try {
    await writeFile(join(folder, OWNER), JSON.stringify(self), { mode: 0o600 });
  } catch (error) {
    // Nobody could tell whose it is, and so it would stay for ever.
    await rm(folder, { recursive: true, force: true });
    throw new Error(
      `the temporary folder ${parent} takes no files (${(error as Error).message}): set TMPDIR`,
      {
        cause: error,
      },
    );
  }
  return folder;
}

async function removeLeft(parent: string, where: string): Promise<void> {
  const names = (await readdir(parent)).filter((name) => name.startsWith(PREFIX));
  for (const name of names.slice(0, MOST_LOOKED_AT)) {
    const folder = join(parent, name);
    if (await isLeft(folder, where)) await rm(folder, { recursive: true, force: true });
  }
}

/** Whether it is this user's, and its process is known to have gone. */
async function isLeft(folder: string, where: string): Promise<boolean> {
  try {
    const about = await lstat(folder);
    if (!about.isDirectory() || about.uid !== process.getuid?.()) return false;
    const { pid, start, ...written } = JSON.parse(await readFile(join(folder, OWNER), 'utf8')) as Owner;
    return written.where === where && Number.isInteger(pid) && startOf(pid) !== start;
  } catch {
    // It goes this moment, or its process has not yet written whose it is.
    return false;
  }
}

/** This process; undefined where the kernel does not say. */
function thisProcess(): Owner | undefined {
  const { pid } = process;
  const start = startOf(pid);
  if (start === undefined) return undefined;
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    return { pid, start, where: `${boot} ${readlinkSync('/proc/self/ns/pid')}` };
  } catch {
    return undefined;
  }
}

/** When a process started; undefined when there is none. */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[START_FIELD];
  } catch {
    return undefined;
  }
}
