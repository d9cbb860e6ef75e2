// What becomes of a sidecar that runs as another user than the one whose connections the rules let pass?

import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import test from 'ava';
import { TOOLS_PATH } from '../../src/cli/redirect.js';
import { startMeshSidecar } from '../mesh/support.js';
import { temporaryFolder } from '../support/files.js';
import { serve } from '../support/http.js';
import { run, start } from '../support/processes.js';
import { cleanEnvironment } from '../support/sidecar.js';
import { until } from '../support/wait.js';
import { freeNetwork } from './network.js';

const MESH = join(process.cwd(), 'dist', 'cli', 'main.js');
const env = { ...process.env, PATH: TOOLS_PATH };
const has = (tool: string): boolean => spawnSync('sh', ['-c', `command -v ${tool}`], { env }).status === 0;
const can = process.getuid?.() === 0 && ['ip', 'nft', 'setpriv', 'curl'].every(has);

function must(command: string): void {
  const { status, stderr } = spawnSync('sh', ['-ec', command], { env, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command}: ${stderr}`);
}

const testThere = can ? test.serial : test.skip;

testThere('its own connections are refused at once, and its log says how to mend it', async (t) => {
  const id = process.pid.toString(36);
  const [machine, there, wire, network] = [`mesh-u-${id}`, `mi${id}`, `mo${id}`, freeNetwork()];
  const here = `${network}.254`;
  must(`ip netns add ${machine}`);
  t.teardown(() => must(`ip netns del ${machine}`));
  must(`ip link add ${wire} type veth peer name ${there} netns ${machine}`);
  must(`ip addr add ${here}/24 dev ${wire} && ip link set ${wire} up`);
  must(`ip -n ${machine} addr add ${network}.1/24 dev ${there}`);
  must(`ip -n ${machine} link set lo up && ip -n ${machine} link set ${there} up`);
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'mesh.yaml'), 'services: { web: {} }\n');
  // The control plane is on the loopback, whose connections no rule redirects.
  const control = '127.0.0.1:4144';
  const inside = ['netns', 'exec', machine] as const;
  const options = { cwd: folder, env: cleanEnvironment() };
  const plane = start(t, 'ip', [...inside, process.execPath, MESH, 'control', '--listen', control], options);
  await until('the control plane', () => plane.stdout().toString().includes('listens on'));
  const mesh = async (...args: string[]): Promise<string> => {
    const { stdout, stderr, code } = await run('ip', [...inside, process.execPath, MESH, ...args], options);
    if (code !== 0) throw new Error(stderr);
    return stdout.toString();
  };
  const token = join(folder, 'token');
  writeFileSync(token, (await mesh('token', 'web')).trim(), { mode: 0o600 });
  await mesh('redirect', 'on');
  const web = await startMeshSidecar(t, {
    identity: 'spiffe://mesh.local/ns/default/sa/web',
    name: 'web',
    control: [control],
    trustAnchors: join(folder, '.mesh', 'state', 'roots.pem'),
    token,
    under: ['ip', 'netns', 'exec', machine],
    flags: {
      '--transparent': 'on',
      '--inbound': '[::]:4143',
      '--outbound': '[::]:4140',
      '--admin': '127.0.0.1:4191',
    },
  });
  const seen: string[] = [];
  const server = createServer((incoming, outgoing) => {
    seen.push(incoming.url ?? '');
    outgoing.end('hello');
  });
  const origin = await serve(t, server, 0, here);
  const url = `http://${here}:${origin.port}/`;
  const asNobody = ['setpriv', '--reuid', '65534', '--clear-groups', 'curl', '-sS', '-m', '15', url];
  // One that goes unseen is followed by one that is seen.
  for (let call = 0; call < 3; call += 1) await run('ip', [...inside, ...asNobody], { env });
  t.deepEqual(seen, []);
  const [said] = await web.process.said(/the sidecar's own connections are redirected.*$/m);
  t.regex(said, /user=0.*mesh redirect on --uid 0/);
  const asked = [...inside, 'curl', '-sS', '-m', '15', 'http://127.0.0.1:4191/metrics'];
  const { stdout } = await run('ip', asked, { env });
  const metrics = stdout.toString();
  t.regex(metrics, /listener="outbound".*reason="loop_detected"/);
  const [, accepted = ''] =
    /^mesh_connections_total\{[^}]*listener="outbound"[^}]*\} (\d+)$/m.exec(metrics) ?? [];
  t.true(Number(accepted) < 100, metrics);
  // As the line says.
  await mesh('redirect', 'on', '--uid', '0');
  const { stdout: mended } = await run('ip', [...inside, ...asNobody], { env });
  t.is(mended.toString(), 'hello');
});
