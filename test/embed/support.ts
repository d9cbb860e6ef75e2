// What the tests of the embedded proxy share: a proxy that ends with the test, and programs that hold one.

import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import {
  type Config,
  type MeshProxy,
  type ProxyOptions,
  createProxy,
  silentLogger,
} from '../../src/index.js';
import { type Running, start } from '../support/processes.js';
import { cleanEnvironment } from '../support/sidecar.js';

type Test = Pick<ExecutionContext, 'teardown'>;

/** One listener on a free port, everything to one address. */
export function everythingTo(to: string): Config {
  return { listeners: [{ name: 'web', address: '127.0.0.1:0', to }] };
}

/** A proxy that is closed with the test. */
export function makeProxy(t: Test, config: Config, options: ProxyOptions = {}): MeshProxy {
  const proxy = createProxy(config, { threads: 1, logger: silentLogger, ...options });
  t.teardown(() => proxy.close());
  return proxy;
}

/** Listens with a proxy of that kind; gives the port of its first listener as well. */
export async function listening(
  t: Test,
  config: Config,
  options: ProxyOptions = {},
): Promise<{ proxy: MeshProxy; port: number }> {
  const proxy = makeProxy(t, config, options);
  const { addresses } = await proxy.listen();
  return { proxy, port: addresses[0]?.port ?? 0 };
}

/** The file of one of `test/embed/programs/`, compiled. */
export function programFile(name: string): string {
  return fileURLToPath(new URL(`./programs/${name}.js`, import.meta.url));
}

/** Starts one of them; it ends with the test. */
export function program(t: Test, name: string, ...args: string[]): Running {
  return start(t, process.execPath, ['--enable-source-maps', programFile(name), ...args], {
    env: cleanEnvironment(),
  });
}

/** The first line that a program says on standard output and that starts with `word`: the rest of it. */
export function word(name: string): RegExp {
  return new RegExp(`^${name} (.+)$`, 'm');
}
