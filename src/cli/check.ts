/** Loads a configuration or a mesh file and asks the core whether it makes sense. */

import { type LoadedConfig, checkValue, loadConfig, readConfig } from '../config/load.js';
import { isMesh, readDocument } from '../config/origin.js';
import type { ResourceIssue } from '../config/resources.js';
import type { ConfigError } from '../errors.js';
import { type LoadedMesh, loadMesh, checkMeshValue } from '../mesh/load.js';
import type { Core } from './io.js';

/** @throws {ConfigError} with everything that is wrong, whoever found it */
export async function loadChecked(file: string, core: Core): Promise<LoadedConfig> {
  return checked(await loadConfig(file), core);
}

/** @throws {ConfigError} with everything that is wrong, whoever found it */
export async function loadCheckedMesh(file: string, core: Core): Promise<LoadedMesh> {
  return checked(await loadMesh(file), core);
}

/**
 * A file of either kind: what names services is a mesh.
 *
 * @throws {ConfigError} with everything that is wrong, whoever found it
 */
export async function loadCheckedFile(file: string, core: Core): Promise<LoadedConfig | LoadedMesh> {
  const read = readDocument(await readConfig(file), file);
  return isMesh(read) ? checked(checkMeshValue(read), core) : checked(checkValue(read), core);
}

interface Checkable {
  toJson(): string;
  explain(issues: readonly ResourceIssue[]): ConfigError;
}

function checked<T extends Checkable>(loaded: T, core: Core): T {
  const issues = core.validateResources(loaded.toJson());
  if (issues.length > 0) throw loaded.explain(issues);
  return loaded;
}
