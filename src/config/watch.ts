/**
 * When does a configuration file say something new?
 *
 * Editors write in place, others write beside and rename, and mounted ConfigMaps swap a link to a folder. So the
 * folder is watched and not the file, a burst of events waits until it is over, only content counts (by hash), and a
 * slow look at the file catches what no event told, on network file systems for one. A pipe, such as `/dev/stdin`, was
 * read to its end before the watch begins: it is not watched. A file that becomes one is refused, and nobody waits for it.
 *
 * What a configuration needs may come later than itself, as a Secret does that is mounted beside a ConfigMap. While it can't
 * be made live for such a reason, each slow look tells it again.
 *
 * Invariants: a value that was not taken yet is replaced by the next one, so a slow reader gets the newest and memory
 * stays bounded; after `stop()` nothing is left that would keep the process alive.
 */

import { type FSWatcher, watch } from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { MeshError } from '../mesh-error.js';
import { messageOf } from '../thrown.js';
import { Turns } from '../turns.js';
import { ConfigError } from './errors.js';
import { type LoadedConfig, parseShape } from './load.js';
import { isPipe, readFileAgain } from './origin.js';

/** What a content that was accepted is known by. */
interface Hashed {
  /** Changes when the content does. */
  readonly hash: string;
}

/** Makes sense of a content. @throws {ConfigError} when it makes none */
type Parse<T> = (text: string, from: { file: string }) => T;

/** What a watched file came to. */
export type ConfigChange<T = LoadedConfig> =
  /** A new configuration. */
  | { readonly config: T; readonly error?: undefined }
  /** A content that is refused; what was good before still is. */
  | { readonly error: ConfigError; readonly config?: undefined };

/** How to watch. */
export interface WatchOptions<T = LoadedConfig> {
  /** What is known already: it is not told again. Absent: the first look tells what is there. */
  since?: T;
  /** Ends the watch. */
  signal?: AbortSignal;
  /** How long a burst of events may go on, in milliseconds. Default 100, more than an editor takes to save. */
  debounceMs?: number;
  /** How often to look without being told, in milliseconds. Default 5000. */
  pollMs?: number;
}

/** Reasons against a configuration that are not in it, and may go while it stays the same. */
const OUTSIDE = new Set(['MESH_CERTIFICATE_INVALID', 'MESH_ROOTS_UNREADABLE', 'EADDRINUSE', 'EADDRNOTAVAIL']);

/** A configuration that could not be made live for a reason that may go. */
interface Refused {
  readonly hash: string;
  readonly why: string;
  /** It is to be told again. */
  isDue: boolean;
}

