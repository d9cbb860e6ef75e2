/**
 * Where does a mesh keep its tokens and roots while it runs, and who removes them when it was killed?
 *
 * Each `mesh up` has a folder of its own in the temporary folder, for its user's eyes, and writes there who it is. The
 * next one removes what nobody has any more: those of the same user alone, and those alone of which that is known. A
 * process is told from a later one with its number by when it started; where another machine, an earlier boot or another
 * process namespace wrote, numbers mean nothing here, and the folder stays.
 *
 * Cleaners of temporary folders take what nobody has touched for days. Whoever writes here makes again what is missing, in
 * the same place: sidecars that run look for their tokens there. Meanwhile the name may have become somebody else's.
 */

import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import { lstat, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { replaceFile } from '../../files.js';
import { Turns } from '../../turns.js';

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

/** The folder of this process, mode 0700. */
export class MeshFolder {
  readonly path: string;
  /** As whose it was made, as its file system has it. */
  readonly #uid: number;
  readonly #self: Owner | undefined;
  readonly #turns = new Turns();

  private constructor(path: string, uid: number, self: Owner | undefined) {
    this.path = path;
    this.#uid = uid;
    this.#self = self;
  }

  /** Makes it. What killed ones left is removed before; what hinders that is told. */
  static async make(trouble: (error: unknown) => void): Promise<MeshFolder> {
    const parent = tmpdir();
    const self = thisProcess();
    // Without a kernel that tells processes apart nothing is known of the others.
    if (self) await removeLeft(parent, self.where).catch(trouble);
    const path = await mkdtemp(join(parent, PREFIX));
    const folder = new MeshFolder(path, (await lstat(path)).uid, self);
    if (!self) return folder;
    try {
      await writeFile(join(path, OWNER), JSON.stringify(self), { mode: 0o600 });
    } catch (error) {
      // Nobody could tell whose it is, and so it would stay for ever.
      await rm(path, { recursive: true, force: true });
      throw new Error(
        `the temporary folder ${parent} takes no files (${(error as Error).message}): set TMPDIR`,
        {
          cause: error,
        },
      );
    }
    return folder;
  }

  /**
   * Writes a file, whole: others read it meanwhile. Gives where it is.
   *
   * @throws when the folder has gone and can't be made again
   */
  write(name: string, text: string): Promise<string> {
    const file = join(this.path, name);
    return this.#turns.run(async () => {
      await this.#makeAgain();
      await replaceFile(file, text);
      return file;
    });
  }

  /** Removes it, unless its name is somebody else's by now. */
  async remove(): Promise<void> {
    await this.#turns.settled;
    if ((await this.#whyNotOwn()) === undefined) await rm(this.path, { recursive: true, force: true });
  }

  async #makeAgain(): Promise<void> {
    try {
      await mkdir(this.path, { mode: 0o700 });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const why = await this.#whyNotOwn();
    if (why !== undefined)
      throw new Error(`${this.path} ${why} by now, and tokens are kept there: take it away`);
    const owner = join(this.path, OWNER);
    if (this.#self && !existsSync(owner)) await replaceFile(owner, JSON.stringify(this.#self));
  }

  /** Why what has its name is not this folder; undefined where it is, or nothing has. */
  async #whyNotOwn(): Promise<string | undefined> {
    try {
      const about = await lstat(this.path);
      if (!about.isDirectory()) return 'is no folder';
      return about.uid === this.#uid ? undefined : "is somebody else's folder";
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }
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
