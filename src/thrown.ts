// What was thrown? In JavaScript that can be anything.

import { format } from 'node:util';

/** What was thrown, in words. Also of what can't be made a text by itself, such as an object without a prototype. */
export function messageOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return format('%s', thrown);
  // A connection that was tried at several addresses says nothing by itself.
  if (thrown instanceof AggregateError && thrown.message === '')
    return thrown.errors.map(messageOf).join(', ');
  return thrown.message;
}
