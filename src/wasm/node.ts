/**
 * `@mesh/proxy/wasm` in Node: validate resources and ask which way a request takes, without the native core.
 *
 *     import { loadModel } from '@mesh/proxy/wasm';
 *
 *     const model = await loadModel();
 *     model.validate(resources);
 *     model.route(resources, { url: 'http://shop.test/api/items' });
 */

import { readFile } from 'node:fs/promises';
import { type CompiledModule, Model, compile } from './model.js';

export * from './face.js';

/** Loads the model: from the file of this package, or from another file, its bytes or a `WebAssembly.Module`. */
export async function loadModel(
  source: string | URL | ArrayBuffer | Uint8Array | CompiledModule = new URL('./mesh.wasm', import.meta.url),
): Promise<Model> {
  const isFile = typeof source === 'string' || source instanceof URL;
  return new Model(await compile(isFile ? await readFile(source) : source));
}
