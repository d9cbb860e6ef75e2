/** How does a mesh that runs follow its file? */

import type { ConfigWatcher } from '../config/watch.js';
import type { LoadedMesh } from '../mesh/load.js';

/** Who tells what becomes of it. */
export interface Teller {
  /** Something happened: for programs its details, for people the text. */
  event(event: string, details: object, text: string): void;
  trouble(error: unknown, event: string): void;
  /** Says to people alone what programs are told of otherwise. */
  say(text: string): void;
}

/**
 * Makes each new content of the file live, until the watch ends. `apply` does so, and gives how many resources that touched;
 * what it throws is told, and what was good before stays.
 */
export async function follow(
  watcher: ConfigWatcher<LoadedMesh>,
  apply: (mesh: LoadedMesh) => number | Promise<number>,
  tell: Teller,
): Promise<void> {
  for await (const { config, error } of watcher) {
    try {
      if (error) throw error;
      const resources = await apply(config);
      tell.event('applied', { resources }, `applied: ${resources} resources changed`);
    } catch (cause) {
      if (config && !watcher.refused(config, cause)) continue;
      tell.trouble(cause, 'refused');
      tell.say('not applied: what was good before stays in force');
    }
  }
}
