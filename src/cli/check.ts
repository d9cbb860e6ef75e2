/** Loads a configuration or a mesh file and asks the core whether it makes sense. */

import { type LoadedConfig, readConfig } from '../config/load.js';
import { checkSense, checkWhole } from '../config/meaning.js';
import { type ReadValue, isMesh, readDocument } from '../config/origin.js';
import { type LoadedMesh, checkMeshSense } from '../mesh/load.js';
import { findWithRoots } from '../mesh/roots.js';
import type { Core } from './io.js';

/** @throws {ConfigError} with everything that is wrong, whoever found it */
export async function loadChecked(file: string, core: Core): Promise<LoadedConfig> {
  return checkSense(await read(file), core.validateResources);
}

/**
 * Loads a configuration, and asks the core only when it is refused already: what makes no sense is told as well.
 *
 * @throws {ConfigError} with everything that is wrong, whoever found it
 */
export async function loadWhole(file: string, core: Pick<Core, 'validateResources'>): Promise<LoadedConfig> {
  return checkWhole(await read(file), core.validateResources);
}

/** @throws {ConfigError} with everything that is wrong, whoever found it */
export async function loadCheckedMesh(file: string, core: Core): Promise<LoadedMesh> {
  return checkMeshSense(await read(file), findWithRoots(core));
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
  const { validateResources, checkResources } = core;
  const value = await read(file);
  if (isMesh(value)) return checkMeshSense(value, files ? findWithRoots(core) : validateResources);
  return checkSense(value, validateResources, files ? checkResources : validateResources);
}

/** How to check. */
export interface CheckOptions {
  /** Whether to open the certificates, keys and roots that are named. */
  readonly files: boolean;
}

async function read(file: string): Promise<ReadValue> {
  return readDocument(await readConfig(file), file);
}
