// Does the example of docs/mesh.md run, as a person would run it, and does no process stay when it is killed?

import { existsSync } from 'node:fs';
import test from 'ava';
import type { Finding } from '../../src/mesh/admin/findings.js';
import type { SidecarStatus } from '../../src/mesh/admin/types.js';
import type { Doing } from '../../src/mesh/admin/views.js';
import { example } from '../docs/support.js';
import { request } from '../support/http.js';
import { must } from '../support/processes.js';
import { until } from '../support/wait.js';
import { MeshUp } from './command.js';

test('docs/mesh.md: services call each other, tools tell of it, and SIGKILL leaves no process', async (t) => {
  const files = {
    'basket.mjs': example('docs/mesh.md', 'basket.mjs'),
    'web.mjs': example('docs/mesh.md', 'web.mjs'),
  };
  const mesh = MeshUp.start(t, example('docs/mesh.md', 'mesh.yaml'), { files });
  await mesh.allReady();
  const web = await mesh.line(
    'web',
    ({ copy, application }) => copy === 'web.1' && application !== undefined,
  );
  const port = Number(web.application?.split(':')[1]);
  const { status, text } = await request(port);
  t.is(`${status} ${text}`, '200 three items for spiffe://mesh.local/ns/default/sa/web');

  const [basket] = await until('the statistics', async () => {
    const rows = await mesh.json<Doing[]>('stat', '--to', 'basket');
    return (rows[0]?.requests ?? 0) > 0 ? rows : undefined;
  });
  t.like(basket, { to: 'basket.default:3000', requests: 1, successRate: 1, mtls: 1 });
  const busy = await until('a rate, and how long calls take', async () => {
    await request(port);
    const [row] = await mesh.json<Doing[]>('stat', '--to', 'basket');
    return row && row.requests > 1 && row.rate > 0 && (row.p50Ms ?? 0) > 0 ? row : undefined;
  });
  // It is taken over a second at least.
  t.true(busy.rate <= busy.requests);
  const { p50Ms, p95Ms, p99Ms } = busy;
  t.true((p50Ms ?? 0) <= (p95Ms ?? 0) && (p95Ms ?? 0) <= (p99Ms ?? 0), JSON.stringify(busy));
  const [edge] = await mesh.json<Doing[]>('edges', '--from', 'web');
  const idOf = (service: string): string => `spiffe://mesh.local/ns/default/sa/${service}`;
  t.like(edge, { from: idOf('web'), to: 'basket.default:3000', toIdentity: idOf('basket') });
  t.deepEqual(
    (await mesh.json<Finding[]>('check')).map(({ level }) => level),
    ['ok', 'note'],
  );
  const { certificateLifeMs, ...about } = await mesh.json<SidecarStatus>('config', 'basket-1');
  t.like(about, { phase: 'ready', nacks: [] });
  // The roots and who may call it: it has an address for each service, and calls none.
  const has = new Map(about.has.map((held) => [held.resource.split('.').at(-1), held.count]));
  t.deepEqual(Object.fromEntries(has), { Secret: 1, Listener: 1 });
  t.true(about.has.every(({ changedAtMs }) => changedAtMs > 0 && changedAtMs <= Date.now()));
  const told = (await mesh.mesh('config', 'basket-1')).stdout.toString();
  t.regex(told, /^serial number: [0-9a-f]+$/m);
  t.regex(told, /^ {2}Listener: 1, changed \d+ s ago$/m);
  // This control plane signed it, for a day.
  t.is(Math.round((certificateLifeMs ?? 0) / 3_600_000), 24);

  const children = (await must('ps', ['-e', '-o', 'pid=,ppid=']))
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number))
    .flatMap(([pid, parent]) => (parent === mesh.process.pid && pid !== undefined ? [pid] : []));
  t.true(children.length >= 3);
  await mesh.process.kill();
  await until('the end of all', () => children.every((pid) => !existsSync(`/proc/${pid}`)));
});
