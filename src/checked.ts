/**
 * Configurations and mesh files as an application loads them: in their shape, and in what they mean.
 *
 * The core says whether they make sense, or the model in WebAssembly where there is no core for this platform; where there
 * is neither, the shape alone is looked at. Certificates, keys and roots are opened when they are used.
 */

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type LoadedConfig, isLoadedConfig } from './config/load.js';
import { type Find, checkSense } from './config/meaning.js';
import { type ReadValue, readConfig, readDocument, readObject } from './config/origin.js';
import type { ResourceIssue } from './config/resources.js';
import type { Config } from './config/types.js';
import { ConfigWatcher, type WatchOptions } from './config/watch.js';
import { CoreUnavailableError, OptionError } from './errors.js';
import { type LoadedMesh, checkMeshSense } from './mesh/load.js';
import { native } from './native.js';
import { type Rule, type Rules, check, signal } from './options.js';
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

/** Where a text was read. */
interface ParseOptions {
  readonly file?: string;
}

const FILE: Rule = ['the path of a file', (value) => typeof value === 'string' && value !== ''];

function documentOf(text: unknown, options: ParseOptions): ReadValue {
  check<ParseOptions>(options, { file: FILE });
  if (typeof text !== 'string') throw new OptionError('text', 'a text, YAML or JSON', text);
  return readDocument(text, options.file);
}

function pathOf(file: unknown): string {
  const path = file instanceof URL && file.protocol === 'file:' ? fileURLToPath(file) : file;
  const [expected, accepts] = FILE;
  if (!accepts(path)) throw new OptionError('file', `${expected}, or its URL`, file);
  return String(path);
}

/**
 * Reads and checks a file, YAML or JSON. Relative file names in it start at its folder.
 *
 * @throws {ConfigError} with everything that is wrong with it, in its place
 * @throws {OptionError} `file` is neither a path nor a URL of a file
 */
export async function loadConfig(file: string | URL): Promise<LoadedConfig> {
  const path = pathOf(file);
  return parseConfig(await readConfig(path), { file: path });
}

/**
 * Checks a text, YAML or JSON. `file` names it in errors and is where relative file names start.
 *
 * @throws {ConfigError} with everything that is wrong with it, in its place
 * @throws {OptionError} `text` is none, or `file` no path
 */
export function parseConfig(text: string, options: ParseOptions = {}): LoadedConfig {
  return checkSense(documentOf(text, options), find);
}

/**
 * Checks an object. Relative file names in it start at the process's folder.
 *
 * @throws {ConfigError} with everything that is wrong with it
 */
export function checkConfig(config: Config): LoadedConfig {
  return checkSense(readObject(config), find);
}

/** The longest that a timer of Node waits; it takes what is longer for 1 ms. */
const LONGEST_MS = 2 ** 31 - 1;

function milliseconds(least: number): Rule {
  const accepts = (value: unknown): boolean =>
    typeof value === 'number' && value >= least && value <= LONGEST_MS;
  return [`a number of milliseconds, ${least} to ${LONGEST_MS}`, accepts];
}

const WATCH: Rules<WatchOptions> = {
  since: ['a configuration that was loaded', isLoadedConfig],
  signal,
  debounceMs: milliseconds(0),
  pollMs: milliseconds(1),
};

/**
 * Watches a configuration file until `stop()`, `break` or the signal.
 *
 * @throws {OptionError} `file` is neither a path nor a URL of a file, or an option makes no sense
 */
export function watchConfig(file: string | URL, options: WatchOptions = {}): ConfigWatcher {
  const path = pathOf(file);
  check<WatchOptions>(options, WATCH);
  return new ConfigWatcher(path, parseConfig, options);
}

/**
 * Reads and checks a mesh file, YAML or JSON. Relative paths in it start at its folder.
 *
 * @throws {ConfigError} with everything that is wrong with it, in its place
 * @throws {OptionError} `file` is neither a path nor a URL of a file
 */
export async function loadMesh(file: string | URL): Promise<LoadedMesh> {
  const path = pathOf(file);
  return parseMesh(await readConfig(path), { file: path });
}

/**
 * Checks a text, YAML or JSON. `file` names it in errors and is where relative paths start.
 *
 * @throws {ConfigError} with everything that is wrong with it, in its place
 * @throws {OptionError} `text` is none, or `file` no path
 */
export function parseMesh(text: string, options: ParseOptions = {}): LoadedMesh {
  return checkMeshSense(documentOf(text, options), find);
}
