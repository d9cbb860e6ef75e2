// How is a control plane started and asked for something? It is a process of its own, as it is in a mesh.

import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Failure } from '../../scripts/lib/run.mjs';
import { here } from './places.mjs';
import { start } from './processes.mjs';

/** The program of a control plane. */
export const controlHost = join(here, 'peers', 'control-host.mjs');

/** Starts one beside the load. Resolves with its addresses, and with `ask`. */
export async function startControl(bench) {
  const child = start(bench.cores.load, process.execPath, [controlHost], { pipe: true });
  const lines = createInterface({ input: child.stdout });
  const ended = once(child, 'exit').then(() => {
    throw new Failure('the control plane has ended');
  });
  ended.catch(() => {});
  /** One question at a time, one line each way. */
  const ask = async (question) => {
    const answer = once(lines, 'line');
    child.stdin.write(`${JSON.stringify(question)}\n`);
    const [line] = await Promise.race([answer, ended]);
    return JSON.parse(line);
  };
  const { addresses } = await ask({ start: bench.authority.issuer });
  return { child, addresses, ask };
}
