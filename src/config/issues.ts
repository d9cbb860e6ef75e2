/**
 * How is a mistake told?
 *
 * One shape for every mistake in a configuration, whoever found it: the file's syntax, the schema or the core. Each
 * names its place and what was expected, and says what to do where that can be known.
 */

import type { z } from 'zod';
import type { Position } from './document.js';
import { type Format, formats as configFormats } from './formats.js';
import type { Path } from './path.js';
import { renderPath, valueAt } from './path.js';
import { BUT } from './schema-kit.js';
import { instead, nearest } from './suggest.js';

/** One mistake in a configuration. */
export interface ConfigIssue {
  /** What kind of mistake: `syntax`, `unknown_key`, `missing`, `invalid`, `unreadable`, or a code of the core. */
  readonly code: string;
  /** The field, `listeners[0].routes[1].to`; empty for the whole. */
  readonly field: string;
  /** What is wrong. */
  readonly message: string;
  /** The file, when there is one. */
  readonly file?: string;
  /** The line in the text, from 1. */
  readonly line?: number;
  /** The column in the text, from 1. */
  readonly column?: number;
  /** What would be right. */
  readonly expected?: string;
  /** What was there. */
  readonly received?: string;
  /** What to do. */
  readonly suggestion?: string;
}

/** A mistake before its place is looked up. */
export interface RawIssue extends Omit<ConfigIssue, 'field' | 'file' | 'line' | 'column'> {
  readonly path: Path;
  /** Which end of the field is meant. */
  readonly part: 'key' | 'value';
  /** The place, when it is known already. */
  readonly position?: Position;
}

/** Mistakes are listed up to this number: nobody reads more, and a wrong file has thousands. */
export const MAX_ISSUES = 100;

type ZodIssue = z.core.$ZodIssue;

/** The mistakes that a schema found. `formats` are those that it uses, to find the advice that belongs to a message. */
export function fromSchema(
  issues: readonly ZodIssue[],
  formats: readonly Format[] = configFormats,
): RawIssue[] {
  const told = issues.flatMap(flatten).flatMap((issue) => explain(issue, formats));
  // A number that is too large is that for several rules, in the same words.
  return [...new Map(told.map((issue) => [`${renderPath(issue.path)} ${issue.message}`, issue])).values()];
}

/** A union fails in each of its forms; the mistake is the one in the form that was meant. */
function flatten(issue: ZodIssue): ZodIssue[] {
  if (issue.code !== 'invalid_union') return [issue];
  if ('discriminator' in issue)
    return [{ ...issue, input: valueAt(issue.input, [issue.discriminator as string]) }];
  const meant = issue.errors
    .map((branch) => branch.flatMap(flatten))
    .filter((branch) => branch.length > 0 && !branch.some(isOtherForm))
    .toSorted((a, b) => a.length - b.length)[0];
  return meant?.map((inner) => Object.assign(inner, { path: [...issue.path, ...inner.path] })) ?? [issue];
}

/** Whether a form was not meant at all: the value is of another kind. */
function isOtherForm({ code, path }: ZodIssue): boolean {
  return (
    path.length === 0 && (code === 'invalid_type' || code === 'invalid_value' || code === 'invalid_union')
  );
}

/** A value of another kind than the one that is expected. */
export function mismatch(path: Path, expected: string, received: string, suggestion?: string): RawIssue {
  return {
    code: 'invalid',
    path,
    part: 'value',
    message: `expected ${expected}, received ${received}`,
    expected,
    received,
    ...(suggestion && { suggestion }),
  };
}

const STRANGE: unique symbol = Symbol('what no file can say');

/** Stands for such a value, so that the schema says what was expected there: it takes no function anywhere. */
export function stranger(received: string, suggestion?: string): unknown {
  return Object.assign(() => {}, { [STRANGE]: { received, suggestion } });
}

/** A value as it is told, and what to write instead where any other would do as little. */
function seen(value: unknown): { received: string; suggestion?: string | undefined } {
  if (typeof value === 'function' && STRANGE in value)
    return value[STRANGE] as { received: string; suggestion?: string };
  if (typeof value === 'bigint') return { received: `the BigInt ${value}n`, suggestion: `write ${value}` };
  return { received: shown(value) };
}

function explain(issue: ZodIssue, formats: readonly Format[]): RawIssue[] {
  const path = issue.path as Path;
  if (issue.code === 'unrecognized_keys') {
    // The schema puts the keys that it knows where other issues have their sentence.
    const known = issue.message.split(' ');
    return issue.keys.map((key) => unknownKey([...path, key], key, known));
  }
  if (issue.code === 'invalid_key') {
    const [inner] = issue.issues;
    return [{ code: 'invalid', path, part: 'key', message: inner?.message ?? issue.message }];
  }
  const [expected = '', todo] = issue.message.replace(/^expected /, '').split(BUT);
  if (issue.input === undefined) {
    return [{ code: 'missing', path, part: 'value', message: `missing: expected ${expected}`, expected }];
  }
  const { received, suggestion = todo ?? advice(issue, expected, formats) } = seen(issue.input);
  return [mismatch(path, expected, received, suggestion)];
}

