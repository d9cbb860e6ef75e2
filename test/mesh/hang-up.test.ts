// What becomes of `mesh up` when its terminal is closed, and when it has none?

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { temporaryFolder } from '../support/files.js';
import { lives, offspring } from '../support/pids.js';
import { start } from '../support/processes.js';
import { cleanEnvironment, sidecarFile } from '../support/sidecar.js';
import { until } from '../support/wait.js';
import { MeshUp } from './command.js';

const MESH = join(process.cwd(), 'dist', 'cli', 'main.js');
const WEB = { services: { web: { run: 'exec sleep 600' } } };

test('it drains, and leaves nothing, when its terminal is closed', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'mesh.yaml'), JSON.stringify(WEB));
  const up = `exec '${process.execPath}' '${MESH}' up --sidecar '${sidecarFile()}'`;
  const terminal = start(t, 'script', ['-qec', up, '/dev/null'], { cwd: folder, env: cleanEnvironment() });
  await until('it runs', () => terminal.stdout().includes('the control plane listens'));
  // Itself, a sidecar and what that runs.
  const pids = await until('its processes', () => {
    const found = offspring(terminal.pid);
    return found.length >= 3 && found;
  });
  process.kill(terminal.pid, 'SIGKILL');
  await until('nothing is left', () => !pids.some(lives));
  t.pass();
});

test('without a terminal it looks at its file, as other commands do', async (t) => {
  const mesh = MeshUp.start(t, WEB);
  await mesh.line('it listens', ({ event }) => event === 'listening');
  mesh.write({ services: { web: { run: 'exec sleep 600' }, ledger: { address: '127.0.0.1:9' } } });
  mesh.process.signal('SIGHUP');
  await mesh.line('it is applied', ({ event }) => event === 'applied');
  t.false(mesh.process.ended);
});
