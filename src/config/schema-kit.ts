/**
 * What is the schema made of?
 *
 * The few builders that `schema.ts` uses: each gives its schema the message that a reader sees and the documentation
 * that the generators print, so that no key can be without either.
 */

import { z } from 'zod';
import * as formats from './formats.js';
import type { Format } from './formats.js';

/** What the generators know of a schema beside its shape. */
interface Doc extends Record<string, unknown> {
  /** The name of a part that is documented by itself. */
  id?: string;
  description?: string;
  default?: unknown;
  examples?: readonly unknown[];
  pattern?: string;
  /** What a value is called in the tables. */
  title?: string;
}

/** The documentation of every schema below. Not zod's global registry: two copies of this package must not meet there. */
export const docs: z.core.$ZodRegistry<Doc> = z.registry<Doc>();

/** Adds documentation to a schema, in place. */
export function documented<T extends z.ZodType>(schema: T, doc: Doc): T {
  docs.add(schema, doc);
  return schema;
}

const U32 = 4_294_967_295;

/** A text in one of the formats. */
export function text(format: Format): z.ZodString {
  const error = `expected ${format.expected}`;
  const { title, pattern, examples } = format;
  return documented(z.string({ error }).refine(format.accepts, { error }), {
    title,
    ...(pattern && { pattern }),
    ...(examples && { examples }),
  });
}

/** What parts the sentence of a mistake from what to do about it; `issues.ts` is told both. */
export const BUT = '; ';

/** A whole number. `notZero` says what to write for a 0 that is none of them. */
export function whole(minimum: number, maximum = U32, notZero?: string): z.ZodInt {
  const expected = `expected a whole number, ${minimum.toLocaleString('en')} to ${maximum.toLocaleString('en')}`;
  const error = ({ input }: { input?: unknown }): string =>
    input === 0 && notZero !== undefined ? `${expected}${BUT}${notZero}` : expected;
  return z.int({ error }).min(minimum, { error }).max(maximum, { error });
}

export const flag = (): z.ZodBoolean => z.boolean({ error: 'expected true or false' });

export const oneOf = <const T extends readonly string[]>(
  ...values: T
): z.ZodEnum<z.core.util.ToEnum<T[number]>> =>
  z.enum(values, { error: `expected ${new Intl.ListFormat('en', { type: 'disjunction' }).format(values)}` });

/** Keys that exclude each other. */
interface Choice {
  readonly keys: readonly string[];
  readonly amount: 'exactly one' | 'at most one' | 'all or none';
}

export const exactlyOne = (...keys: string[]): Choice => ({ keys, amount: 'exactly one' });
export const atMostOne = (...keys: string[]): Choice => ({ keys, amount: 'at most one' });

export const together = (...keys: string[]): Choice => ({ keys, amount: 'all or none' });

/** An object without other keys. `description` documents the part, `id` names it, `choices` bind its keys. */
export function part<T extends z.core.$ZodLooseShape>(
  id: string,
  description: string,
  shape: T,
  ...choices: Choice[]
): z.ZodObject<T, z.core.$strict> {
  const object = z
    .strictObject(shape, { error: sectionError(Object.keys(shape)) })
    .check(...choices.map(checkOf));
  return documented(object, { id, description, ...rulesOf(choices) });
}

function checkOf({ keys, amount }: Choice): z.core.$ZodCheck<object> {
  const counts = { 'exactly one': [1], 'at most one': [0, 1], 'all or none': [0, keys.length] }[amount];
  return z.refine<object>(
    (value) =>
      counts.includes(keys.filter((key) => (value as Record<string, unknown>)[key] !== undefined).length),
    {
      error:
        amount === 'all or none'
          ? `expected ${keys.join(' and ')} together`
          : `expected ${amount} of ${keys.join(', ')}`,
      // Also when other keys have mistakes: all are told at once.
      when: ({ value }) => typeof value === 'object' && value !== null && !Array.isArray(value),
    },
  );
}

