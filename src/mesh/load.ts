/**
 * Is this a mesh file, and if not, what all is wrong with it?
 *
 * The same as `config/load.ts` does for configurations: a `LoadedMesh`, or a `ConfigError` with every mistake in its
 * place.
 */

import { fromSchema } from '../config/issues.js';
import { Loaded, isLoaded } from '../config/loaded.js';
import { type Find, sensible } from '../config/meaning.js';
import {
  type Origin,
  type ReadValue,
  isConfig,
  readDocument,
  readObject,
  refusal,
  whole,
} from '../config/origin.js';
import { ConfigWatcher, type WatchOptions } from '../config/watch.js';
import { endpointFormats } from '../discovery/endpoint-schema.js';
import { checkMesh, unprotectedIssues } from './check.js';
import { type CompiledMesh, checkable, compileMesh } from './compile.js';
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
  return sensible(checkMeshValue(read), find);
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