function unknownKey(path: Path, key: string, known: readonly string[]): RawIssue {
  return {
    code: 'unknown_key',
    path,
    part: 'key',
    message: `unknown key ${key}`,
    expected: `one of ${known.join(', ')}`,
    received: key,
    suggestion: instead(key, known),
  };
}

function advice(issue: ZodIssue, expected: string, formats: readonly Format[]): string | undefined {
  const format = formats.find((candidate) => candidate.expected === expected);
  const fromFormat = format?.advise?.(issue.input);
  if (fromFormat) return fromFormat;
  if (typeof issue.input === 'string') {
    const meant = nearest(issue.input, wordsOf(issue));
    if (meant) return `did you mean ${meant}?`;
    if (expected === 'true or false' && /^(yes|no|on|off)$/i.test(issue.input)) {
      return `write ${/^(yes|on)$/i.test(issue.input)}: YAML 1.2 knows only true and false`;
    }
  }
  if (expected.startsWith('a list of ') && typeof issue.input === 'string')
    return `write [${shown(issue.input)}]`;
  const isText = format !== undefined || /^(text|1\.)/.test(expected);
  if (isText && (typeof issue.input === 'number' || typeof issue.input === 'boolean')) {
    return `write it in quotes: '${issue.input}'`;
  }
  return undefined;
}

/** The words that would have been right. */
function wordsOf(issue: ZodIssue): string[] {
  if (issue.code === 'invalid_value') return issue.values.filter((value) => typeof value === 'string');
  if (issue.code !== 'invalid_union') return [];
  return [
    ...('options' in issue ? (issue.options as string[]) : []),
    ...issue.errors.flat().flatMap(wordsOf),
  ];
}

const LONGEST_SHOWN = 60;

/** A value for people, short and without secrets. */
function shown(value: unknown): string {
  if (value === null) return 'nothing';
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list';
  if (typeof value === 'object') {
    const keys = Object.keys(value).slice(0, 5);
    return keys.length === 0 ? 'no keys' : `{ ${keys.join(', ')} }`;
  }
  if (typeof value !== 'string') return typeof value === 'function' ? 'a function' : String(value);
  if (value.includes('-----BEGIN')) return 'PEM text';
  return JSON.stringify(value.length > LONGEST_SHOWN ? `${value.slice(0, LONGEST_SHOWN)}…` : value);
}

/** An issue in its place. `locate` finds it in the text. */
export function placed(
  raw: RawIssue,
  file: string | undefined,
  locate?: (path: Path, part: 'key' | 'value') => Position | undefined,
): ConfigIssue {
  const { path, part, position = locate?.(path, part), ...rest } = raw;
  return { ...(file !== undefined && { file }), ...position, field: renderPath(path), ...rest };
}

/** One line: `mesh.yaml:3:14: listeners[0].address: expected ..., received ...; write :8080`. */
export function renderIssue(issue: ConfigIssue): string {
  const place = [issue.file, issue.line, issue.column].filter((part) => part !== undefined).join(':');
  const said = issue.suggestion ? `${issue.message}; ${issue.suggestion}` : issue.message;
  return [place, issue.field, said].filter(Boolean).join(': ');
}

/** Lines are cut around the place when longer: minified JSON is one line. */
const WIDEST_LINE = 100;

/** All issues, each with its line of the text and a caret below the place. */
export function renderIssues(
  issues: readonly ConfigIssue[],
  text: string | undefined,
  colour: boolean,
): string {
  const paint = (code: number, words: string): string =>
    colour ? `\u001B[${code}m${words}\u001B[0m` : words;
  const lines = text?.split(/\r?\n/) ?? [];
  return issues
    .map((issue) => {
      const { suggestion, line, column, ...rest } = issue;
      const place = [issue.file, line, column].filter((part) => part !== undefined).join(':');
      const head = `${place ? `${paint(1, place)}: ` : ''}${paint(31, 'error')}: ${renderIssue({ ...rest, file: undefined } as ConfigIssue)}`;
      const source = line === undefined ? undefined : lines[line - 1];
      if (source === undefined || line === undefined || column === undefined) {
        return suggestion ? `${head}\n  ${paint(36, suggestion)}` : head;
      }
      const from = Math.max(0, Math.min(column - 1 - WIDEST_LINE / 2, source.length - WIDEST_LINE));
      const excerpt = withoutSecrets(source.slice(from, from + WIDEST_LINE));
      // Tabs stay tabs below, so that the caret stands under its place.
      const gap = excerpt.slice(0, column - 1 - from).replaceAll(/[^\t]/g, ' ');
      const margin = ' '.repeat(String(line).length);
      return [
        head,
        `  ${paint(2, `${line} |`)} ${excerpt}`,
        `  ${paint(2, `${margin} |`)} ${gap}${paint(31, '^')}${suggestion ? ` ${paint(36, suggestion)}` : ''}`,
      ].join('\n');
    })
    .join('\n');
}

/** A key given as PEM text must not end up in a log because something beside it is wrong. */
function withoutSecrets(line: string): string {
  return line.includes('PRIVATE KEY') ? line.replace(/-----BEGIN[^]*/, '-----BEGIN ...') : line;
}
