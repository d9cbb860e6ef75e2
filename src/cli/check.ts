/** Loads a configuration or a mesh file and asks the core whether it makes sense. */

import { type LoadedConfig, checkValue, readConfig, withMeaning } from '../config/load.js';
import { type ReadValue, isMesh, readDocument } from '../config/origin.js';
import type { ResourceIssue } from '../config/resources.js';
import type { ConfigError } from '../errors.js';
import { type LoadedMesh, loadMesh, checkMeshValue } from '../mesh/load.js';
import type { Core } from './io.js';

/** @throws {ConfigError} with everything that is wrong, whoever found it */
export async function loadChecked(file: string, core: Core): Promise<LoadedConfig> {
  return checked(await loadWhole(file, core), core);
}

/**
 * Loads a configuration, and asks the core only when it is refused already: what makes no sense is told as well.
 *
 * @throws {ConfigError} with everything that is wrong, whoever found it
 */
export async function loadWhole(file: string, core: Pick<Core, 'validateResources'>): Promise<LoadedConfig> {
  return whole(readDocument(await readConfig(file), file), core);
}

function whole(read: ReadValue, core: Pick<Core, 'validateResources'>): LoadedConfig {
  try {
    return checkValue(read);
  } catch (error) {
    throw withMeaning(error, core.validateResources);
  }
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
export async function loadCheckedFile(
  file: string,
  core: Core,
  { files }: CheckOptions,
): Promise<LoadedConfig | LoadedMesh> {
  const read = readDocument(await readConfig(file), file);
  if (isMesh(read)) return checked(checkMeshValue(read), core);
  return checked(whole(read, core), core, files ? core.checkResources : core.validateResources);
}

/** How to check. */
export interface CheckOptions {
  /** Whether to open the certificates, keys and roots that are named. */
  readonly files: boolean;
}

interface Checkable {
  toJson(): string;
  explain(issues: readonly ResourceIssue[]): ConfigError;
}

function checked<T extends Checkable>(loaded: T, core: Core, find = core.validateResources): T {
  const issues = find(loaded.toJson());
  if (issues.length > 0) throw loaded.explain(issues);
  return loaded;
}
