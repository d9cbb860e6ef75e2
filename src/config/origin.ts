/**
 * Where did a value come from, and how is a mistake in it told?
 *
 * What every kind of file has in common: it is read with a bound, parsed once with the positions kept, and what is
 * wrong with it becomes one `ConfigError` with every mistake in its place.
 */

import type { Stats } from 'node:fs';
import { constants, open, stat } from 'node:fs/promises';
import { dirname, relative, resolve } from 'node:path';
import { messageOf } from '../thrown.js';
import { MAX_BYTES, SourceDocument, excessOf } from './document.js';
import { ConfigError } from './errors.js';
import { MAX_ISSUES, type RawIssue, placed, stranger } from './issues.js';
import { type Path, renderPath, valueAt } from './path.js';
import type { ResourceIssue } from './resources.js';

const { O_NONBLOCK, O_RDONLY } = constants;

/** Where a value came from. */
export interface Origin {
  /** As shown in errors. */
  readonly file?: string;
  /** Where relative file names in it start; absent: at the process's folder. */
  readonly folder?: string;
  readonly text?: string;
  readonly document?: SourceDocument;
}

/** A value before anybody has looked at its shape. */
export interface ReadValue {
  readonly value: unknown;
  readonly origin: Origin;
}

/** Whether a value that was read is meant as a mesh file: it names services, and no listeners. */
export function isMesh({ value }: ReadValue): boolean {
  return hasKey(value, ['services', 'mesh']) && !hasKey(value, ['listeners']);
}

/** Whether it is meant as the configuration of one proxy. */
export function isConfig({ value }: ReadValue): boolean {
  return hasKey(value, ['listeners']) && !hasKey(value, ['services', 'mesh']);
}

/** Whether it is resources, as `mesh compile` makes them: what a configuration names is a list in them. */
export function isResources({ value }: ReadValue): boolean {
  return hasKey(value, ['endpoints']) || Array.isArray(valueAt(value, ['routeTables']));
}

/** The mistake of who names resources where what people write is read. */
export const RESOURCES = 'these are compiled resources, which mesh-sidecar --config takes';

function hasKey(value: unknown, keys: readonly string[]): boolean {
  return typeof value === 'object' && value !== null && keys.some((key) => Object.hasOwn(value, key));
}

/** A place in a configuration. */
export interface ConfigPlace {
  /** The field, `listeners[0].routes[1]`; empty for the whole. */
  readonly field: string;
  /** The file, when there is one. */
  readonly file?: string;
  /** The line in the text, from 1. */
  readonly line?: number;
  /** The column in the text, from 1. */
  readonly column?: number;
}

/** What a configuration is read from. */
type FileKind = 'file' | 'folder' | 'pipe' | 'socket' | 'device';

/** The text of a file, or what a pipe says until its end: bounded and UTF-8. */
export async function readConfig(file: string): Promise<string> {
  return await textOf(file, ['file', 'pipe']);
}

/** The same for who looks again and again: a pipe may say nothing for ever, and nothing twice. */
export async function readFileAgain(file: string): Promise<string> {
  return await textOf(file, ['file']);
}

/** Whether it says what it has once. */
export async function isPipe(file: string): Promise<boolean> {
  const found = await stat(file).catch(() => undefined);
  return found !== undefined && kindOf(found) === 'pipe';
}

