/**
 * Which part of the configuration made this part of the resources?
 *
 * The compiler records where each piece comes from; below a recorded piece both have the same shape. So a mistake
 * that the core finds in a resource is shown where a person can mend it.
 */

import type { Path } from './path.js';
import { renderPath } from './path.js';

/** From places in resources to places in the configuration. */
export class SourceMap {
  readonly #origins = new Map<string, Path>();

  /** Records that the piece at `resource` was made from `config`. */
  set(resource: Path, config: Path): void {
    this.#origins.set(renderPath(resource), config);
  }

  /** The place in the configuration that a place in the resources was made from. */
  find(resource: Path): Path {
    for (let length = resource.length; length > 0; length -= 1) {
      const origin = this.#origins.get(renderPath(resource.slice(0, length)));
      if (origin) return [...origin, ...resource.slice(length)];
    }
    return [];
  }

  /** Every recorded pair, for tools. */
  *[Symbol.iterator](): IterableIterator<[resource: string, config: string]> {
    for (const [resource, config] of this.#origins) yield [resource, renderPath(config)];
  }
}
