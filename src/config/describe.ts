/**
 * What else is made of the schema?
 *
 * The JSON Schema for editors, the TypeScript types with their documentation, and the tables of the manual: pure
 * functions from a schema to text. `generate.ts` writes the files.
 */

import { z } from 'zod';
import { schema } from './schema.js';
import { docs } from './schema-kit.js';

/** The parts of JSON Schema that the schema uses. */
interface Node {
  $ref?: string;
  type?: string;
  const?: unknown;
  enum?: unknown[];
  anyOf?: Node[];
  oneOf?: Node[];
  items?: Node;
  properties?: Record<string, Node>;
  additionalProperties?: Node | false;
  required?: string[];
  title?: string;
  description?: string;
  default?: unknown;
  examples?: unknown[];
  [other: string]: unknown;
}

/** A schema that something is made of. */
export interface Book {
  readonly schema: z.ZodType;
  /** The name of its outermost part. */
  readonly root: string;
  /** What editors call it. */
  readonly title: string;
  /** The file it is written in. */
  readonly source: string;
  /** A book whose parts it uses: they are described there. */
  readonly beside?: { readonly book: Book; readonly types: string; readonly page: string };
}

/** The configuration of a proxy. */
export const CONFIG: Book = {
  schema,
  root: 'Config',
  title: 'Configuration of @mesh/proxy',
  source: 'schema.ts',
};

/** The JSON Schema (draft 2020-12) of a book. */
export function jsonSchema(book = CONFIG): Node {
  const made = z.toJSONSchema(book.schema, { io: 'input', metadata: docs, target: 'draft-2020-12' }) as Node;
  return {
    $schema: made.$schema,
    title: book.title,
    $ref: made.$ref,
    $defs: made.$defs,
  } as Node;
}

/** The named parts, in the order in which a reader meets them. */
function parts(book: Book): [name: string, node: Node][] {
  const all = jsonSchema(book).$defs as Record<string, Node>;
  const seen = new Set<string>();
  const visit = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return;
    const { $ref } = value as Node;
    const name = $ref?.slice('#/$defs/'.length);
    if (name !== undefined && !seen.has(name)) {
      seen.add(name);
      visit(all[name]);
    }
    for (const child of Object.values(value)) visit(child);
  };
  visit({ $ref: `#/$defs/${book.root}` });
  return [...seen].map((name) => [name, all[name] ?? {}]);
}

const refName = (node: Node): string | undefined => node.$ref?.slice('#/$defs/'.length);

/** The alternatives of a node that is one of several; `oneOf` beside `properties` is a rule on keys instead. */
const alternatives = (node: Node): Node[] | undefined =>
  node.anyOf ?? (node.properties ? undefined : node.oneOf);

// Types -----------------------------------------------------------------------------------------------------------

const typeName = (id: string): string => (id === 'Config' ? id : `${id}Config`);

/** The names of the parts that another book describes. */
function foreign({ beside }: Book): ReadonlySet<string> {
  return new Set(beside && parts(beside.book).map(([name]) => name));
}

/** The TypeScript source of `types.ts`. */
export function typeDeclarations(book = CONFIG): string {
  const others = foreign(book);
  const own = parts(book).filter(([name]) => !others.has(name));
  const declarations = own.map(([name, node]) => {
    const head = comment(node, '');
    return node.properties
      ? `${head}export interface ${typeName(name)} {\n${members(node)}}\n`
      : `${head}export type ${typeName(name)} = ${typeOf(node)};\n`;
  });
  const top = `// Made from ${book.source} by generate.ts: change the schema, then run \`node dist/generate.js --sources\`.\n`;
  const used = [...others].filter((name) => own.some(([, node]) => refers(node, name)));
  const taken =
    book.beside &&
    `import type { ${used.map(typeName).toSorted().join(', ')} } from '${book.beside.types}';\n`;
  return [top, ...(taken ? [taken] : []), ...declarations].join('\n');
}

/** Whether a node refers to a part, itself and not through others. */
function refers(value: unknown, name: string): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if ((value as Node).$ref === `#/$defs/${name}`) return true;
  return Object.values(value).some((child) => refers(child, name));
}

