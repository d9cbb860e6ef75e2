/**
 * Is this a configuration, and if not, what all is wrong with it?
 *
 * Takes a file, its text, or an object; gives a `LoadedConfig` or throws a `ConfigError` with every mistake in its
 * place. Nothing here reads what a configuration points to: certificates are the core's to open.
 */

import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { dirname, relative, resolve } from 'node:path';
import { CertificateError, ConfigError } from '../errors.js';
import { type Compiled, compile } from './compile.js';
import { MAX_BYTES, SourceDocument, excessOf } from './document.js';
import { MAX_ISSUES, type RawIssue, fromSchema, placed } from './issues.js';
import { type Path, existingPart, parsePath, renderPath, valueAt } from './path.js';
import type { ResourceIssue } from './resources.js';
import { schema } from './schema.js';
import type { Config } from './types.js';

/** Where a configuration came from. */
interface Origin {
  /** As shown in errors. */
  readonly file?: string;
  /** Where relative file names in it start; absent: at the process's folder. */
  readonly folder?: string;
  readonly text?: string;
  readonly document?: SourceDocument;
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

/** A configuration whose shape is right, with what it means and where it came from. */
export class LoadedConfig {
  /** What was written. */
  readonly config: Config;
  /** The file, as given. */
  readonly file: string | undefined;
  /** Changes when the text or object does. */
  readonly hash: string;
  readonly #origin: Origin;
  #compiled: Compiled | undefined;

  /** Use `loadConfig`, `parseConfig` or `checkConfig`: they check what they load. */
  constructor(config: Config, origin: Origin) {
    this.config = config;
    this.file = origin.file;
    this.hash = createHash('sha256')
      .update(origin.text ?? JSON.stringify(config))
      .digest('hex');
    this.#origin = origin;
  }

  /** The resources and settings that it stands for. */
  get compiled(): Compiled {
    this.#compiled ??= compile(this.config, this.#origin.folder);
    return this.#compiled;
  }

  /** The resources as JSON, what the core takes. */
  toJson(indent?: number): string {
    return JSON.stringify(this.compiled.resources, null, indent);
  }

  /** Where a piece of the resources was written, such as the `path` of a decided route. */
  place(resource: string): ConfigPlace {
    const { file, document } = this.#origin;
    const path = this.#source(resource);
    return {
      field: renderPath(path),
      ...(file !== undefined && { file }),
      ...document?.locate(path, 'value'),
    };
  }

  /** The part of the configuration that made a piece of the resources. */
  #source(resource: string): Path {
    return existingPart(this.config, this.compiled.sources.find(parsePath(resource)));
  }

  /** The error for what the core found wrong with the resources, each issue where it was written. */
  explain(issues: readonly ResourceIssue[]): ConfigError {
    const { resources } = this.compiled;
    const raw = new Map<string, RawIssue>();
    for (const { path, code, message, expected } of issues) {
      const origin = this.#source(path);
      // What stands once in the configuration may stand in several resources.
      raw.set(`${renderPath(origin)} ${message}`, {
        code,
        path: origin,
        part: 'value',
        message,
        ...(expected && { expected, suggestion: `expected ${expected}` }),
      });
    }
    const error = refusal([...raw.values()], this.#origin);
    const [first] = issues;
    if (!first || !issues.every(isCertificate)) return error;
    const pem = valueAt(resources, parsePath(first.path));
    const file = typeof pem === 'string' && !pem.includes('-----BEGIN') ? pem : undefined;
    return new CertificateError(error.issues, this.#origin.text, file);
  }
}

/** Whether an issue is about a certificate, its key or the roots. */
function isCertificate({ path }: ResourceIssue): boolean {
  return /\.tls\.(.+\.)?(certificates\[\d+\]|certificate|key|roots)$/.test(path);
}

/** Reads and checks a file, YAML or JSON. Relative file names in it start at its folder. */
export async function loadConfig(file: string): Promise<LoadedConfig> {
  return parseConfig(await readConfig(file), { file });
}

/** A file's text, bounded and UTF-8. */
export async function readConfig(file: string): Promise<string> {
  try {
    const handle = await open(file);
    try {
      const { size } = await handle.stat();
      if (size > MAX_BYTES)
        throw unreadable(file, `the file has ${size} bytes: expected at most ${MAX_BYTES}`);
      return new TextDecoder('utf-8', { fatal: true }).decode(await handle.readFile());
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    throw unreadable(
      file,
      READ_REASONS[code ?? ''] ?? (error instanceof Error ? error.message : String(error)),
    );
  }
}

const READ_REASONS: Record<string, string> = {
  ENOENT: 'there is no such file',
  EACCES: 'this user may not read the file',
  EISDIR: 'expected a file, found a folder',
  ERR_ENCODING_INVALID_ENCODED_DATA: 'expected text in UTF-8',
};

function unreadable(file: string, message: string): ConfigError {
  return new ConfigError([{ code: 'unreadable', field: '', file: shownFile(file), message }]);
}

/** Checks a text, YAML or JSON. `file` names it in errors and is where relative file names start. */
export function parseConfig(text: string, { file }: { file?: string } = {}): LoadedConfig {
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
  return check(document.value, { ...origin, document });
}

/** Checks an object. Relative file names in it start at the process's folder. */
export function checkConfig(config: Config): LoadedConfig {
  const excess = excessOf(config);
  if (excess) throw refusal([whole(excess.message)], {});
  return check(config, {});
}

function check(value: unknown, origin: Origin): LoadedConfig {
  if (value === null || value === undefined)
    throw refusal([whole('the configuration is empty: expected listeners')], origin);
  const result = schema.safeParse(value, { reportInput: true });
  if (!result.success) throw refusal(fromSchema(result.error.issues), origin);
  return new LoadedConfig(result.data, origin);
}

const whole = (message: string): RawIssue => ({ code: 'syntax', path: [], part: 'value', message });

/** The error for these mistakes, in the order of the text. */
function refusal(raw: readonly RawIssue[], { file, document, text }: Origin): ConfigError {
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
