// Is the module loaded from wherever it may be, and does a defect in it stay in it?

import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import binaryen from 'binaryen';
import { build } from 'esbuild';
import type { CompiledModule } from '../../src/wasm/model.js';
import { InternalError, loadModel } from '../../src/wasm/node.js';
import { loadModel as loadInBrowser } from '../../src/wasm/web.js';
import { good } from './support.js';

interface Instance {
  readonly exports: Record<string, (...args: number[]) => number> & { memory: { buffer: ArrayBuffer } };
}

interface WebAssemblyApi {
  readonly Module: {
    new (bytes: Uint8Array): CompiledModule;
    exports(module: CompiledModule): { name: string; kind: string }[];
    imports(module: CompiledModule): unknown[];
  };
  readonly Instance: new (module: CompiledModule, imports: object) => Instance;
}

const { WebAssembly } = globalThis as unknown as { WebAssembly: WebAssemblyApi };
const file = join('dist', 'wasm', 'mesh.wasm');
const bytes = readFileSync(file);
const module = new WebAssembly.Module(bytes);
const [{ resources }] = good as [(typeof good)[0]];

/** A server that has one thing; its URL. */
async function serve(t: ExecutionContext, status: number, type: string, body: Uint8Array): Promise<string> {
  const server = createServer((_, response) => {
    response.writeHead(status, { 'content-type': type }).end(body);
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/mesh.wasm`;
}

test('it asks nothing of its host and shows no more than it must', (t) => {
  t.deepEqual(WebAssembly.Module.imports(module), []);
  const functions = WebAssembly.Module.exports(module).filter(({ kind }) => kind === 'function');
  t.deepEqual(functions.map(({ name }) => name).toSorted(), [
    'mesh_input',
    'mesh_output',
    'mesh_route',
    'mesh_validate',
  ]);
});

test('Node: from the package, a file, bytes, a module', async (t) => {
  const array = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  for (const source of [undefined, file, new URL(`file://${process.cwd()}/${file}`), bytes, array, module]) {
    const model = await loadModel(source);
    t.deepEqual(model.validate(resources), []);
  }
  await t.throwsAsync(loadModel('nowhere.wasm'), { code: 'ENOENT' });
  await t.throwsAsync(loadModel(new Uint8Array(8)), { name: 'CompileError' });
});

test('browsers: from a URL whatever type its server names, a response, bytes, a module', async (t) => {
  const named = await serve(t, 200, 'application/wasm', bytes);
  const unnamed = await serve(t, 200, 'application/octet-stream', bytes);
  for (const source of [named, new URL(named), unnamed, await fetch(named), bytes, module]) {
    const model = await loadInBrowser(source);
    t.deepEqual(model.validate(resources), []);
  }
  const missing = await serve(t, 404, 'text/plain', Buffer.from('not found'));
  await t.throwsAsync(loadInBrowser(missing), { message: /mesh\.wasm answered 404/ });
});

test('a bundle for browsers holds nothing of Node, and names the file for bundlers to find', async (t) => {
  const { outputFiles } = await build({
    entryPoints: [join('dist', 'wasm', 'web.js')],
    bundle: true,
    format: 'esm',
    platform: 'browser',
    write: false,
    logLevel: 'silent',
  });
  const text = outputFiles[0]?.text ?? '';
  t.true(text.includes('new URL("./mesh.wasm", import.meta.url)'));
  t.true(text.length < 16_384, `${text.length} bytes`);
});

test('a defect is an error, and the next call has a new instance', async (t) => {
  // Its one function traps in the first call of an instance, and in no other.
  const trap = binaryen.parseText(`(module
    (memory (export "memory") 1)
    (global $called (mut i32) (i32.const 0))
    (func (export "mesh_input") (param i32 i32) (result i32) (i32.const 0))
    (func (export "mesh_output") (result i32) (i32.const 0))
    (func (export "mesh_validate") (result i32)
      (if (i32.eqz (global.get $called)) (then (global.set $called (i32.const 1)) (unreachable)))
      (i32.const 2)))`);
  const model = await loadModel(trap.emitBinary());
  for (const _ of [1, 2]) {
    const error = t.throws(() => model.validate('[]'), { instanceOf: InternalError });
    t.is(error?.code, 'MESH_INTERNAL');
    t.like(error?.cause, { name: 'RuntimeError' });
  }
});

test('memory does not grow with the number of calls', (t) => {
  const { exports } = new WebAssembly.Instance(module, {});
  const text = new TextEncoder().encode(JSON.stringify(resources));
  const call = (): number => {
    const place = exports['mesh_input']?.(0, text.length) ?? 0;
    new Uint8Array(exports.memory.buffer, place, text.length).set(text);
    t.is(exports['mesh_validate']?.(), 2);
    return exports.memory.buffer.byteLength;
  };
  const first = Array.from({ length: 20 }, call).at(-1);
  const last = Array.from({ length: 500 }, call).at(-1);
  t.is(last, first);
});