/** The changes of one file, newest first to come: `for await (const change of watchConfig(file))`. */
export class ConfigWatcher<T extends Hashed = LoadedConfig>
  implements AsyncIterableIterator<ConfigChange<T>>, AsyncDisposable
{
  readonly #file: string;
  readonly #parse: Parse<T>;
  readonly #debounceMs: number;
  readonly #poll: NodeJS.Timeout;
  readonly #signal: AbortSignal | undefined;
  /** By name, with what the folder was when its watch began: one of the same name may take its place. */
  readonly #folders = new Map<string, { watcher: FSWatcher; identity: string }>();
  #settle: NodeJS.Timeout | undefined;
  /** What was told last: the hash of a configuration or the text of an error. */
  #told: string | undefined;
  #refused: Refused | undefined;
  readonly #looks = new Turns();
  #pending: ConfigChange<T> | undefined;
  #waiting: ((result: IteratorResult<ConfigChange<T>, undefined>) => void)[] = [];
  #stopped = false;
  #sawEmpty = false;

  constructor(file: string, parse: Parse<T>, options: WatchOptions<T> = {}) {
    this.#file = file;
    this.#parse = parse;
    this.#debounceMs = options.debounceMs ?? 100;
    this.#told = options.since?.hash;
    this.#poll = setInterval(() => this.#look('slow'), options.pollMs ?? 5000);
    this.#signal = options.signal;
    if (this.#signal?.aborted) this.stop();
    else this.#signal?.addEventListener('abort', this.stop);
    void this.#looks.run(() => this.#begin(options.since !== undefined));
  }

  /** The next change; done after `stop()`. */
  next(): Promise<IteratorResult<ConfigChange<T>, undefined>> {
    const value = this.#pending;
    this.#pending = undefined;
    if (value) return Promise.resolve({ value, done: false });
    if (this.#stopped) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }

  /** Ends the watch; whoever waits for a change is told that there is none. */
  readonly stop = (): void => {
    if (this.#stopped) return;
    this.#stopped = true;
    clearInterval(this.#poll);
    clearTimeout(this.#settle);
    this.#signal?.removeEventListener('abort', this.stop);
    for (const { watcher } of this.#folders.values()) watcher.close();
    this.#folders.clear();
    this.#pending = undefined;
    for (const resolve of this.#waiting.splice(0)) resolve({ value: undefined, done: true });
  };

  /**
   * Looks at the file now, without waiting for an event, and tells what is there even when that is no news: what could
   * not be made live before may go now, once the files that it names are there.
   */
  check(): void {
    if (this.#stopped) return;
    this.#told = undefined;
    this.#refused = undefined;
    this.#look();
  }

  /**
   * Has a configuration that was told, and could not be made live, told again while the reason may go by itself. Gives
   * whether the reason is another one than the last time.
   */
  refused(config: T, error: unknown): boolean {
    const before = this.#refused;
    this.#refused = undefined;
    if (!(error instanceof MeshError && OUTSIDE.has(error.code))) return true;
    const { hash } = config;
    const why = error instanceof ConfigError ? error.pretty() : error.message;
    this.#refused = { hash, why, isDue: true };
    return before?.hash !== hash || before.why !== why;
  }

  /** Resolves when no look is under way. */
  async settled(): Promise<void> {
    let looked: Promise<unknown> | undefined;
    while (looked !== this.#looks.settled) {
      looked = this.#looks.settled;
      await looked;
    }
  }

  /** Ends the watch, as leaving a loop does. */
  return(): Promise<IteratorResult<ConfigChange<T>, undefined>> {
    this.stop();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Stops, and waits for a look that is under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.stop();
    await this.settled();
  }

  async #begin(wasRead: boolean): Promise<void> {
    if (wasRead && (await isPipe(this.#file))) this.stop();
    await this.#lookNow();
  }

  /** One look after the other: an older content must not be told after a newer one. */
  #look(why: 'slow' | 'asked' = 'asked'): void {
    void this.#looks.run(() => this.#lookNow(why));
  }

  async #lookNow(why: 'slow' | 'asked' = 'asked'): Promise<void> {
    if (this.#stopped) return;
    // First, so that nothing falls between.
    await this.#watchFolders();
    if (this.#stopped) return;
    let change: ConfigChange<T>;
    try {
      const text = await readFileAgain(this.#file);
      // Whoever writes in place empties the file first: an empty one is looked at twice.
      const isFirstEmpty = text === '' && !this.#sawEmpty;
      this.#sawEmpty = text === '';
      if (isFirstEmpty) {
        this.#onEvent();
        return;
      }
      change = { config: this.#parse(text, { file: this.#file }) };
    } catch (error) {
      // A defect of ours is no reason to stop serving: it is told like a bad file.
      change = { error: error instanceof ConfigError ? error : unexpected(error) };
    }
    const told = change.config?.hash ?? change.error?.pretty();
    const isNews = told !== this.#told;
    const isDue = !isNews && why === 'slow' && this.#refused?.isDue === true && this.#refused.hash === told;
    if (this.#stopped || (!isNews && !isDue)) return;
    this.#told = told;
    this.#refused = isDue && this.#refused ? { ...this.#refused, isDue: false } : undefined;
    const waiting = this.#waiting.shift();
    if (waiting) waiting({ value: change, done: false });
    else this.#pending = change;
  }

  /** The folder of the name, and the folder of the file behind it when the name is a link. */
  async #watchFolders(): Promise<void> {
    const file = await realpath(this.#file).catch(() => this.#file);
    if (this.#stopped) return;
    const names = new Set([dirname(this.#file), dirname(file)]);
    const wanted = new Map(
      await Promise.all(Array.from(names, async (name) => [name, await identityOf(name)] as const)),
    );
    if (this.#stopped) return;
    for (const [folder, { watcher, identity }] of this.#folders) {
      if (wanted.get(folder) === identity) continue;
      watcher.close();
      this.#folders.delete(folder);
    }
    for (const [folder, identity] of wanted) {
      if (!this.#folders.has(folder)) this.#watchFolder(folder, identity);
    }
  }

  #watchFolder(folder: string, identity: string): void {
    try {
      const watcher = watch(folder, () => this.#onEvent());
      // The folder went away; the next look tries again.
      watcher.on('error', () => {
        watcher.close();
        if (this.#folders.get(folder)?.watcher === watcher) this.#folders.delete(folder);
      });
      this.#folders.set(folder, { watcher, identity });
    } catch {
      // There is no such folder, or the system has no watches left: the slow look remains.
    }
  }

  #onEvent(): void {
    if (this.#stopped || this.#settle) return;
    this.#settle = setTimeout(() => {
      this.#settle = undefined;
      this.#look();
    }, this.#debounceMs);
  }
}

/** What a folder is, whatever it is called. */
async function identityOf(folder: string): Promise<string> {
  const found = await stat(folder).catch(() => undefined);
  return found ? `${found.dev}:${found.ino}` : 'none';
}

function unexpected(error: unknown): ConfigError {
  return new ConfigError([{ code: 'unreadable', field: '', message: messageOf(error) }]);
}

/** Watches a configuration file until `stop()`, `break` or the signal. Of what is there the shape alone is checked. */
export function watchShape(file: string, options?: WatchOptions): ConfigWatcher {
  return new ConfigWatcher(file, parseShape, options);
}
