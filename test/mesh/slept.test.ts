// Does a copy come back whose sidecar slept for longer than its certificate lives? It takes the minute that the shortest
// one lives.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import test from 'ava';
import { SOCKET, askStatus } from '../../src/mesh/admin/client.js';
import { until } from '../support/wait.js';
import { MeshUp } from './command.js';

const MINUTE = 60_000;
const SERVER = "require('node:http').createServer((_, answer) => answer.end()).listen(process.env.PORT)";

test('a sidecar whose certificate has ended gets another token, and its copy is ready again', async (t) => {
  t.timeout(4 * MINUTE);
  const up = MeshUp.start(
    t,
    { mesh: { certificates: { ttl: '1m' } }, services: { basket: { run: 'node server.cjs', port: 3000 } } },
    { files: { 'server.cjs': SERVER } },
  );
  await up.allReady();
  // When its certificate ends it tells a moment after it is ready.
  const { pid, endsMs } = await until('a sidecar with a certificate', async () => {
    const { sidecars } = await askStatus(join(up.folder, SOCKET));
    const [own] = sidecars;
    return own?.certificateNotAfterMs ? { pid: own.pid, endsMs: own.certificateNotAfterMs } : undefined;
  });
  const flags = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  const token = flags[flags.indexOf('--token-file') + 1] ?? '';
  await until('the token that was used is forgotten', () => !existsSync(token));

  process.kill(pid, 'SIGSTOP');
  t.teardown(() => process.kill(pid, 'SIGCONT'));
  await up.line('it is not ready', ({ phase }) => phase === 'unready');
  await until('its certificate has ended', () => Date.now() > endsMs, 2 * MINUTE);
  process.kill(pid, 'SIGCONT');
  const phases = () => up.lines().filter(({ event, phase }) => event === 'copy' && phase !== 'starting');
  // Whoever was turned away a few times asks again after up to half a minute.
  await until('it is ready again', () => phases().at(-1)?.phase === 'ready' && phases().length > 1, MINUTE);
  t.deepEqual(
    phases().map(({ phase }) => phase),
    ['ready', 'unready', 'ready'],
  );
  await until('the other token is forgotten, too', () => !existsSync(token));
});
