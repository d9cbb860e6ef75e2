/**
 * Where does a value stand in its file?
 *
 * Parses YAML 1.2 (and with it JSON) once, and keeps the positions. Input is bounded before it costs anything: size,
 * depth, and the number of values after aliases are followed, so that a few lines can't stand for a billion.
 */

import {
  type Alias,
  LineCounter,
  type Node,
  type Pair,
  type YAMLError,
  isAlias,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  parseDocument,
  visit,
} from 'yaml';
import { messageOf } from '../thrown.js';
import type { Path } from './path.js';

/** 10,000 routes of 300 bytes are 3 MB; parsing takes about a second for each of them. */
export const MAX_BYTES = 8 * 1024 * 1024;
/** One for each of 10,000 routes; the time to follow them grows with the square of their number. */
const MAX_ALIASES = 10_000;
/** Ours has ten levels. */
const MAX_DEPTH = 64;
/** Ten times what 10,000 rich routes hold. */
const MAX_VALUES = 2_000_000;

/** More of one kind are not told. */
const MAX_PROBLEMS = 100;

/** A place in a text; both count from 1. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

/** Why a text or value can't be read at all. */
interface ReadProblem {
  readonly message: string;
  readonly suggestion?: string;
  readonly position?: Position;
}

/** A parsed text: its plain value, or what is wrong with it, and where everything stands. */
export class SourceDocument {
  readonly value: unknown;
  readonly problems: readonly ReadProblem[];
  readonly #root: Node | null;
  readonly #document: ReturnType<typeof parseDocument>;
  readonly #lines = new LineCounter();

  constructor(text: string) {
    this.#document = parseDocument(text, {
      lineCounter: this.#lines,
      version: '1.2',
      // Also where a text says that it is of another version. No tag makes a value that JSON does not know, such as a date
      // or an ordered map: the schema would find nothing in it.
      schema: 'core',
      resolveKnownTags: false,
      merge: true,
      uniqueKeys: true,
      stringKeys: true,
      prettyErrors: false,
    });
    this.#root = this.#document.contents;
    const problems = independent([...this.#document.errors, ...this.#document.warnings]).map((error) =>
      this.#problem(error, text),
    );
    problems.push(...this.#brokenAliases(text));
    if (problems.length === 0) {
      try {
        // Values are counted below, which also stops a bomb made of values that are not aliases.
        this.value = this.#document.toJS({ maxAliasCount: -1 });
      } catch (error) {
        problems.push({ message: messageOf(error) });
      }
    }
    const excess = problems.length === 0 ? excessOf(this.value) : undefined;
    if (excess) problems.push(excess);
    this.problems = problems;
  }

  /** Where a value, or the key before it, begins; of the nearest one around it when it isn't there. */
  locate(path: Path, part: 'key' | 'value'): Position | undefined {
    let node: Node | null = this.#root;
    let found: Node | null = node;
    for (const [index, step] of path.entries()) {
      const pair = this.#pairAt(node, step);
      if (!pair) break;
      node = isNode(pair.value) ? pair.value : null;
      const wantsKey = part === 'key' && index === path.length - 1;
      // A value that is missing (`tls:`) has no place of its own; its key has.
      const empty = !node?.range || (isScalar(node) && node.range[0] === node.range[1]);
      found = (wantsKey || empty) && isNode(pair.key) ? pair.key : (node ?? found);
      if (!node) break;
    }
    return found?.range ? this.#position(found.range[0]) : undefined;
  }

  /** The entry of a map or list, also one that a map takes over from another by `<<`. */
  #pairAt(written: unknown, step: string | number): Pick<Pair, 'key' | 'value'> | undefined {
    const node = isAlias(written) ? written.resolve(this.#document) : written;
    if (isSeq(node) && typeof step === 'number')
      return step in node.items ? { key: null, value: node.items[step] } : undefined;
    if (!isMap(node)) return undefined;
    const own = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(step));
    if (own) return own;
    for (const { key, value } of node.items) {
      if (!isScalar(key) || key.source !== '<<') continue;
      for (const source of isSeq(value) ? value.items : [value]) {
        const taken = this.#pairAt(source, step);
        if (taken) return taken;
      }
    }
    return undefined;
  }

  #position(offset: number): Position {
    const { line, col } = this.#lines.linePos(offset);
    return { line, column: col };
  }

  /** Aliases of nothing, which mostly were not meant as aliases, merges that never end, and too many of either. */
  #brokenAliases(text: string): ReadProblem[] {
    const anchors = new Map<string, Node>();
    const targets = new Map<Alias, Node>();
    let aliases = 0;
    let merges = 0;
    const broken: ReadProblem[] = [];
    visit(this.#document, (_, node, path) => {
      if (isAlias(node)) {
        aliases += 1;
        const target = anchors.get(node.source);
        if (target) {
          targets.set(node, target);
          const merge = mergeOf(path);
          if (!merge) return;
          merges += 1;
          const sources = isSeq(target) ? target.items.map((item) => followed(item, targets)) : [target];
          if (!sources.some((source) => path.includes(source as Node))) return;
          if (broken.length >= MAX_PROBLEMS) return;
          const position = this.#position((isNode(merge.key) && merge.key.range?.[0]) || 0);
          broken.push({ message: `*${node.source} merges keys and values into themselves`, position });
          return;
        }
        if (!node.range || broken.length >= MAX_PROBLEMS) return;
        const position = this.#position(node.range[0]);
        const suggestion = syntaxAdvice('alias', text.split('\n', position.line).at(-1) ?? '');
        broken.push({
          message: `*${node.source} refers to nothing`,
          position,
          ...(suggestion && { suggestion }),
        });
      } else if (isNode(node) && node.anchor) {
        anchors.set(node.anchor, node);
      }
    });
    if (aliases > MAX_ALIASES) {
      broken.push({
        message: `expected at most ${MAX_ALIASES.toLocaleString('en')} aliases, found ${aliases}`,
      });
    }
    if (merges > 0 && broken.length === 0 && mergedValues(this.#root, targets) > MAX_VALUES) {
      broken.push({ message: `expected at most ${MAX_VALUES.toLocaleString('en')} values, merges followed` });
    }
    return broken;
  }

  #problem(error: YAMLError, text: string): ReadProblem {
    const position = this.#position(error.pos[0]);
    const line = text.split('\n', position.line).at(-1) ?? '';
    const suggestion =
      error.code === 'TAG_RESOLVE_FAILED'
        ? tagAdvice(text.slice(error.pos[0]))
        : syntaxAdvice(error.message, line);
    return { message: plainMessage(error, text), position, ...(suggestion && { suggestion }) };
  }
}

