/**
 * What does a control plane keep between two lives?
 *
 *     authority/       root and issuer, the core's own
 *     roots.pem        whom sidecars have to trust
 *     endpoints.json   who answered, so that a start while a source is gone empties nothing
 *     shared.json      the issuer that is shared over etcd, so that an etcd which lost it is no other mesh
 *     unsaid.json      who was revoked here, or is not any more, and etcd has not heard of it
 *
 * The folder is its owner's alone. Files are replaced in one step: a crash leaves the old one or the new one.
 */

import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { writtenEndpoint } from '../discovery/endpoints.js';
import type { Snapshot } from '../discovery/directory.js';
import type { EndpointLike } from '../discovery/types.js';
import { StateError } from '../errors.js';
import { makePrivateFolder, replaceFile } from '../files.js';
import { messageOf } from '../thrown.js';
import { Turns } from '../turns.js';

/** How long changes of what is known wait for others before they are written: a disk is no place for each of them. */
const WRITE_MS = 250;

/** One of its files. */
export interface StateFile {
  /** For people. */
  readonly path: string;
  /** What it says; absent when there is none. */
  read(): Promise<string | undefined>;
  write(text: string): Promise<void>;
}

/** A folder that was named for it, and can't be used. */
export class StateFolderError extends StateError {}

/** A folder of state. */
export class StateFolder {
  readonly path: string;
  #timer: NodeJS.Timeout | undefined;
  readonly #writing = new Turns();

  private constructor(path: string) {
    this.path = path;
  }

  /**
   * Makes it, unless it is there.
   *
   * @throws {StateFolderError} when it can't be made, or others may look into it
   */
  static async open(path: string): Promise<StateFolder> {
    try {
      makePrivateFolder(path);
    } catch (cause) {
      const why = messageOf(cause);
      throw new StateFolderError(`the state folder can't be made: ${why}`);
    }
    const { mode, uid } = await stat(path);
    if ((mode & 0o077) !== 0 || (process.getuid !== undefined && uid !== process.getuid()))
      throw new StateFolderError(
        `${path} is open to others: take it for yourself alone, with chmod go= and chown`,
      );
    return new StateFolder(path);
  }

  get authority(): string {
    return join(this.path, 'authority');
  }

  /** Where the roots are written. */
  get roots(): string {
    return join(this.path, 'roots.pem');
  }

  /** The issuer that is shared. */
  get shared(): StateFile {
    return this.#file('shared.json');
  }

  /** What others are to be told. */
  get unsaid(): StateFile {
    return this.#file('unsaid.json');
  }

  #file(name: string): StateFile {
    const path = join(this.path, name);
    const read = (): Promise<string | undefined> =>
      readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
        if (cause.code === 'ENOENT') return undefined;
        throw new StateError(`${path} can't be read: ${cause.message}`);
      });
    return { path, read, write: (text) => this.write(name, text) };
  }

  /** Who answered; nobody when there is no such file, or it makes no sense. */
  async endpoints(): Promise<Snapshot> {
    try {
      const kept = JSON.parse(await readFile(join(this.path, 'endpoints.json'), 'utf8')) as Record<
        string,
        Record<string, EndpointLike[]>
      >;
      const checked = Object.entries(kept).map(([service, sources]) => [
        service,
        Object.fromEntries(Object.entries(sources).map(([name, list]) => [name, list.map(writtenEndpoint)])),
      ]);
      return Object.fromEntries(checked) as Snapshot;
    } catch {
      return {};
    }
  }

  /** Keeps who answers, soon. `failed` is told when that can't be done. */
  keep(snapshot: () => Snapshot, failed: (error: unknown) => void): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.write('endpoints.json', JSON.stringify(snapshot())).catch(failed);
    }, WRITE_MS);
  }

  /**
   * Replaces a file. One after the other, in the order of the calls.
   *
   * @throws {StateError} when it can't be written
   */
  write(name: string, text: string): Promise<void> {
    const path = join(this.path, name);
    return this.#writing.run(() =>
      replaceFile(path, text).catch((cause: unknown) => {
        throw new StateError(`${path} can't be written: ${messageOf(cause)}`);
      }),
    );
  }

  /** Keeps for the last time; resolves when all is written. */
  async close(snapshot: () => Snapshot): Promise<void> {
    if (this.#timer !== undefined) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      await this.write('endpoints.json', JSON.stringify(snapshot()));
    }
    await this.#writing.settled;
  }
}
