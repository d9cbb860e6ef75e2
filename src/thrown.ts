// What was thrown? In JavaScript that can be anything.

import { format } from 'node:util';

/** What was thrown, in words. Also of what can't be made a text by itself, such as an object without a prototype. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : format('%s', thrown);
}
