/**
 * How does a command speak?
 *
 * To a person at a terminal in colours and aligned tables, to a pipe in plain lines with tabs, to a program in JSON.
 */

import picocolors from 'picocolors';
import { ConfigError, MeshError } from '../errors.js';
import { messageOf } from '../thrown.js';
import { ExitCode, type Output, type World } from './io.js';

/** The forms of `-o`. */
export type Format = 'text' | 'json';

/** Whether a stream takes colours: a terminal, unless NO_COLOR (any value but the empty one) or TERM says no. */
export function hasColours(stream: Output, env: World['env']): boolean {
  return stream.isTTY === true && !env['NO_COLOR'] && env['TERM'] !== 'dumb';
}

/** Colours for a stream; without colours, the text as it is. */
export function coloursOf(stream: Output, env: World['env']): ReturnType<typeof picocolors.createColors> {
  return picocolors.createColors(hasColours(stream, env));
}

/** What could write lines of its own, steer a terminal, or turn the order of what is read. */
const ODD = /[\p{Cc}\p{Zl}\p{Zp}\u061C\u200E\u200F\u202A-\u202E\u2066-\u2069]/gu;

/** A text of somebody else's, a sidecar or a source, as a part of a line. */
export function plain(text: string): string {
  return text.replaceAll(ODD, (odd) => `\\u{${(odd.codePointAt(0) ?? 0).toString(16)}}`);
}

/** Rows below a header. Numbers stand to the right. In a pipe: columns are parted by one tab. */
export function table(
  header: readonly string[],
  rows: readonly (readonly (string | number)[])[],
  stream: Output,
  env: World['env'],
): string {
  const lines = [header, ...rows.map((row) => row.map((cell) => plain(String(cell))))];
  if (!stream.isTTY) return lines.map((line) => `${line.join('\t')}\n`).join('');
  const widths = header.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  const toTheRight = header.map(
    (_, column) =>
      rows.length > 0 && rows.every((row) => /^[\d,.]*( ?(%|ms))?$|^-$/.test(String(row[column]))),
  );
  const { bold } = coloursOf(stream, env);
  return lines
    .map((line, index) => {
      const cells = line.map((cell, column) => {
        const width = widths[column] ?? 0;
        return toTheRight[column] ? cell.padStart(width) : cell.padEnd(width);
      });
      const text = cells.join('  ').trimEnd();
      return `${index === 0 ? bold(text) : text}\n`;
    })
    .join('');
}

/** One value as indented JSON. */
export function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** An error as a program reads it. */
export function errorJson(error: unknown): object {
  if (error instanceof ConfigError) return { code: error.code, message: error.message, issues: error.issues };
  if (error instanceof UsageError) {
    return { code: error.code, message: error.problems.join('; '), problems: error.problems };
  }
  if (error instanceof MeshError) return { code: error.code, message: error.message };
  return { code: 'MESH_FAILURE', message: messageOf(error) };
}

/** An error as a person reads it; ends with a newline. */
export function errorText(error: unknown, colour: boolean): string {
  if (error instanceof ConfigError) return `${error.pretty({ colour })}\n`;
  return `${picocolors.createColors(colour).red('error')}: ${messageOf(error)}\n`;
}

/** Tells an error in the form that was asked for, and gives the exit code for it. */
export function tellError(world: World, error: unknown, format: Format = 'text'): ExitCode {
  if (format === 'json') world.stdout.write(json({ error: errorJson(error) }));
  else world.stderr.write(errorText(error, hasColours(world.stderr, world.env)));
  return exitCodeOf(error);
}

/** What the user can mend in a setting or a configuration is 64, everything else 1. */
function exitCodeOf(error: unknown): ExitCode {
  if (error instanceof UsageError || error instanceof ConfigError) return ExitCode.usage;
  // A port in use, a missing certificate: settings too.
  return error instanceof MeshError && !/^MESH_(CORE|ETCD|INTERNAL|STATE)/.test(error.code)
    ? ExitCode.usage
    : ExitCode.failure;
}

/** Wrong usage, all of it: one line for each problem. */
export class UsageError extends MeshError {
  static {
    this.prototype.name = 'UsageError';
  }

  /** One line each. */
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super('MESH_USAGE', problems.join('\n       '));
    this.problems = problems;
  }
}
