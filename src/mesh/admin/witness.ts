/**
 * What of sidecars is known only from what happened? How long a certificate lives in all, and who left without a word.
 *
 * Kept in memory, and forgotten with the process: of what was before it, nothing is said.
 */

import type { ControlEvent, Sidecar } from '../control-plane.js';
import type { MissingStatus } from './types.js';

/** A mesh of 10,000 sidecars; of a larger one the certificates that were signed first are unknown. */
const MOST_CERTIFICATES = 10_000;
/** The most that are missed; the one that left first is forgotten. */
const MOST_MISSING = 1000;
/** Who has not come back for an hour was taken away. */
export const MISSED_MS = 60 * 60_000;

/** Hears what a control plane tells. */
export class Witness {
  /** How long certificates live, by serial number. */
  readonly #lives = new Map<string, number>();
  readonly #missing = new Map<string, MissingStatus>();

  /** Something happened, at a time in milliseconds since 1970. */
  heard({ kind, ...details }: ControlEvent, atMs: number): void {
    if (kind === 'audit') {
      const { serial, notAfterMs, timeMs } = details;
      if (typeof serial === 'string' && typeof notAfterMs === 'number' && typeof timeMs === 'number')
        put(this.#lives, serial, notAfterMs - timeMs, MOST_CERTIFICATES);
      return;
    }
    const sidecar = details['sidecar'] as Sidecar | undefined;
    if (sidecar === undefined) return;
    const { identity, name, phase } = sidecar;
    if (kind === 'gone' && phase !== 'draining')
      put(this.#missing, keyOf(sidecar), { identity, name, sinceMs: atMs }, MOST_MISSING);
    else this.#missing.delete(keyOf(sidecar));
  }

  /** How long a sidecar's certificate lives in all; null when it was signed before, or by another control plane. */
  lifeMs({ certificateSerial }: Sidecar): number | null {
    return certificateSerial === null ? null : (this.#lives.get(certificateSerial) ?? null);
  }

  /** Who left without a word within the last hour, and is not among those that are here. */
  missing(here: readonly Sidecar[], atMs: number): MissingStatus[] {
    for (const sidecar of here) this.#missing.delete(keyOf(sidecar));
    for (const [key, { sinceMs }] of this.#missing) if (atMs - sinceMs > MISSED_MS) this.#missing.delete(key);
    return [...this.#missing.values()];
  }
}

const keyOf = ({ identity, name }: Pick<Sidecar, 'identity' | 'name'>): string => `${identity} ${name}`;

/** The latest last; the first goes when there are too many. */
function put<T>(map: Map<string, T>, key: string, value: T, most: number): void {
  map.delete(key);
  map.set(key, value);
  for (const first of map.keys()) {
    if (map.size <= most) break;
    map.delete(first);
  }
}
