// Does one word say the same in all three places? What is checked of each reason: the answer, where there is somebody to
// give one to, the metric and the line of the access log.

import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type Admin, startWithAdmin } from '../sidecar/support.js';
import { linesOf } from '../support/access-log.js';
import { temporaryFolder } from '../support/files.js';
import { proxyStatus } from '../support/http.js';
import type { Sidecar, SidecarOptions, Work } from '../support/sidecar.js';
import { until } from '../support/wait.js';

/** A response's status and fields. */
export interface Answer {
  status: number;
  headers: Parameters<typeof proxyStatus>[0];
}

/** What runs while something goes wrong. */
export interface Scene {
  t: ExecutionContext;
  sidecar: Sidecar;
  admin: Admin;
  /** Where the access log of the listener is written. */
  log: string;
}

/** One reason, and a way to cause it once. */
export interface Case {
  reason: string;
  /** Why, in words: the name of the test. */
  when: string;
  work: (log: string, t: ExecutionContext) => Work | Promise<Work>;
  options?: SidecarOptions;
  /** Resolves with the answer, or without one where the connection just ends. */
  cause: (scene: Scene) => Promise<Answer | undefined>;
  /** The answer's status and its error in `proxy-status`. */
  answer?: [status: number, error: string];
  /** The metrics that count it, once. */
  counted: readonly ('responses' | 'connections_closed' | 'upstream_connect_failures')[];
}

/** Makes a test of each case, all of one layer: `downstream`, `proxy` or `upstream`. */
export function check(layer: string, cases: readonly Case[]): void {
  for (const { reason, when, work, options, cause, answer, counted } of cases) {
    test(`${reason}: ${when}`, async (t) => {
      const log = join(temporaryFolder(t), 'access.log');
      const { sidecar, admin } = await startWithAdmin(t, await work(log, t), options);
      const got = await cause({ t, sidecar, admin, log });
      t.deepEqual(
        got && [got.status, proxyStatus(got.headers)],
        answer && [answer[0], { error: answer[1], details: reason }],
      );
      for (const what of counted) {
        const name = `mesh_${what}_total`;
        const count = (metrics: Awaited<ReturnType<Admin['metrics']>>) => metrics.sum(name, { reason });
        const metrics = await admin.metricsOnce(`${name} counts it`, (seen) => count(seen) > 0);
        t.is(count(metrics), 1, name);
      }
      // There may be lines of others before: of whoever had to be there first.
      const line = await until('its line', () => linesOf(log).find((each) => each['reason'] === reason));
      t.like(line, { reason, layer, ...(answer && { status: answer[0] }) });
    });
  }
}