/** The same in the words of JSON Schema. */
function rulesOf(choices: readonly Choice[]): Doc {
  const keysOf = (amount: Choice['amount']) =>
    choices.filter((choice) => choice.amount === amount).map(({ keys }) => keys);
  const others = (keys: readonly string[], key: string) => keys.filter((other) => other !== key);
  const one = keysOf('exactly one')[0];
  const pairs = keysOf('at most one').flatMap((keys) =>
    keys.flatMap((key, index) => keys.slice(index + 1).map((other) => ({ required: [key, other] }))),
  );
  const needs = keysOf('all or none').flatMap((keys) => keys.map((key) => [key, others(keys, key)]));
  return {
    ...(one && { oneOf: one.map((key) => ({ required: [key] })) }),
    ...(pairs.length > 0 && { not: { anyOf: pairs } }),
    ...(needs.length > 0 && { dependentRequired: Object.fromEntries(needs) }),
  };
}

/** What `issues.ts` is told: of an unknown key, the keys that are known; else a sentence. */
const sectionError =
  (keys: readonly string[]) =>
  (issue: z.core.$ZodRawIssue): string =>
    issue.code === 'unrecognized_keys' ? keys.join(' ') : 'expected keys and values';

/** A key that may be left out. */
export function may<T extends z.ZodType>(schema: T, description: string, doc: Doc = {}): z.ZodOptional<T> {
  const { examples } = docs.get(schema) ?? {};
  return documented(schema.optional(), { description, ...(examples && { examples }), ...doc });
}

/** A key that must be there. */
export function must<T extends z.ZodType>(schema: T, description: string): T {
  const { id: _, ...inherited } = docs.get(schema) ?? {};
  return documented(schema.clone() as T, { ...inherited, description });
}

export const list = <T extends z.ZodType>(item: T, what: string): z.ZodArray<T> =>
  z.array(item, { error: `expected a list of ${what}` });

export const listOf = <T extends z.ZodType>(item: T, expected: string): OneOrMore<T> =>
  z.union([item, z.array(item)], { error: `expected ${expected}` });

/** Names with values. A name that is none is told beside the mistakes in its value. */
export function named<T extends z.ZodType>(
  format: Format,
  value: T,
  error: string,
): z.ZodRecord<z.ZodString, T> {
  const { pattern, expected } = format;
  const key = documented(z.string(), { ...docs.get(text(format)), ...(pattern && { pattern }) });
  return z.record(key, value, { error }).check(
    z.superRefine<Record<string, unknown>>(
      (given, { addIssue }) => {
        for (const name of Object.keys(given)) {
          if (format.accepts(name)) continue;
          addIssue({
            code: 'invalid_key',
            origin: 'record',
            path: [name],
            input: given,
            issues: [{ code: 'custom', path: [], message: `expected ${expected}`, input: name }],
          });
        }
      },
      { when: ({ value: given }) => typeof given === 'object' && given !== null && !Array.isArray(given) },
    ),
  );
}

export const map = <T extends z.ZodType>(value: T, what: string): z.ZodRecord<z.ZodString, T> =>
  z.record(text(formats.name), value, { error: `expected ${what}` });

export const duration = (): z.ZodString => text(formats.duration);
type OneOrMore<T extends z.ZodType> = z.ZodUnion<[T, z.ZodArray<T>]>;

export const hosts = (): OneOrMore<z.ZodString> =>
  listOf(text(formats.hostPattern), formats.hostPattern.expected);
export const headerTexts = (): OneOrMore<z.ZodString> =>
  listOf(text(formats.text), 'text, or a list of texts');

export const bytes = (minimum: number, maximum = U32): z.ZodUnion<[z.ZodInt, z.ZodString]> =>
  z.union([whole(minimum, maximum), text(formats.size)], { error: `expected ${formats.size.expected}` });