/** The pair `<<: *a` or `<<: [*a]` that an alias on this path belongs to. */
function mergeOf(path: readonly unknown[]): Pair | undefined {
  const around = isSeq(path.at(-1)) ? path.at(-2) : path.at(-1);
  return isPair(around) && isMerge(around.key) ? around : undefined;
}

const isMerge = (key: unknown): boolean => isScalar(key) && key.source === '<<';

const followed = (node: unknown, targets: ReadonlyMap<Alias, Node>): unknown =>
  isAlias(node) ? targets.get(node) : node;

/**
 * How many values the parser makes of a node in which nothing is merged into itself: of what is merged it makes them anew
 * each time.
 */
function mergedValues(root: unknown, targets: ReadonlyMap<Alias, Node>): number {
  const known = new Map<unknown, number>();
  const sum = (nodes: readonly unknown[]): number =>
    nodes.reduce<number>((all, node) => all + count(node), 1);
  const merged = (written: unknown): number => {
    const source = followed(written, targets);
    return isSeq(source) ? sum(source.items.map((item) => followed(item, targets))) : count(source);
  };
  const count = (node: unknown): number => {
    if (isSeq(node)) return memo(node, () => sum(node.items));
    if (!isMap(node)) return 1;
    return memo(node, () =>
      node.items.reduce((all, { key, value }) => all + (isMerge(key) ? merged(value) : count(value)), 1),
    );
  };
  const memo = (node: unknown, make: () => number): number => {
    const made = known.get(node) ?? make();
    known.set(node, made);
    return made;
  };
  return count(root);
}

/** What the parser goes on from as if nothing had been. */
const HARMLESS: ReadonlySet<string> = new Set(['DUPLICATE_KEY', 'TAG_RESOLVE_FAILED']);

/** One wrong character makes the parser stumble over the rest of the file: only the first fall is told. */
function independent(errors: readonly YAMLError[]): YAMLError[] {
  const first = errors.findIndex(({ code }) => !HARMLESS.has(code));
  return errors.filter(({ code }, index) => index === first || HARMLESS.has(code));
}

/** The parser's words, without its jargon where people meet it most. */
function plainMessage({ code, message, pos }: YAMLError, text: string): string {
  if (code === 'DUPLICATE_KEY') return 'this key stands twice';
  if (code === 'MULTIPLE_DOCS') return 'expected one document, found a second after ---';
  if (code === 'TAB_AS_INDENT') return 'expected spaces, found a tab';
  if (code === 'NON_STRING_KEY') return 'expected a text as the key';
  if (message.startsWith('Maximum call stack')) return `expected at most ${MAX_DEPTH} levels`;
  const [token] = /^\S{0,20}/.exec(text.slice(pos[0])) ?? [''];
  if (code === 'TAG_RESOLVE_FAILED') return `expected a value without the tag ${token}`;
  if (code === 'UNEXPECTED_TOKEN') return `this is not YAML: ${token || 'the end'} can't stand here`;
  return message.replace(/\n[^]*$/, '').replace(/^[A-Z](?=[a-z])/, (letter) => letter.toLowerCase());
}

/** A tag of nobody's, such as `!admin`, was meant as text. */
function tagAdvice(text: string): string | undefined {
  return /^!(?![!<])/.test(text) ? 'write a value that starts with ! in quotes' : undefined;
}

/** The traps of YAML that configurations of a proxy step into. */
function syntaxAdvice(message: string, line: string): string | undefined {
  if (/alias|anchor/i.test(message) && line.includes('*'))
    return "write a value that starts with * in quotes: '*.shop.test'";
  if (/\{[^}]*([~/][^\s,}]*[{[]|\s\{)/.test(line))
    return "inside { } write a value that holds { } or [ ] in quotes: '/users/{id}'";
  if (line.includes('\t')) return 'indent with spaces; YAML has no tabs';
  if (/:\s*\[[^\]]*\]:\d/.test(line)) return "write an IPv6 address in quotes: '[::1]:8080'";
  if (/^\s*[@`%]|:\s+[@`%]/.test(line)) return 'write the value in quotes';
  return undefined;
}

/** Refuses a value that is too deep or too large, cycles included. */
export function excessOf(value: unknown): ReadProblem | undefined {
  let left = MAX_VALUES;
  const measure = (current: unknown, depth: number): string | undefined => {
    left -= 1;
    if (left < 0) return `expected at most ${MAX_VALUES.toLocaleString('en')} values, aliases followed`;
    if (typeof current !== 'object' || current === null) return undefined;
    if (depth === MAX_DEPTH) return `expected at most ${MAX_DEPTH} levels`;
    for (const child of Object.values(current)) {
      const problem = measure(child, depth + 1);
      if (problem) return problem;
    }
    return undefined;
  };
  const message = measure(value, 0);
  return message === undefined ? undefined : { message };
}
