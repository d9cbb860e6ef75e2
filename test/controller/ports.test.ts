// Is a workload called by the ports that its mesh file declares, and by no others, whatever its sidecar offers?

import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import tls from 'node:tls';
import test from 'ava';
import { type MeshConfig, createControlPlane } from '../../src/index.js';
import { startMeshSidecar } from '../mesh/support.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin } from '../support/http.js';
import { until, within } from '../support/wait.js';

const REQUEST = 'GET / HTTP/1.1\r\nhost: basket\r\nconnection: close\r\n\r\n';

/** What the file says: a port of `basket` that `web` may not call. */
const denied = (port: number): MeshConfig => ({
  services: { web: {}, basket: { port } },
  policies: [{ to: 'basket', from: 'web', deny: true, ports: [port] }],
});

test('a port that the file does not declare, or does no more, is refused, so that no policy has to name it', async (t) => {
  const plane = createControlPlane(denied(3000), { listen: '127.0.0.1:0' });
  t.teardown(() => plane.close());
  const control = await plane.listen();
  const folder = temporaryFolder(t);
  const trustAnchors = join(folder, 'roots.pem');
  writeFileSync(trustAnchors, plane.roots());
  const joins = async (service: string, more: object) => {
    const token = join(folder, `${service}.token`);
    writeFileSync(token, await plane.token(service), { mode: 0o600 });
    const identity = `spiffe://mesh.local/ns/default/sa/${service}`;
    return startMeshSidecar(t, { identity, name: service, token, control, trustAnchors, ...more });
  };
  const { address } = await httpOrigin(t, (_, outgoing) => void outgoing.end('served'));
  const basket = await joins('basket', { ports: `3000=${address},5000=${address}` });
  const state = join(folder, 'web');
  await joins('web', { flags: { '--state-dir': state } });
  const { chain, key } = JSON.parse(readFileSync(join(state, 'identity.json'), 'utf8')) as {
    chain: string;
    key: string;
  };

  /** What `web` gets that calls the sidecar of `basket` without its own: status and reason, or what the application says. */
  const called = async (port: number): Promise<string | undefined> => {
    const socket = tls.connect({
      host: '127.0.0.1',
      port: basket.inbound,
      servername: `p${port}.basket.default.mesh.local`,
      cert: chain,
      key,
      ALPNProtocols: ['mesh/h1'],
      // Whom the test calls is not in question here.
      rejectUnauthorized: false,
    });
    let came = '';
    socket.on('data', (chunk: Buffer) => (came += chunk.toString()));
    socket.end(REQUEST);
    await within('the end', once(socket, 'close'));
    return /served$/.exec(came)?.[0] ?? /details="?(\w+)/.exec(came)?.[1];
  };
  t.is(await called(3000), 'denied');
  t.is(await called(5000), 'port_undeclared', 'the file does not have it');

  await plane.apply(denied(4000));
  await until('the old port is closed', async () => (await called(3000)) === 'port_undeclared');
  await plane.apply({ services: { web: {} } });
  t.is(await called(3000), 'port_undeclared', 'the service was taken out');
  await plane.apply(denied(3000));
  await until('the policy is in force again', async () => (await called(3000)) === 'denied');
  await plane.apply({ services: { web: {}, basket: { port: 5000 } } });
  await until('the other port is open', async () => (await called(5000)) === 'served');
  t.is(await called(3000), 'port_undeclared');
});