function members(node: Node): string {
  const lines = Object.entries(node.properties ?? {}).map(([key, value]) => {
    const optional = node.required?.includes(key) ? '' : '?';
    return `${comment(value, '  ')}  ${key}${optional}: ${typeOf(value)};\n`;
  });
  return lines.join('');
}

function comment({ description, default: fallback }: Node, indent: string): string {
  const words = [description, fallback === undefined ? undefined : `Default: ${plain(fallback)}.`];
  return `${indent}/** ${words.filter(Boolean).join(' ')} */\n`;
}

function typeOf(node: Node): string {
  const ref = refName(node);
  if (ref !== undefined) return typeName(ref);
  const choices = alternatives(node);
  if (choices) return [...new Set(choices.map(typeOf))].join(' | ');
  if (node.const !== undefined) return literal(node.const);
  if (node.enum) return node.enum.map(literal).join(' | ');
  if (node.type === 'array') {
    const item = typeOf(node.items ?? {});
    return item.includes(' ') ? `(${item})[]` : `${item}[]`;
  }
  if (node.type === 'object') return `Record<string, ${typeOf((node.additionalProperties || {}) as Node)}>`;
  return node.type === 'integer' ? 'number' : (node.type ?? 'unknown');
}

const literal = (value: unknown): string => (typeof value === 'string' ? `'${value}'` : `${value}`);

// Tables ----------------------------------------------------------------------------------------------------------

/** The Markdown tables of every part and key. */
export function referenceTables(book = CONFIG): string {
  const others = foreign(book);
  const named: Named = {
    parts: new Map(parts(book)),
    pageOf: (name) => (others.has(name) ? (book.beside?.page ?? '') : ''),
  };
  const sections = [...named.parts]
    .filter(([name, node]) => node.properties && !others.has(name))
    .map(([name, node]) => {
      const rows = Object.entries(node.properties ?? {}).map(([key, value]) => {
        const required = node.required?.includes(key) ? ' (required)' : '';
        const fallback = value.default === undefined ? '' : ` Default: ${shown(value.default)}.`;
        return `| \`${key}\`${required} | ${kindOf(value, named)} | ${escaped(value.description ?? '')}${fallback} |`;
      });
      const title = name === book.root ? 'The whole' : name;
      return [
        `### ${title}`,
        '',
        node.description,
        '',
        '| key | value | meaning |',
        '| --- | --- | --- |',
        ...rows,
        '',
      ].join('\n');
    });
  return sections.join('\n');
}

/** The parts by name, and the page that describes each; empty for this one. */
interface Named {
  readonly parts: ReadonlyMap<string, Node>;
  pageOf(name: string): string;
}

function kindOf(node: Node, named: Named): string {
  const inner = (other: Node | false | undefined): string => kindOf(other || {}, named);
  const ref = refName(node);
  if (ref !== undefined) {
    const part = named.parts.get(ref);
    return part?.properties ? `[${ref}](${named.pageOf(ref)}#${ref.toLowerCase()})` : inner(part);
  }
  const choices = alternatives(node);
  if (choices) return [...new Set(choices.map(inner))].join(' or ');
  if (node.const !== undefined) return `\`${node.const}\``;
  if (node.enum) return node.enum.map((value) => `\`${value}\``).join(', ');
  if (node.type === 'array') return `list of ${inner(node.items)}`;
  if (node.type === 'object') return `map of ${inner(node.additionalProperties)}`;
  return node.title ?? { integer: 'number', boolean: '`true`, `false`' }[node.type ?? ''] ?? node.type ?? '';
}

const escaped = (text: string): string => text.replaceAll('|', '\\|');

/** A default, as words or as code: what has a space in it is a sentence. */
function shown(value: unknown): string {
  const text = plain(value);
  return /^\S+$/.test(text) || text.startsWith('text/') ? `\`${text}\`` : text;
}

function plain(value: unknown): string {
  if (typeof value === 'number') return value.toLocaleString('en');
  return typeof value === 'string' ? value || "''" : JSON.stringify(value);
}
