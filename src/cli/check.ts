/** Loads a configuration and asks the core whether it makes sense. */

import { type LoadedConfig, loadConfig } from '../config/load.js';
import type { Core } from './io.js';

/** @throws {ConfigError} with everything that is wrong, whoever found it */
export async function loadChecked(file: string, core: Core): Promise<LoadedConfig> {
  const loaded = await loadConfig(file);
  const issues = core.validateResources(loaded.toJson());
  if (issues.length > 0) throw loaded.explain(issues);
  return loaded;
}
