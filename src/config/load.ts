/**
 * Is this a configuration, and if not, what all is wrong with it?
 *
 * Takes a file, its text, or an object; gives a `LoadedConfig` or throws a `ConfigError` with every mistake in its
 * place. Nothing here reads what a configuration points to: certificates are the core's to open.
 */

import { type Compiled, compile } from './compile.js';
import { CertificateError, type ConfigError } from './errors.js';
import { UNIX_PATH_BYTES, address, server } from './formats.js';
import { type RawIssue, fromSchema, mismatch } from './issues.js';
import { Loaded, isLoaded } from './loaded.js';
import {
  type ConfigPlace,
  type Origin,
  RESOURCES,
  type ReadValue,
  isMesh,
  isResources,
  lostKeys,
  placeOf,
  rawIssues,
  readDocument,
  readObject,
  refusal,
  whole,
} from './origin.js';
import { existingPart, parsePath, valueAt } from './path.js';
import type { ResourceIssue } from './resources.js';
import { restOf } from './rest.js';
import { schema } from './schema.js';
import type { Config } from './types.js';

export { type ConfigPlace, readConfig } from './origin.js';

/** A configuration whose shape is right, with what it means and where it came from. */
export class LoadedConfig extends Loaded<Config, Compiled> {
  /** Use `loadConfig`, `parseConfig` or `checkConfig`: they check what they load. */
  constructor(config: Config, origin: Origin) {
    super('config', config, origin);
  }

  protected override compile(folder: string | undefined): Compiled {
    return compile(this.config, folder);
  }

  /** The resources as JSON, what the core takes. */
  toJson(indent?: number): string {
    return JSON.stringify(this.compiled.resources, null, indent);
  }

  /** Where a piece of the resources was written, such as the `path` of a decided route. */
  place(resource: string): ConfigPlace {
    return placeOf(this.source(resource), this.origin);
  }

  protected override advised(issue: RawIssue): RawIssue {
    return withAdvice(issue, this.config);
  }

  override explain(issues: readonly ResourceIssue[]): ConfigError {
    const error = super.explain(issues);
    const [first] = issues;
    if (!first || !issues.every(isCertificate)) return error;
    const pem = valueAt(this.compiled.resources, parsePath(first.path));
    const file = typeof pem === 'string' && !pem.includes('-----BEGIN') ? pem : undefined;
    return new CertificateError(error.issues, this.origin.text, file);
  }
}

/** Whether it is one, of whichever build. */
export function isLoadedConfig(value: unknown): value is LoadedConfig {
  return isLoaded(value, 'config');
}

/** A cluster that is not there may be an address, written as elsewhere: a URL, a port, a path. */
function withAdvice(issue: RawIssue, config: unknown): RawIssue {
  const written = valueAt(config, issue.path);
  if (typeof written !== 'string' || issue.message !== `there is no cluster \`${written}\``) return issue;
  const isSecure = written.startsWith('https://');
  const suggestion = isSecure ? 'write the name of a cluster with tls: true' : server.advise?.(written);
  return suggestion === undefined ? issue : { ...issue, suggestion };
}

/** Whether an issue is about a certificate, its key or the roots. */
function isCertificate({ path }: ResourceIssue): boolean {
  return /\.tls\.(.+\.)?(certificates\[\d+\]|certificate|key|roots)$/.test(path);
}

/** Checks the shape of a text, YAML or JSON. `file` names it in errors and is where relative file names start. */
export function parseShape(text: string, { file }: { file?: string } = {}): LoadedConfig {
  return checkValue(readDocument(text, file));
}

/** Checks the shape of an object. Relative file names in it start at the process's folder. */
export function checkShape(config: Config): LoadedConfig {
  return checkValue(readObject(config));
}

/** Checks the shape of what was read already. */
export function checkValue(read: ReadValue): LoadedConfig {
  const { value, origin } = read;
  if (value === null || value === undefined)
    throw refusal([whole('the configuration is empty: expected listeners')], origin);
  if (isResources(read)) throw refusal([whole(RESOURCES)], origin);
  if (isMesh(read)) {
    const message = 'this is a mesh file, which mesh up and mesh control take: expected listeners';
    throw refusal([whole(message)], origin);
  }
  const seen = shapeOf(value);
  if ('issues' in seen) {
    const error = refusal(seen.issues, origin);
    misshapen.set(error, { read, issues: seen.issues });
    throw error;
  }
  const loaded = new LoadedConfig(seen.value, origin);
  const socket = longSocket(loaded);
  if (socket) throw refusal([socket], origin);
  return loaded;
}

function shapeOf(value: unknown): { value: Config } | { issues: readonly RawIssue[] } {
  const result = schema.safeParse(value, { reportInput: true });
  const issues = lostKeys(value).concat(result.success ? [] : fromSchema(result.error.issues));
  return result.success && issues.length === 0 ? { value: result.data } : { issues };
}

/** What was refused for its shape, by the error that says so. */
const misshapen = new WeakMap<object, { read: ReadValue; issues: readonly RawIssue[] }>();

/**
 * The error for a configuration that was refused for its shape, with what makes no sense in the rest of it: all mistakes
 * at once. `find` is the core's, which knows what makes sense. Any other error stays as it is.
 */
export function withMeaning(error: unknown, find: (json: string) => readonly ResourceIssue[]): unknown {
  const refused = typeof error === 'object' && error !== null ? misshapen.get(error) : undefined;
  if (!refused) return error;
  const { read, issues } = refused;
  const rest = restOf(read.value, issues, shapeOf);
  if (!rest) return error;
  const { resources, sources } = compile(rest.value, read.origin.folder);
  const found = rawIssues(find(JSON.stringify(resources)), (path) =>
    rest.original(existingPart(rest.value, sources.find(parsePath(path)))),
  )
    .filter((issue) => !rest.excuses(issue))
    .map((issue) => withAdvice(issue, read.value));
  return found.length > 0 ? refusal([...issues, ...found], read.origin) : error;
}

/** An admin server's Unix socket whose path is too long once it is absolute. Those of resources are the core's to see. */
function longSocket(loaded: LoadedConfig): RawIssue | undefined {
  const written = loaded.config.admin;
  if (typeof written !== 'string' || !written.startsWith('unix:')) return undefined;
  const { admin } = loaded.compiled.settings;
  if (typeof admin !== 'string' || address.accepts(admin)) return undefined;
  const expected = `unix:PATH with a path of 1 to ${UNIX_PATH_BYTES} bytes, the folder of this file included`;
  return mismatch(['admin'], expected, admin);
}
