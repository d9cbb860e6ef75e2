// A sidecar whose admin server can be asked.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { temporaryFolder } from '../support/files.js';
import { type Response, request } from '../support/http.js';
import { type Said, run } from '../support/processes.js';
import { Exposition } from '../support/prometheus.js';
import {
  type Sidecar,
  type SidecarOptions,
  type Work,
  cleanEnvironment,
  sidecarFile,
  startSidecar,
} from '../support/sidecar.js';
import { until } from '../support/wait.js';

/** The admin server of a sidecar. */
export class Admin {
  constructor(readonly address: string) {}

  get port(): number {
    return Number(this.address.split(':').at(-1));
  }

  ask(method: string, path: string, body?: string): Promise<Response> {
    return request(this.port, { method, path, ...(body !== undefined && { body }) });
  }

  get(path: string): Promise<Response> {
    return this.ask('GET', path);
  }

  /** Its metrics, which must be well formed. */
  async metrics(): Promise<Exposition> {
    return new Exposition((await this.get('/metrics')).text);
  }

  /** The metrics once they are as wanted: what a client has seen may be counted a moment later. */
  metricsOnce(what: string, wanted: (metrics: Exposition) => boolean): Promise<Exposition> {
    return until(what, async () => {
      const metrics = await this.metrics();
      return wanted(metrics) && metrics;
    });
  }
}

/** Starts a sidecar with an admin server on a free port. */
export async function startWithAdmin(
  t: Pick<ExecutionContext, 'teardown'>,
  work: Work,
  options: SidecarOptions = {},
): Promise<{ sidecar: Sidecar; admin: Admin }> {
  const sidecar = await startSidecar(t, work, { admin: '127.0.0.1:0', ...options });
  return { sidecar, admin: new Admin(sidecar.address('admin')) };
}

/** Runs the sidecar to its end, with nothing of its settings in the environment but these. */
export function runSidecar(args: readonly string[], env: Record<string, string> = {}): Promise<Said> {
  return run(sidecarFile(), args, { env: { ...cleanEnvironment(), MESH_ADMIN: 'off', ...env } });
}

/** A file with this text, as long as the test runs. */
export function fileWith(
  t: Pick<ExecutionContext, 'teardown'>,
  text: string,
  name = 'resources.json',
): string {
  const file = join(temporaryFolder(t), name);
  writeFileSync(file, text);
  return file;
}
