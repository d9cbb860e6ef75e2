/**
 * Is this a mesh file, and if not, what all is wrong with it?
 *
 * The same as `config/load.ts` does for configurations: a `LoadedMesh`, or a `ConfigError` with every mistake in its
 * place.
 */

import { type RawIssue, fromSchema } from '../config/issues.js';
import { Loaded, isLoaded } from '../config/loaded.js';
import { type Find, sensible } from '../config/meaning.js';
import {
  type Origin,
  RESOURCES,
  type ReadValue,
  isConfig,
  isResources,
  rawIssues,
  readDocument,
  readObject,
  refusal,
  whole,
} from '../config/origin.js';
import { existingPart, parsePath } from '../config/path.js';
import { restOf } from '../config/rest.js';
import { ConfigWatcher, type WatchOptions } from '../config/watch.js';
import { endpointFormats } from '../discovery/endpoint-schema.js';
import { checkMesh, unprotectedIssues } from './check.js';
import { type CompiledMesh, checkable, compileMesh } from './compile.js';
import { isExcused } from './excused.js';
import { formats } from './formats.js';
import { rootsNamed } from './roots.js';
import { schema } from './schema.js';
import type { MeshConfig } from './types.js';

/** A mesh file whose shape is right and whose names are known. */
export class LoadedMesh extends Loaded<MeshConfig, CompiledMesh> {
  /** Use `loadMesh`, `parseMesh` or `checkMeshValue`: they check what they load. */
  constructor(config: MeshConfig, origin: Origin) {
    super('mesh', config, origin);
  }

  protected override compile(folder: string | undefined): CompiledMesh {
    return compileMesh(this.config, folder);
  }

  protected override dependsOn(): readonly string[] {
    return rootsNamed(this.compiled);
  }

  /** The resources as JSON, for the core to check. */
  toJson(): string {
    return JSON.stringify(checkable(this.compiled));
  }
}

/** Whether it is one, of whichever build. */
export function isLoadedMesh(value: unknown): value is LoadedMesh {
  return isLoaded(value, 'mesh');
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

/**
 * Checks what was read already, and asks `find` whether it makes sense.
 *
 * @throws {ConfigError} with everything that is wrong, whoever found it
 */
export function checkMeshSense(read: ReadValue, find: Find): LoadedMesh {
  try {
    return sensible(checkMeshValue(read), find);
  } catch (error) {
    throw withMeaning(error, find);
  }
}

/** Checks what was read already. */
export function checkMeshValue(read: ReadValue): LoadedMesh {
  const { value, origin } = read;
  if (value === null || value === undefined)
    throw refusal([whole('the mesh file is empty: expected services')], origin);
  if (isResources(read)) throw refusal([whole(RESOURCES)], origin);
  if (isConfig(read)) {
    const message = 'this is the configuration of one proxy, which mesh run -c takes: expected services';
    throw refusal([whole(message)], origin);
  }
  const seen = fitOf(value, unfitBeside);
  if ('issues' in seen) {
    const error = refusal(seen.issues, origin);
    refused.set(error, { read, issues: seen.issues });
    throw error;
  }
  const loaded = new LoadedMesh(seen.value, origin);
  const apart = unprotectedIssues(loaded.config, loaded.compiled);
  if (apart.length > 0) throw refusal(apart, origin);
  return loaded;
}

type Seen = { value: MeshConfig } | { issues: readonly RawIssue[] };

function shapeOf(value: unknown): Seen {
  const result = schema.safeParse(value, { reportInput: true });
  return result.success
    ? { value: result.data }
    : { issues: fromSchema(result.error.issues, [...formats, ...endpointFormats]) };
}

/** The shape, and of one that has it whether it fits together. `beside` finds more where it has not. */
function fitOf(value: unknown, beside?: typeof unfitBeside): Seen {
  const seen = shapeOf(value);
  if ('issues' in seen) return { issues: [...seen.issues, ...(beside?.(value, seen.issues) ?? [])] };
  const issues = checkMesh(seen.value);
  return issues.length > 0 ? { issues } : seen;
}

/** What does not fit together beside mistakes of shape. */
function unfitBeside(value: unknown, mistakes: readonly RawIssue[]): RawIssue[] {
  const rest = restOf(value, mistakes, shapeOf);
  if (!rest) return [];
  return checkMesh(rest.value)
    .map((issue) => ({ ...issue, path: rest.original(issue.path) }))
    .filter((issue) => !isExcused(issue, rest));
}

/** What was refused before the core has seen it, by the error that says so. */
const refused = new WeakMap<object, { read: ReadValue; issues: readonly RawIssue[] }>();

/** The error for such a mesh file, with what makes no sense in the rest of it. Any other error stays as it is. */
function withMeaning(error: unknown, find: Find): unknown {
  const known = typeof error === 'object' && error !== null ? refused.get(error) : undefined;
  if (!known) return error;
  const { read, issues } = known;
  const rest = restOf(read.value, issues, fitOf);
  if (!rest) return error;
  const compiled = compileMesh(rest.value, read.origin.folder);
  const found = rawIssues(find(JSON.stringify(checkable(compiled))), (path) =>
    rest.original(existingPart(rest.value, compiled.sources.find(parsePath(path)))),
  ).filter((issue) => !isExcused(issue, rest));
  return found.length > 0 ? refusal([...issues, ...found], read.origin) : error;
}
