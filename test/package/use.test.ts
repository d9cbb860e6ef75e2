// Does a new user get a mesh, from the packages alone? What the manual says is typed in a folder without Rust and without
// this tree, and real requests pass.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { example, printed } from '../docs/support.js';
import { freePort } from '../mesh/support.js';
import { httpOrigin, request } from '../support/http.js';
import { type Running, must, start } from '../support/processes.js';
import { until, within } from '../support/wait.js';
import { INSTALL_MS, Projects, mainTarball, platformTarball, userEnvironment } from './support.js';

const FILES = {
  'mesh.yaml': example('docs/mesh.md', 'mesh.yaml'),
  'basket.mjs': example('docs/mesh.md', 'basket.mjs'),
  'web.mjs': example('docs/mesh.md', 'web.mjs'),
};
const projects = new Projects();
let project = '';

test.before(async (t) => {
  t.timeout(INSTALL_MS);
  project = await projects.make('user', 'module', [mainTarball, platformTarball]);
  for (const [name, text] of Object.entries(FILES)) writeFileSync(join(project, name), text);
});

test.after.always(() => projects.remove());

const options = (env: NodeJS.ProcessEnv = {}) => ({ cwd: project, env: { ...userEnvironment(), ...env } });

/** Types a command line that stays, as in a shell: a group of its own, which ends with the test. */
function stay(t: ExecutionContext, line: string, env: NodeJS.ProcessEnv = {}): Running {
  const [command = '', ...args] = line.split(' ');
  const running = start(t, command, args, { ...options(env), detached: true });
  t.teardown(() => {
    if (groupLives(running.pid)) process.kill(-running.pid, 'SIGKILL');
  });
  return running;
}

/** Presses Ctrl-C: all of the group ends, of which npx says nothing but that it was interrupted. */
async function interrupt(running: Running): Promise<void> {
  process.kill(-running.pid, 'SIGINT');
  await within(`the end of ${running.name}`, running.exit);
  await until('nothing is left', () => !groupLives(running.pid));
}

function groupLives(leader: number): boolean {
  try {
    process.kill(-leader, 0);
    return true;
  } catch {
    return false;
  }
}

const type = (line: string, env?: NodeJS.ProcessEnv): Promise<string> => {
  const [command = '', ...args] = line.split(' ');
  return must(command, args, options(env));
};

test.serial('npx mesh up: the mesh of docs/mesh.md, from its start to Ctrl-C', async (t) => {
  const up = stay(t, 'npx mesh up');
  await printed(up, /^(all are ready: 3 of 3)$/m);
  const [, port] = await printed(up, /^web\.1: ready on 127\.0\.0\.1:(\d+),/m);
  const { status, text } = await request(Number(port));
  t.is(`${status} ${text}`, '200 three items for spiffe://mesh.local/ns/default/sa/web');
  t.regex(await type('npx mesh check'), /^note/m);
  await interrupt(up);
  t.regex(up.stdout().toString(), /^closed$/m);
});

test.serial('npx mesh control, npx mesh token and npx mesh-sidecar: a mesh by hand', async (t) => {
  writeFileSync(join(project, 'control.yaml'), 'services: { web: {}, basket: { port: 3000 } }\n');
  const [listen, app] = [`127.0.0.1:${await freePort()}`, await freePort()];
  const control = stay(t, `npx mesh control control.yaml --listen ${listen}`);
  await printed(control, /^the control plane listens on (\S+); sidecars trust /m);
  const sidecar = async (service: string, more: string): Promise<{ outbound: number; running: Running }> => {
    writeFileSync(join(project, service), await type(`npx mesh token ${service}`), { mode: 0o600 });
    const outbound = await freePort();
    const flags =
      `--control ${listen} --trust-anchors .mesh/state/roots.pem --token-file ${service} ` +
      `--identity spiffe://mesh.local/ns/default/sa/${service} --inbound 127.0.0.1:${await freePort()} ` +
      `--outbound 127.0.0.1:${outbound} --admin off --lame-duck 0s ${more}`;
    const running = stay(t, `npx mesh-sidecar ${flags.trim()}`, { PORT: String(app) });
    await running.said(/^mesh-sidecar: ready$/m);
    return { outbound, running };
  };
  const basket = await sidecar('basket', `--ports 3000=127.0.0.1:${app} -- node basket.mjs`);
  const web = await sidecar('web', '');

  const client = "fetch('http://basket/items').then((r) => r.text()).then(console.log);";
  writeFileSync(join(project, 'client.mjs'), client);
  const env = { MESH_OUTBOUND: `127.0.0.1:${web.outbound}`, MESH_NAMES: 'basket' };
  const answer = await until('basket answers', async () => {
    const said = await type('node --import @mesh/proxy/register client.mjs', env);
    return said.startsWith('three items') && said;
  });
  t.is(answer, 'three items for spiffe://mesh.local/ns/default/sa/web\n');
  t.is(await type('node --require @mesh/proxy/register client.mjs', env), answer);
  for (const { running } of [web, basket]) await interrupt(running);
  await interrupt(control);
  t.regex(control.stdout().toString(), /^closed$/m);
});

test.serial('npx mesh run and npx mesh-sidecar: a proxy without a mesh', async (t) => {
  const origin = await httpOrigin(t, (_, response) => response.end('hello'));
  const proxies = ['npx mesh run', 'npx mesh-sidecar'];
  for (const command of proxies) {
    const port = await freePort();
    const running = stay(t, `${command} --listen 127.0.0.1:${port} --to ${origin.address}`, {
      MESH_ADMIN: 'off',
      MESH_LAME_DUCK: '0s',
    });
    const answer = await until(`${command} answers`, () => request(port).catch(() => undefined));
    t.is(answer.text, 'hello', command);
    await interrupt(running);
  }
});
