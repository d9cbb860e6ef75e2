// Does code see what policy decides, and can it answer with other policies?

import { join } from 'node:path';
import { writeFileSync } from 'node:fs';
import test from 'ava';
import { Ports, example } from '../docs/support.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin } from '../support/http.js';
import { start } from '../support/processes.js';
import { cleanEnvironment } from '../support/sidecar.js';
import { until } from '../support/wait.js';
import { ask, startMeshSidecar } from './support.js';

const idOf = (service: string): string => `spiffe://mesh.local/ns/default/sa/${service}`;

test('docs/policy.md: policies from code', async (t) => {
  const ports = new Ports();
  const folder = temporaryFolder(t);
  const trustAnchors = join(folder, 'roots.pem');
  const code = (await ports.in(example('docs/policy.md', 'learn'))).replace(
    "'roots.pem'",
    JSON.stringify(trustAnchors),
  );
  const env = cleanEnvironment();
  const control = start(t, process.execPath, ['--input-type=module', '-e', code], { env });
  const lines = () => control.stdout().toString();
  const { address: application } = await httpOrigin(t);
  const joins = async (service: string, flags: object) => {
    const [, token = ''] = await until('its token', () => {
      if (control.ended) throw new Error(control.stderr());
      return new RegExp(`^${service} (\\S+)$`, 'm').exec(lines()) ?? undefined;
    });
    const file = join(folder, service);
    writeFileSync(file, token, { mode: 0o600 });
    return startMeshSidecar(t, {
      identity: idOf(service),
      name: service,
      control: [`127.0.0.1:${await ports.of('4144')}`],
      trustAnchors,
      token: file,
      ...flags,
    });
  };
  await joins('basket', { ports: `3000=${application}` });
  const web = await joins('web', {});
  const call = async (path: string) => (await ask(web, path, 'basket')).status;
  const seen = (mode: string, path: string) =>
    until(`${mode} ${path}`, () => {
      const line = `${mode} no_rule seen basket 3000 ${idOf('web')} GET ${path} `;
      return lines()
        .split('\n')
        .some((one) => one.startsWith(line) && /^\d+$/.test(one.slice(line.length)));
    });
  // Its sidecar may be told of the policy later than of the service.
  await until('it is called', async () => (await call('/items?key=secret')) === 200);
  await until('it is seen', async () => {
    await call('/items?key=secret');
    return lines().includes(' GET /items ');
  });
  await seen('audit', '/items');
  control.signal('SIGUSR2');
  await until('it is enforced', async () => (await call('/other')) === 403);
  t.is(await call('/items'), 200, 'what was seen may pass');
  await seen('enforce', '/other');
  t.notRegex(lines(), /secret/);
});
