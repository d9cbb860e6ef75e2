// What the tests of the manual share: its pages, their code blocks, and ports that are free instead of those it names.

import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { closedPort } from '../support/tcp.js';

/** The pages of the manual. */
export const pages = readdirSync('docs')
  .filter((name) => name.endsWith('.md'))
  .map((name) => join('docs', name));

export function page(path: string): string {
  return readFileSync(path, 'utf8');
}

/** The code blocks of a page in one language, in their order. */
export function blocks(path: string, language: string): string[] {
  return Array.from(
    page(path).matchAll(new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\``, 'gm')),
    ([, text = '']) => text,
  );
}

/** A page with the table below its mark, which is made and not written. With UPDATE_DOCS=1 it is written. */
export function generated(path: string, table: string): { is: string; shouldBe: string } {
  const is = page(path);
  const mark = /<!-- generated: .* -->\n/.exec(is);
  if (!mark) throw new Error(`${path} has no mark for its table`);
  const shouldBe = `${is.slice(0, mark.index)}${mark[0]}\n${table}`;
  if (process.env['UPDATE_DOCS']) writeFileSync(path, shouldBe);
  return { is: page(path), shouldBe };
}

/** Free ports in place of the fixed ones that the manual names: the same one each time. */
export class Ports {
  readonly #ports: Map<string, number>;

  /** `known` are those that the test serves itself. */
  constructor(known: Record<string, number> = {}) {
    this.#ports = new Map(Object.entries(known));
  }

  async of(port: string): Promise<number> {
    const known = this.#ports.get(port);
    if (known !== undefined) return known;
    const free = await closedPort();
    this.#ports.set(port, free);
    return free;
  }

  async in(text: string): Promise<string> {
    for (const [, port = ''] of text.matchAll(/127\.0\.0\.1:(\d+)/g)) await this.of(port);
    return text.replaceAll(/127\.0\.0\.1:(\d+)/g, (_, port: string) => `127.0.0.1:${this.#ports.get(port)}`);
  }

  /** The text with the manual's ports again. */
  back(text: string): string {
    let result = text;
    for (const [port, free] of this.#ports) result = result.replaceAll(String(free), port);
    return result;
  }
}
