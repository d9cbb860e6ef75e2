// Does the example of docs/mesh.md run, as a person would run it, and does nothing stay when it is killed?

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import type { Finding } from '../../src/mesh/admin/findings.js';
import type { SidecarStatus } from '../../src/mesh/admin/types.js';
import type { Doing } from '../../src/mesh/admin/views.js';
import { temporaryFolder } from '../support/files.js';
import { request } from '../support/http.js';
import { must, start } from '../support/processes.js';
import { cleanEnvironment, sidecarFile } from '../support/sidecar.js';
import { until } from '../support/wait.js';

const MESH = join(process.cwd(), 'dist', 'cli', 'main.js');

interface Line {
  event: string;
  copy?: string;
  application?: string;
}

test('docs/mesh.md: services call each other, tools tell of it, and SIGKILL leaves nothing', async (t) => {
  const folder = temporaryFolder(t);
  const page = readFileSync('docs/mesh.md', 'utf8');
  const [, yaml = ''] = /```yaml\n([\s\S]*?)```/.exec(page) ?? [];
  writeFileSync(join(folder, 'mesh.yaml'), yaml);
  for (const [, name = '', code = ''] of page.matchAll(/```js (\S+)\n([\s\S]*?)```/g)) {
    writeFileSync(join(folder, name), code);
  }
  const options = { cwd: folder, env: cleanEnvironment() };
  const up = start(t, process.execPath, [MESH, 'up', '-o', 'json', '--sidecar', sidecarFile()], options);
  const lines = (): Line[] =>
    up
      .stdout()
      .toString()
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as Line);
  await until('all are ready', () => {
    if (up.ended) throw new Error(up.stderr() + up.stdout().toString());
    return lines().some(({ event }) => event === 'ready');
  });
  const web = lines().find(({ copy, application }) => copy === 'web.1' && application !== undefined);
  const port = Number(web?.application?.split(':')[1]);
  const { status, text } = await request(port);
  t.is(`${status} ${text}`, '200 three items for spiffe://mesh.local/ns/default/sa/web');

  const mesh = async <T>(...args: string[]): Promise<T> =>
    JSON.parse(await must(process.execPath, [MESH, ...args, '-o', 'json'], options)) as T;
  const [basket] = await until('the statistics', async () => {
    const rows = await mesh<Doing[]>('stat', '--to', 'basket');
    return rows.length > 0 ? rows : undefined;
  });
  t.like(basket, { to: 'basket.default:3000', requests: 1, successRate: 1, mtls: 1 });
  const [edge] = await mesh<Doing[]>('edges', '--from', 'web');
  const idOf = (service: string): string => `spiffe://mesh.local/ns/default/sa/${service}`;
  t.like(edge, { from: idOf('web'), to: 'basket.default:3000', toIdentity: idOf('basket') });
  t.deepEqual(
    (await mesh<Finding[]>('check')).map(({ level }) => level),
    ['ok', 'note'],
  );
  const { certificateLifeMs, ...about } = await mesh<SidecarStatus>('config', 'basket-1');
  t.like(about, { phase: 'ready', nacks: [] });
  // The roots, who may call it, and both services, which it has an address for.
  const has = new Map(about.has.map((held) => [held.resource.split('.').at(-1), held.count]));
  t.deepEqual(Object.fromEntries(has), {
    Secret: 1,
    Listener: 3,
    RouteConfiguration: 2,
    Cluster: 2,
    ClusterLoadAssignment: 2,
  });
  t.true(about.has.every(({ changedAtMs }) => changedAtMs > 0 && changedAtMs <= Date.now()));
  const told = await must(process.execPath, [MESH, 'config', 'basket-1'], options);
  t.regex(told, /^serial number: [0-9a-f]+$/m);
  t.regex(told, /^ {2}Listener: 3, changed \d+ s ago$/m);
  // This control plane signed it, for a day.
  t.is(Math.round((certificateLifeMs ?? 0) / 3_600_000), 24);

  const children = (await must('ps', ['-e', '-o', 'pid=,ppid=']))
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number))
    .flatMap(([pid, parent]) => (parent === up.pid && pid !== undefined ? [pid] : []));
  t.true(children.length >= 3);
  await up.kill();
  await until('the end of all', () => children.every((pid) => !existsSync(`/proc/${pid}`)));
});
