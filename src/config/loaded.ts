/**
 * What do a configuration and a mesh file have in common once they are loaded?
 *
 * What was written, where it was, and what it means: that is worked out once, when somebody asks.
 */

import { createHash } from 'node:crypto';
import type { ConfigError } from './errors.js';
import type { RawIssue } from './issues.js';
import { type Origin, rawIssues, refusal } from './origin.js';
import { type Path, existingPart, parsePath } from './path.js';
import type { ResourceIssue } from './resources.js';
import type { SourceMap } from './source-map.js';

/** What the two builds of this package, for `import` and `require`, know by which kind the other has loaded. */
const BRAND = Symbol.for('@mesh/proxy/loaded');

/** What is loaded. */
type Kind = 'config' | 'mesh';

/** A file, a text or an object whose shape is right. */
export abstract class Loaded<Config, Compiled extends { readonly sources: SourceMap }> {
  /** What was written. */
  readonly config: Config;
  /** The file, as given. */
  readonly file: string | undefined;
  readonly #origin: Origin;
  #hash: string | undefined;
  #compiled: Compiled | undefined;

  protected constructor(kind: Kind, config: Config, origin: Origin) {
    Object.defineProperty(this, BRAND, { value: kind });
    this.config = config;
    this.file = origin.file;
    this.#origin = origin;
  }

  /** Works out what it means. */
  protected abstract compile(folder: string | undefined): Compiled;

  /** What the files say that are read with it, where it goes by more than their names. */
  protected dependsOn(): readonly string[] {
    return [];
  }

  /** Changes when the text or object does, or what it depends on. */
  get hash(): string {
    if (this.#hash === undefined) {
      const hash = createHash('sha256').update(this.#origin.text ?? JSON.stringify(this.config));
      for (const text of this.dependsOn()) hash.update('\0').update(text);
      this.#hash = hash.digest('hex');
    }
    return this.#hash;
  }

  /** Where it was read. */
  protected get origin(): Origin {
    return this.#origin;
  }

  /** What it means. */
  get compiled(): Compiled {
    this.#compiled ??= this.compile(this.#origin.folder);
    return this.#compiled;
  }

  /** The error for what the core found wrong with the resources, each issue where it was written. */
  explain(issues: readonly ResourceIssue[]): ConfigError {
    const raw = rawIssues(issues, (path) => this.source(path));
    return this.refuse(raw.map((issue) => this.advised(issue)));
  }

  /** A mistake that the core found, with what to do where what was written tells that. */
  protected advised(issue: RawIssue): RawIssue {
    return issue;
  }

  /** The error for mistakes that somebody else found, each in its place. */
  refuse(issues: readonly RawIssue[]): ConfigError {
    return refusal(issues, this.#origin);
  }

  /** The part of what was written that made a piece of the resources. */
  protected source(resource: string): Path {
    return existingPart(this.config, this.compiled.sources.find(parsePath(resource)));
  }
}

/** Whether it was loaded, by whichever build. */
export function isLoaded(value: unknown, kind: Kind): boolean {
  return typeof value === 'object' && value !== null && (value as { [BRAND]?: unknown })[BRAND] === kind;
}
