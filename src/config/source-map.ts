/**
 * Which part of the configuration made this part of the resources?
 *
 * The compiler records where each piece comes from; below a recorded piece both have the same shape. So a mistake
 * that the core finds in a resource is shown where a person can mend it.
 */

import type { Path } from './path.js';

/** A tree by steps: 10,000 routes record 100,000 places, and texts as keys would take longer than all the rest. */
interface Piece {
  origin?: Path;
  parts?: Map<string | number, Piece>;
}

/** From places in resources to places in the configuration. */
export class SourceMap {
  readonly #root: Piece = {};

  /** Records that the piece at `resource` was made from `config`. */
  set(resource: Path, config: Path): void {
    let piece = this.#root;
    for (const step of resource) {
      piece.parts ??= new Map();
      let next = piece.parts.get(step);
      if (!next) piece.parts.set(step, (next = {}));
      piece = next;
    }
    piece.origin = config;
  }

  /** The place in the configuration that a place in the resources was made from; empty: the whole. */
  find(resource: Path): Path {
    let found: Path = [];
    let piece: Piece | undefined = this.#root;
    for (const [index, step] of resource.entries()) {
      piece = piece?.parts?.get(step);
      if (piece?.origin) found = [...piece.origin, ...resource.slice(index + 1)];
    }
    return found;
  }
}
