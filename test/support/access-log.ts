// How does a test read an access log? As the objects its lines are, once there are as many as it waits for.

import { readFileSync } from 'node:fs';
import { until } from './wait.js';

/** A line of an access log. */
export type Line = Record<string, string | number>;

/** The lines of a file so far; none when there is no file yet. */
export function linesOf(file: string): Line[] {
  try {
    const text = readFileSync(file, 'utf8');
    return text
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Line);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** The lines, once there are this many. */
export const lines = (file: string, count: number): Promise<Line[]> =>
  until(`${count} lines`, () => {
    const found = linesOf(file);
    return found.length >= count && found;
  });
