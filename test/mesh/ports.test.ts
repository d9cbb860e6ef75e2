// Between the moment that a port is found free and the moment that somebody listens on it, another may take it. What then?

import { once } from 'node:events';
import { createServer } from 'node:net';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Ports } from '../../src/mesh/up/ports.js';
import { temporaryFolder } from '../support/files.js';
import { sidecarFile } from '../support/sidecar.js';
import { until } from '../support/wait.js';
import { MeshUp } from './command.js';

const WEB = `
import http from 'node:http';
http.createServer((_, response) => response.end()).listen(process.env.PORT, '127.0.0.1');
`;

/** A sidecar whose first start waits until it is let go. */
function hesitant(t: ExecutionContext): { file: string; flags: () => Promise<string[]>; letGo: () => void } {
  const folder = temporaryFolder(t);
  const [file, flags, go] = ['sidecar', 'flags', 'go'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  const script = `#!/bin/sh
if mkdir '${folder}/first' 2>/dev/null; then
  echo "$@" > '${flags}.new' && mv '${flags}.new' '${flags}'
  while [ -d '${folder}' ] && [ ! -e '${go}' ]; do sleep 0.02; done
fi
exec '${sidecarFile()}' "$@"
`;
  writeFileSync(file, script, { mode: 0o755 });
  return {
    file,
    flags: () => until('it is started', () => existsSync(flags) && readFileSync(flags, 'utf8').split(' ')),
    letGo: () => writeFileSync(go, ''),
  };
}

/** Takes a port for itself. */
async function take(t: ExecutionContext, port: number): Promise<void> {
  const server = createServer((socket) => socket.destroy()).listen(port, '127.0.0.1');
  t.teardown(() => server.close());
  await once(server, 'listening');
}

for (const flag of ['--inbound', '--outbound', '--admin', '--forward', '--ports']) {
  test(`a port that is lost is another one at the next start: ${flag}`, async (t) => {
    const sidecar = hesitant(t);
    const mesh = MeshUp.start(
      t,
      { services: { web: { run: 'exec node web.mjs' } } },
      { files: { 'web.mjs': WEB }, flags: ['--sidecar', sidecar.file] },
    );
    const flags = await sidecar.flags();
    const port = Number(/:(\d+)$/.exec(flags[flags.indexOf(flag) + 1] ?? '')?.[1]);
    await take(t, port);
    sidecar.letGo();
    await mesh.line('it has to wait', ({ phase }) => phase === 'waiting');
    const ready = await mesh.line(
      'it is ready elsewhere',
      ({ phase, application }) => phase === 'ready' && application !== `127.0.0.1:${port}`,
    );
    t.is(ready.copy, 'web.1');
  });
}

test('a port that is given is waited for', async (t) => {
  const sidecar = hesitant(t);
  const [port = 0] = await new Ports().take(1);
  const mesh = MeshUp.start(
    t,
    { services: { web: { run: 'exec node web.mjs', bind: { inbound: port } } } },
    { files: { 'web.mjs': WEB }, flags: ['--sidecar', sidecar.file] },
  );
  await sidecar.flags();
  const held = createServer().listen(port, '127.0.0.1');
  await once(held, 'listening');
  sidecar.letGo();
  await mesh.line('it is told', ({ event, text }) => event === 'line' && /can't listen on/.test(text ?? ''));
  held.close();
  await mesh.allReady();
  t.false(mesh.lines().some(({ phase }) => phase === 'waiting'));
});
