/** Configurations: what people write, checked, watched, and compiled to what the core reads. */

export { type Compiled, type Settings, compile } from './compile.js';
export type { ConfigIssue } from './issues.js';
export { type ConfigPlace, LoadedConfig } from './load.js';
export type { ResourceIssue, Resources } from './resources.js';
export type * from './types.js';
export type { ConfigChange, ConfigWatcher, WatchOptions } from './watch.js';
