/**
 * Configurations and mesh files as an application loads them: in their shape, and in what they mean.
 *
 * The core says whether they make sense, or the model in WebAssembly where there is no core for this platform; where there
 * is neither, the shape alone is looked at. Certificates, keys and roots are opened when they are used.
 */

import { readFileSync } from 'node:fs';
import type { LoadedConfig } from './config/load.js';
import { type Find, checkSense } from './config/meaning.js';
import { readConfig, readDocument, readObject } from './config/origin.js';
import type { ResourceIssue } from './config/resources.js';
import type { Config } from './config/types.js';
import { ConfigWatcher, type WatchOptions } from './config/watch.js';
import { CoreUnavailableError } from './errors.js';
import { type LoadedMesh, checkMeshSense } from './mesh/load.js';
import { native } from './native.js';
import { Model, compileNow } from './wasm/model.js';

let known: Find | undefined;

/** Whoever knows what makes sense. */
function find(json: string): readonly ResourceIssue[] {
  known ??= finder();
  return known(json);
}

function finder(): Find {
  try {
    const core = native();
    return (json) => JSON.parse(core.validate(json)) as ResourceIssue[];
  } catch (error) {
    if (!(error instanceof CoreUnavailableError)) throw error;
  }
  try {
    const model = new Model(compileNow(readFileSync(new URL('./wasm/mesh.wasm', import.meta.url))));
    return (json) => model.validate(json);
  } catch {
    return () => [];
  }
}

/**
 * Reads and checks a file, YAML or JSON. Relative file names in it start at its folder.
 *
 * @throws {ConfigError} with everything that is wrong with it, in its place
 */
export async function loadConfig(file: string): Promise<LoadedConfig> {
  return parseConfig(await readConfig(file), { file });
}

/**
 * Checks a text, YAML or JSON. `file` names it in errors and is where relative file names start.
 *
 * @throws {ConfigError} with everything that is wrong with it, in its place
 */
export function parseConfig(text: string, { file }: { file?: string } = {}): LoadedConfig {
  return checkSense(readDocument(text, file), find);
}

/**
 * Checks an object. Relative file names in it start at the process's folder.
 *
 * @throws {ConfigError} with everything that is wrong with it
 */
export function checkConfig(config: Config): LoadedConfig {
  return checkSense(readObject(config), find);
}

/** Watches a configuration file until `stop()`, `break` or the signal. */
export function watchConfig(file: string, options?: WatchOptions): ConfigWatcher {
  return new ConfigWatcher(file, parseConfig, options);
}

/**
 * Reads and checks a mesh file, YAML or JSON. Relative paths in it start at its folder.
 *
 * @throws {ConfigError} with everything that is wrong with it, in its place
 */
export async function loadMesh(file: string): Promise<LoadedMesh> {
  return parseMesh(await readConfig(file), { file });
}

/**
 * Checks a text, YAML or JSON. `file` names it in errors and is where relative paths start.
 *
 * @throws {ConfigError} with everything that is wrong with it, in its place
 */
export function parseMesh(text: string, { file }: { file?: string } = {}): LoadedMesh {
  return checkMeshSense(readDocument(text, file), find);
}
