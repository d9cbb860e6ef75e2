// Is an artefact still what its inputs would make?
//
// A stamp is a small file under `.build/`: the hash of everything an artefact was made from, and the size and
// time of what came out. Contents are hashed, not times, so that switching branches back and forth or a fresh
// checkout with a kept build folder rebuilds nothing. An output that somebody else changed or removed is stale.

import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

/** Folders that are never an input of anything. */
const SKIPPED = new Set(['.git', '.build', 'dist', 'node_modules', 'target']);

/** Every file below `path` (or `path` itself), sorted; a path that does not exist has none. */
export function files(path) {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat) return [];
  if (!stat.isDirectory()) return [path];
  return readdirSync(path)
    .filter((name) => !SKIPPED.has(name))
    .toSorted()
    .flatMap((name) => files(join(path, name)));
}

/** One hash over the names and contents of all files below `paths`, and over `facts` (versions, flags). */
export function hashOf(root, paths, facts = []) {
  const hash = createHash('sha256');
  for (const fact of facts) hash.update(`${fact}\0`);
  for (const file of paths.flatMap((path) => files(join(root, path)))) {
    hash
      .update(`${relative(root, file)}\0`)
      .update(readFileSync(file))
      .update('\0');
  }
  return hash.digest('hex');
}

/** What a file looks like from outside; undefined when it is missing. */
export function lookOf(path) {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat && `${stat.size} ${stat.mtimeMs}`;
}

/** The stamp kept in `file` for an artefact made of `hash` with these `outputs`. */
export class Stamp {
  #file;
  #hash;
  #outputs;

  constructor(file, hash, outputs) {
    this.#file = file;
    this.#hash = hash;
    this.#outputs = outputs;
  }

  /** True when the same inputs made these very outputs. */
  isFresh() {
    try {
      const kept = JSON.parse(readFileSync(this.#file, 'utf8'));
      return (
        kept.hash === this.#hash &&
        this.#outputs.every((path) => lookOf(path) && lookOf(path) === kept.outputs[path])
      );
    } catch {
      return false; // No stamp, or not one of ours: make the artefact.
    }
  }

  /** Forgets the last build: call before the first output is touched. */
  clear() {
    rmSync(this.#file, { force: true });
  }

  /** Remembers the build that has just succeeded. */
  write() {
    const outputs = Object.fromEntries(this.#outputs.map((path) => [path, lookOf(path)]));
    mkdirSync(dirname(this.#file), { recursive: true });
    writeFileSync(this.#file, JSON.stringify({ hash: this.#hash, outputs }));
  }
}
