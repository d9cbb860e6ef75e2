// Can the sidecar be asked what it does, by those who may ask, and by nobody through itself?

import test from 'ava';
import { symlinkSync } from 'node:fs';
import net from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { FakeWorld } from '../cli/world.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin, proxyStatus, request } from '../support/http.js';
import { closedPort, connect } from '../support/tcp.js';
import { startSidecar } from '../support/sidecar.js';
import { until } from '../support/wait.js';
import { Admin, startWithAdmin } from './support.js';

test('mesh stats shows what the sidecar did', async (t) => {
  const origin = await httpOrigin(t);
  const { sidecar, admin } = await startWithAdmin(t, {
    listeners: [{ name: 'web', address: '127.0.0.1:0', routes: [{ to: origin.address }] }],
  });
  for (let n = 0; n < 3; n += 1) await request(sidecar.port('web'));
  await admin.metricsOnce('all are counted', (metrics) => metrics.sum('mesh_responses_total') === 3);
  const table = await new FakeWorld().run('stats', '--admin', admin.address);
  t.deepEqual([table.code, table.stderr], [0, '']);
  t.regex(table.stdout, /^web\t.*\thttp1\t3\t100\.00 %\t/m);
  t.regex(table.stdout, new RegExp(`\t${origin.address}\tavailable\t0\t3$`, 'm'));
  const json = await new FakeWorld().run('stats', '--admin', admin.address, '-o', 'json');
  const { routes } = JSON.parse(json.stdout) as { routes: { requests: number }[] };
  t.deepEqual(
    routes.map((route) => route.requests),
    [3],
  );
});

test('mesh stats over a Unix socket', async (t) => {
  const path = join(temporaryFolder(t), 'admin.sock');
  await startSidecar(t, { listeners: [] }, { admin: `unix:${path}` }).then((sidecar) =>
    sidecar.said(/admin listens on unix:/),
  );
  t.is((await new FakeWorld().run('stats', '--admin', `unix:${path}`)).code, 0);
});

test('who is not on this host sees health and metrics only', async (t) => {
  const outside = Object.values(networkInterfaces())
    .flat()
    .find((each) => each?.family === 'IPv4' && !each.internal)?.address;
  if (outside === undefined) {
    t.pass('this machine has loopback addresses only');
    return;
  }
  const sidecar = await startSidecar(t, { listeners: [] }, { admin: '0.0.0.0:0' });
  const [, port = ''] = await sidecar.said(/admin listens on 0\.0\.0\.0:(\d+)/);
  const from = (host: string, method: string, path: string) =>
    request(Number(port), { host, method, path }).then(({ status }) => status);
  for (const path of ['/live', '/ready', '/metrics']) t.is(await from(outside, 'GET', path), 200, path);
  for (const path of ['/stats', '/config', '/log-level']) {
    t.is(await from(outside, 'GET', path), 403, path);
    t.is(await from('127.0.0.1', 'GET', path), 200, path);
  }
  t.is(await from(outside, 'POST', '/drain'), 403);
});

test('no cluster leads to the admin server, nor back to a listener', async (t) => {
  const port = await closedPort();
  const web = await closedPort();
  const address = `127.0.0.1:${port}`;
  const { sidecar, admin } = await startWithAdmin(
    t,
    {
      listeners: [
        {
          name: 'web',
          address: `127.0.0.1:${web}`,
          forwardProxy: true,
          routes: [
            { match: { host: '127.0.0.1', path: '/self/*' }, to: 'self' },
            { match: { host: '127.0.0.1', path: '/*' }, to: 'admin' },
          ],
        },
        { name: 'tcp', address: '127.0.0.1:0', protocol: 'tcp', to: 'admin' },
      ],
      clusters: { admin: { endpoints: [address] }, self: { endpoints: [`127.0.0.1:${web}`] } },
    },
    { admin: address },
  );
  for (const path of ['/config', '/live', '/self/x', `http://${address}/config`]) {
    const response = await request(web, {
      path,
      ...(path.startsWith('http') && { headers: { host: address } }),
    });
    t.is(response.status, 508, path);
    t.deepEqual(proxyStatus(response.headers), { error: 'proxy_loop_detected', details: 'loop_detected' });
  }
  // The stream is reset, perhaps before its client knows that it is connected.
  const socket = net.connect(sidecar.port('tcp'), '127.0.0.1');
  let came = 0;
  socket.on('data', ({ length }) => {
    came += length;
  });
  socket.on('error', () => {});
  socket.write('GET /config HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n');
  await until('the stream is over', () => socket.closed);
  t.is(came, 0);
  const metrics = await admin.metrics();
  t.is(metrics.sum('mesh_upstream_connections_total'), 0, 'nothing was connected to');
  t.true(metrics.sum('mesh_upstream_connect_failures_total', { reason: 'loop_detected' }) >= 5);
});

test('no path of its Unix socket leads to the admin server, nor of a listener to that', async (t) => {
  const folder = temporaryFolder(t);
  const [own, web] = [join(folder, 'admin.sock'), join(folder, 'web.sock')];
  symlinkSync(own, join(folder, 'link.sock'));
  symlinkSync(folder, join(folder, 'around'));
  const paths = ['admin.sock', './admin.sock', '/admin.sock', 'link.sock', 'around/link.sock', './web.sock'];
  const routes = paths.map((path, n) => ({ match: { path: `/${n}` }, to: `unix:${folder}/${path}` }));
  const listeners = [{ name: 'web', address: `unix:${web}`, routes }];
  await startSidecar(t, { listeners }, { admin: `unix:${own}` });
  t.is((await request(0, { socketPath: own, path: '/live' })).status, 200);
  for (const n of routes.keys()) {
    const { status, headers } = await request(0, { socketPath: web, path: `/${n}` });
    t.is(status, 508, paths[n]);
    t.deepEqual(proxyStatus(headers), { error: 'proxy_loop_detected', details: 'loop_detected' });
  }
});

test('the admin server answers when a listener is at its limit', async (t) => {
  const { sidecar, admin } = await startWithAdmin(t, {
    listeners: [{ name: 'web', address: '127.0.0.1:0', to: '127.0.0.1:1', limits: { connections: 2 } }],
  });
  for (let n = 0; n < 4; n += 1) await connect(t, sidecar.port('web'));
  const metrics = await admin.metricsOnce(
    'the limit is reached',
    (seen) => seen.sum('mesh_limit_hits_total', { limit: 'connections' }) > 0,
  );
  t.is(metrics.sum('mesh_connections_active'), 2);
  t.is((await new Admin(admin.address).get('/ready')).status, 200);
});
