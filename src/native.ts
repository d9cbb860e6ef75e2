/**
 * The one door to the core: loads the addon for this platform and says what it exports.
 *
 * What crosses is JSON text; the shapes are those of `config/resources.ts` and `proxy/types.ts`.
 */

import { createRequire } from 'node:module';
import { CoreUnavailableError } from './errors.js';

/** A proxy of the core. */
export interface NativeProxy {
  /** Resolves with `{version, addresses: [{listener, address}]}`. */
  apply(resources: string): Promise<string>;
  /** Begins the way out; `phase()` says how far it is. */
  drain(lameDuckMs: number, workMs?: number): void;
  phase(): 'starting' | 'ready' | 'draining' | 'drained' | 'closed';
  /** Resolves when all threads are gone. */
  close(): Promise<void>;
  stats(): Promise<string>;
  metrics(): Promise<string>;
}

/** What the addon exports. */
export interface Native {
  NativeProxy: new (threads: number) => NativeProxy;
  validate(resources: string): string;
  decide(resources: string, request: string): string;
  version(): string;
}

const name = (): string => {
  if (process.platform !== 'linux') return `mesh.${process.platform}-${process.arch}.node`;
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  return `mesh.linux-${process.arch}-${header.glibcVersionRuntime ? 'gnu' : 'musl'}.node`;
};

let loaded: Native | undefined;

/** The addon, loaded at first use. */
export function native(): Native {
  if (loaded) return loaded;
  const file = `./native/${name()}`;
  try {
    loaded = createRequire(import.meta.url)(file) as Native;
    return loaded;
  } catch (cause) {
    throw new CoreUnavailableError(
      `the native core for this platform is missing or can't be loaded (${file}): build it with \`npm run build\``,
      { cause },
    );
  }
}
