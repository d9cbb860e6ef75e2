/**
 * How does JavaScript ask the model in WebAssembly?
 *
 * Texts cross the border by length and place: we ask for room, write UTF-8 there, call, and read the answer where it
 * lies (`bindings/wasm`, the other side). A module that traps has met a defect: its instance is thrown away with the
 * memory that it may have left half written, and the next call has a new one.
 */

import type { ResourceIssue, Resources } from '../config/resources.js';
import { type Decision, type DescribedRequest, asJson, readDecision } from '../decision.js';
import { InternalError } from '../mesh-error.js';

/** What the module exports. */
interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer };
  mesh_input(which: number, length: number): number;
  mesh_validate(): number;
  mesh_route(): number;
  mesh_output(): number;
}

/** A `WebAssembly.Module`. */
export type CompiledModule = object;

/** The part of `WebAssembly` that is used; TypeScript knows it only together with everything else of a browser. */
interface WebAssemblyApi {
  readonly Module: new (bytes: Uint8Array) => CompiledModule;
  readonly Instance: new (module: CompiledModule, imports: object) => { readonly exports: unknown };
  compile(bytes: ArrayBuffer | Uint8Array): Promise<CompiledModule>;
  compileStreaming(response: Response): Promise<CompiledModule>;
}

const webAssembly = (): WebAssemblyApi =>
  (globalThis as unknown as { WebAssembly: WebAssemblyApi }).WebAssembly;

/** A module, compiled unless it is already. */
export async function compile(source: ArrayBuffer | Uint8Array | CompiledModule): Promise<CompiledModule> {
  const isBytes = source instanceof ArrayBuffer || ArrayBuffer.isView(source);
  return isBytes ? webAssembly().compile(source as ArrayBuffer | Uint8Array) : source;
}

/** The same of bytes, while everybody waits. */
export function compileNow(bytes: Uint8Array): CompiledModule {
  return new (webAssembly().Module)(bytes);
}

/** A module compiled while it arrives, where its server names its type; else once it is there. */
export async function compileResponse(response: Response): Promise<CompiledModule> {
  if (!response.ok) throw new TypeError(`${response.url} answered ${response.status}`);
  const isNamed = response.headers.get('content-type') === 'application/wasm';
  return isNamed ? webAssembly().compileStreaming(response) : compile(await response.arrayBuffer());
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** The model: what it decides here is what the proxy decides. Made by `loadModel`. */
export class Model {
  readonly #module: CompiledModule;
  #exports: Exports | undefined;

  constructor(module: CompiledModule) {
    this.#module = module;
  }

  /** Everything that is wrong with resources, an object or its JSON text; empty when they are right. */
  validate(resources: Resources | string): ResourceIssue[] {
    return JSON.parse(this.#ask('mesh_validate', [resources])) as ResourceIssue[];
  }

  /**
   * Which listener, route and cluster a request would take, and if none, why.
   *
   * @throws {InputError} when the resources or the description are wrong, with every mistake
   */
  route(resources: Resources | string, request: DescribedRequest): Decision {
    return readDecision(this.#ask('mesh_route', [resources, request]));
  }

  /** Makes one call with one or two texts, and reads its answer. */
  #ask(call: 'mesh_validate' | 'mesh_route', values: readonly (object | string)[]): string {
    const texts = values.map((value) => encoder.encode(asJson(value)));
    try {
      this.#exports ??= new (webAssembly().Instance)(this.#module, {}).exports as Exports;
      const core = this.#exports;
      for (const [which, bytes] of texts.entries()) {
        const place = core.mesh_input(which, bytes.length);
        // Asked for anew each time: the memory grows, and its buffer is then another one.
        new Uint8Array(core.memory.buffer, place, bytes.length).set(bytes);
      }
      const length = core[call]();
      return decoder.decode(new Uint8Array(core.memory.buffer, core.mesh_output(), length));
    } catch (cause) {
      this.#exports = undefined;
      throw new InternalError('the model in WebAssembly met a defect', { cause });
    }
  }
}
