/**
 * What of a configuration is right in its shape, though some of it is not?
 *
 * A mistake of shape must not hide the others: what is wrong is left out, with what can't be without it, until the rest
 * has the right shape. Positions in lists change by that; `original` gives the ones that were written.
 */

import type { RawIssue } from './issues.js';
import type { Path } from './path.js';

/** Each round leaves out one level more, and a configuration has ten. */
const MOST_ROUNDS = 20;

/** The part of a value whose shape is right. */
export interface Rest<T> {
  readonly value: T;
  /** What is not in it, as it was written. */
  readonly leftOut: readonly Path[];
  /** Where something in it stands in what was written. */
  original(path: Path): Path;
  /** Whether a mistake in it is one only because something was left out. Its path is that of what was written. */
  excuses(issue: RawIssue): boolean;
}

/** Looks at a shape: the value, or what is wrong with it. */
type Look<T> = (value: unknown) => { value: T } | { issues: readonly RawIssue[] };

/** The rest of a value with these mistakes; undefined when nothing of it is left. */
export function restOf<T>(
  written: unknown,
  mistakes: readonly RawIssue[],
  look: Look<T>,
): Rest<T> | undefined {
  const places = new Map<unknown, number[]>();
  const value = copyOf(written, places);
  const leftOut: Path[] = [];
  let issues = mistakes;
  for (let round = 0; round < MOST_ROUNDS; round += 1) {
    const paths = issues.map(wrongPart);
    if (paths.some((path) => path.length === 0)) return undefined;
    leftOut.push(...paths.map((path) => originalOf(path, value, places)));
    leaveOut(paths, value, places);
    const seen = look(value);
    if ('value' in seen) {
      return {
        value: seen.value,
        leftOut,
        original: (path) => originalOf(path, value, places),
        excuses: (issue) => leftOut.some((path) => isWithin(path, issue.path) || isMissed(path, issue)),
      };
    }
    issues = seen.issues;
  }
  return undefined;
}

/** What can't stay: without a key that must be there, all that needs it. */
function wrongPart({ code, path }: RawIssue): Path {
  return code === 'missing' ? path.slice(0, -1) : path;
}

/** A copy that may be changed; of each of its lists it is noted where the items stood. */
function copyOf(value: unknown, places: Map<unknown, number[]>): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (!Array.isArray(value)) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, copyOf(item, places)]));
  }
  const copy = value.map((item) => copyOf(item, places));
  places.set(
    copy,
    copy.map((_, index) => index),
  );
  return copy;
}

function leaveOut(paths: readonly Path[], root: unknown, places: Map<unknown, number[]>): void {
  const items = new Map<unknown[], Set<number>>();
  for (const path of paths) {
    const last = path.at(-1);
    const parent = path.slice(0, -1).reduce(childOf, root);
    if (typeof last === 'number' && Array.isArray(parent)) {
      items.set(parent, (items.get(parent) ?? new Set()).add(last));
    } else if (typeof parent === 'object' && parent !== null && last !== undefined) {
      Reflect.deleteProperty(parent, last);
    }
  }
  // All at once, so that no position changes before it is used.
  for (const [list, gone] of items) {
    const stays = (_: unknown, index: number): boolean => !gone.has(index);
    places.set(list, (places.get(list) ?? []).filter(stays));
    list.splice(0, list.length, ...list.filter(stays));
  }
}

function originalOf(path: Path, root: unknown, places: Map<unknown, number[]>): Path {
  let value = root;
  return path.map((step) => {
    const place = typeof step === 'number' ? places.get(value)?.[step] : undefined;
    value = childOf(value, step);
    return place ?? step;
  });
}

function childOf(value: unknown, step: string | number): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return undefined;
  return (value as Record<string | number, unknown>)[step];
}

function isWithin(inner: Path, outer: Path): boolean {
  return outer.length <= inner.length && outer.every((step, index) => step === inner[index]);
}

/** Whether something that was left out is what an issue can't find: one of `clusters`, or all of them. */
function isMissed([kind, name]: Path, { code, message }: RawIssue): boolean {
  if (code !== 'unknown_reference' || (kind !== 'clusters' && kind !== 'routeTables')) return false;
  return name === undefined || message.includes(`\`${name}\``);
}
