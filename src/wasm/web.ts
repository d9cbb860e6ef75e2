/**
 * `@mesh/proxy/wasm` in browsers and other runtimes with `fetch`; see `node.ts`.
 *
 * Bundlers find `mesh.wasm` by the expression below and put it beside what they write. Where one does not, or where a
 * runtime compiles modules by itself, `loadModel` takes the URL, the bytes or the module:
 *
 *     import module from '@mesh/proxy/wasm/mesh.wasm';
 *     const model = await loadModel(module);
 */

import { type CompiledModule, Model, compile, compileResponse } from './model.js';

export * from './face.js';

/** Loads the model: from the URL beside this module, or from another one, a response, bytes or a `WebAssembly.Module`. */
export async function loadModel(
  source: string | URL | Response | ArrayBuffer | Uint8Array | CompiledModule = new URL(
    './mesh.wasm',
    import.meta.url,
  ),
): Promise<Model> {
  const isPlace = typeof source === 'string' || source instanceof URL;
  const from = isPlace ? await fetch(source) : source;
  return new Model(await (from instanceof Response ? compileResponse(from) : compile(from)));
}