async function textOf(file: string, kinds: readonly FileKind[]): Promise<string> {
  const expect = (found: Stats): FileKind => {
    const kind = kindOf(found);
    if (kinds.includes(kind)) return kind;
    throw unreadable(file, `expected a file, found a ${kind}`);
  };
  try {
    // To open a device may do something already.
    const kind = expect(await stat(file));
    // Who says something into a pipe is waited for, and nobody else: it may be another file by now.
    const handle = await open(file, kind === 'pipe' ? O_RDONLY : O_RDONLY | O_NONBLOCK);
    try {
      const found = await handle.stat();
      expect(found);
      if (found.size > MAX_BYTES) throw tooLong(file, `${found.size}`);
      const chunks: Buffer[] = [];
      // One byte more than there may be tells that there are more.
      const stream = handle.createReadStream({ autoClose: false, end: MAX_BYTES });
      for await (const chunk of stream as AsyncIterable<Buffer>) chunks.push(chunk);
      const bytes = Buffer.concat(chunks);
      if (bytes.length > MAX_BYTES) throw tooLong(file, `more than ${MAX_BYTES}`);
      return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    throw unreadable(
      file,
      READ_REASONS[code ?? ''] ?? messageOf(error),
      code === 'ENOENT' ? `looked for in ${dirname(resolve(file))}` : undefined,
    );
  }
}

function kindOf(found: Stats): FileKind {
  if (found.isFile()) return 'file';
  if (found.isDirectory()) return 'folder';
  if (found.isFIFO()) return 'pipe';
  return found.isSocket() ? 'socket' : 'device';
}

const READ_REASONS: Record<string, string> = {
  ENOENT: 'there is no such file',
  EACCES: 'this user may not read the file',
  ERR_ENCODING_INVALID_ENCODED_DATA: 'expected text in UTF-8',
};

function tooLong(file: string, bytes: string): ConfigError {
  return unreadable(file, `the file has ${bytes} bytes: expected at most ${MAX_BYTES}`);
}

function unreadable(file: string, message: string, suggestion?: string): ConfigError {
  return new ConfigError([
    { code: 'unreadable', field: '', file: shownFile(file), message, ...(suggestion && { suggestion }) },
  ]);
}

/** The value of a text, YAML or JSON. `file` names it in errors and is where relative file names start. */
export function readDocument(text: string, file?: string): ReadValue {
  const origin = {
    text,
    ...(file !== undefined && { file: shownFile(file), folder: resolve(dirname(file)) }),
  };
  if (Buffer.byteLength(text) > MAX_BYTES) {
    throw refusal([whole(`the text is too long: expected at most ${MAX_BYTES} bytes`)], origin);
  }
  const document = new SourceDocument(text);
  if (document.problems.length > 0) {
    throw refusal(
      document.problems.map((problem): RawIssue => ({ code: 'syntax', path: [], part: 'value', ...problem })),
      origin,
    );
  }
  return { value: document.value, origin: { ...origin, document } };
}

/** An object as it is, bounded. What no file can say is a stranger in it. */
export function readObject(value: unknown): ReadValue {
  const excess = excessOf(value);
  if (excess) throw refusal([whole(excess.message)], {});
  return { value: withStrangers(value), origin: {} };
}

/** The same, with a stranger for each object that is not plain: its keys do not show what it holds. */
function withStrangers(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return same(value, value.map(withStrangers));
  if (isPlain(value)) {
    const entries = Object.entries(value);
    const seen = entries.map(([, item]) => withStrangers(item));
    if (entries.every(([, item], index) => item === seen[index])) return value;
    return Object.fromEntries(entries.map(([key], index) => [key, seen[index]]));
  }
  const isPromise = 'then' in value && typeof value.then === 'function';
  return isPromise
    ? stranger('a promise', 'write await before it')
    : stranger(`an object of ${classOf(value)}`);
}

/** The list itself where nothing in it is another. */
function same(list: readonly unknown[], seen: readonly unknown[]): readonly unknown[] {
  return list.every((item, index) => item === seen[index]) ? list : seen;
}

/** Keys that mean something else in JavaScript, so that what they hold would vanish without a word. */
export function lostKeys(value: unknown, path: Path = []): RawIssue[] {
  if (typeof value !== 'object' || value === null) return [];
  if (Array.isArray(value)) return value.flatMap((item, index) => lostKeys(item, [...path, index]));
  return Object.entries(value).flatMap(([key, item]) => {
    const here = [...path, key];
    if (key !== '__proto__') return lostKeys(item, here);
    return [{ code: 'invalid', path: here, part: 'key', message: `${key} is no name: expected another` }];
  });
}

/** Whether an object has no class, in whichever realm it was made. */
function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value) as object | null;
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function classOf(value: object): string {
  const { constructor } = value as { constructor?: unknown };
  return typeof constructor === 'function' && constructor.name ? `the class ${constructor.name}` : 'a class';
}

/** A mistake of the whole. */
export const whole = (message: string): RawIssue => ({ code: 'syntax', path: [], part: 'value', message });

/** Where a field stands. */
export function placeOf(path: Path, { file, document }: Origin): ConfigPlace {
  return {
    field: renderPath(path),
    ...(file !== undefined && { file }),
    ...document?.locate(path, 'value'),
  };
}

/** What the core found wrong with resources, in the words of the fields that made them. */
export function rawIssues(
  issues: readonly ResourceIssue[],
  sourceOf: (resource: string) => Path,
): RawIssue[] {
  const raw = new Map<string, RawIssue>();
  for (const { path, code, message, expected } of issues) {
    const origin = sourceOf(path);
    // What stands once in the configuration may stand in several resources.
    raw.set(`${renderPath(origin)} ${message}`, {
      code,
      path: origin,
      part: 'value',
      message,
      ...(expected && { expected, suggestion: `expected ${expected}` }),
    });
  }
  return [...raw.values()];
}

/** The error for these mistakes, in the order of the text. */
export function refusal(raw: readonly RawIssue[], { file, document, text }: Origin): ConfigError {
  const issues = raw.map((issue) =>
    placed(issue, file, document && ((path, part) => document.locate(path, part))),
  );
  const inOrder = issues.toSorted(
    (a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0),
  );
  return new ConfigError(inOrder.slice(0, MAX_ISSUES), text);
}

/** A file below the current folder is shown without it. */
function shownFile(file: string): string {
  const near = relative('', file);
  return near !== '' && !near.startsWith('..') ? near : file;
}
