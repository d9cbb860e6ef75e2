/**
 * Is this a mesh file, and if not, what all is wrong with it?
 *
 * The same as `config/load.ts` does for configurations: a `LoadedMesh`, or a `ConfigError` with every mistake in its
 * place.
 */

import { createHash } from 'node:crypto';
import type { ConfigError } from '../errors.js';
import { type RawIssue, fromSchema } from '../config/issues.js';
import {
  type Origin,
  type ReadValue,
  isConfig,
  rawIssues,
  readConfig,
  readDocument,
  readObject,
  refusal,
  whole,
} from '../config/origin.js';
import { existingPart, parsePath } from '../config/path.js';
import { ConfigWatcher, type WatchOptions } from '../config/watch.js';
import type { ResourceIssue } from '../config/resources.js';
import { endpointFormats } from '../discovery/endpoint-schema.js';
import { checkMesh, unprotectedIssues } from './check.js';
import { type CompiledMesh, checkable, compileMesh } from './compile.js';
import { formats } from './formats.js';
import { schema } from './schema.js';
import type { MeshConfig } from './types.js';

/** A mesh file whose shape is right and whose names are known. */
export class LoadedMesh {
  /** What was written. */
  readonly config: MeshConfig;
  /** The file, as given. */
  readonly file: string | undefined;
  /** Changes when the text or object does. */
  readonly hash: string;
  readonly #origin: Origin;
  #compiled: CompiledMesh | undefined;

  /** Use `loadMesh`, `parseMesh` or `checkMeshValue`: they check what they load. */
  constructor(config: MeshConfig, origin: Origin) {
    this.config = config;
    this.file = origin.file;
    this.hash = createHash('sha256')
      .update(origin.text ?? JSON.stringify(config))
      .digest('hex');
    this.#origin = origin;
  }

  /** What it means. */
  get compiled(): CompiledMesh {
    this.#compiled ??= compileMesh(this.config, this.#origin.folder);
    return this.#compiled;
  }

  /** The resources as JSON, for the core to check. */
  toJson(): string {
    return JSON.stringify(checkable(this.compiled));
  }

  /** The error for mistakes that somebody else found, each in its place. */
  refuse(issues: readonly RawIssue[]): ConfigError {
    return refusal(issues, this.#origin);
  }

  /** The error for what the core found wrong with the resources, each issue where it was written. */
  explain(issues: readonly ResourceIssue[]): ConfigError {
    const { sources } = this.compiled;
    const raw = rawIssues(issues, (path) => existingPart(this.config, sources.find(parsePath(path))));
    return refusal(raw, this.#origin);
  }
}

/** Reads and checks a mesh file, YAML or JSON. Relative paths in it start at its folder. */
export async function loadMesh(file: string): Promise<LoadedMesh> {
  return parseMesh(await readConfig(file), { file });
}

/** Checks a text, YAML or JSON. `file` names it in errors and is where relative paths start. */
export function parseMesh(text: string, { file }: { file?: string } = {}): LoadedMesh {
  return checkMeshValue(readDocument(text, file));
}

/** Watches a mesh file until `stop()`, `break` or the signal. */
export function watchMesh(file: string, options?: WatchOptions<LoadedMesh>): ConfigWatcher<LoadedMesh> {
  return new ConfigWatcher(file, parseMesh, options);
}

/** Checks an object. Relative paths in it start at the process's folder. */
export function checkMeshConfig(config: MeshConfig): LoadedMesh {
  return checkMeshValue(readObject(config));
}

/** Checks what was read already. */
export function checkMeshValue(read: ReadValue): LoadedMesh {
  const { value, origin } = read;
  if (value === null || value === undefined)
    throw refusal([whole('the mesh file is empty: expected services')], origin);
  if (isConfig(read)) {
    const message = 'this is the configuration of one proxy, which mesh run -c takes: expected services';
    throw refusal([whole(message)], origin);
  }
  const result = schema.safeParse(value, { reportInput: true });
  if (!result.success)
    throw refusal(fromSchema(result.error.issues, [...formats, ...endpointFormats]), origin);
  const issues = checkMesh(result.data);
  if (issues.length > 0) throw refusal(issues, origin);
  const loaded = new LoadedMesh(result.data, origin);
  const apart = unprotectedIssues(loaded.config, loaded.compiled);
  if (apart.length > 0) throw refusal(apart, origin);
  return loaded;
}
