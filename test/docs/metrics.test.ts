// Does docs/metrics.md list what a scrape has, no more and no less?

import { once } from 'node:events';
import http2 from 'node:http2';
import tls from 'node:tls';
import test, { type ExecutionContext } from 'ava';
import { NameServer } from '../support/name-server.js';
import { Mesh, ask } from '../mesh/support.js';
import { Authority } from '../support/certificates.js';
import { httpOrigin, request } from '../support/http.js';
import { startSidecar } from '../support/sidecar.js';
import { closedPort } from '../support/tcp.js';
import { until } from '../support/wait.js';
import { example, generated, page } from './support.js';

/** A gRPC call that fails. */
async function call(port: number): Promise<void> {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  const stream = session.request({ ':method': 'POST', ':path': '/dead', 'content-type': 'application/grpc' });
  stream.end();
  stream.resume();
  await once(stream, 'close');
  session.close();
}

/** Everything that has labels is made to happen once. */
async function scrape(t: ExecutionContext): Promise<string> {
  const [origin, chatty, nobody, adminPort] = await Promise.all([
    httpOrigin(t),
    // It says more than it may before it answers.
    httpOrigin(t, (_, outgoing) => {
      for (let count = 0; count < 17; count += 1) outgoing.writeProcessing();
      outgoing.end();
    }),
    closedPort(),
    closedPort(),
  ]);
  const admin = `127.0.0.1:${adminPort}`;
  const names = await NameServer.start(t);
  names.host('named.test', ['127.0.0.1']);
  const { certificate, key } = await (await Authority.create(t)).sign({ names: ['secure.test'] });
  const proxy = await startSidecar(
    t,
    {
      listeners: [
        {
          name: 'web',
          address: '127.0.0.1:0',
          limits: { headerCount: 8 },
          routes: [
            { name: 'app', to: 'app' },
            { name: 'dead', match: { path: '/dead' }, to: 'dead' },
            { name: 'chatty', match: { path: '/chatty' }, to: 'chatty' },
          ],
        },
        {
          name: 'secure',
          address: '127.0.0.1:0',
          tls: { certificate, key },
          routes: [{ name: 'named', to: 'named' }],
        },
      ],
      clusters: {
        app: { endpoints: [origin.address] },
        chatty: { endpoints: [chatty.address] },
        dead: { endpoints: [`127.0.0.1:${nobody}`] },
        named: { dns: `named.test:${nobody}` },
      },
    },
    { admin, env: { MESH_DNS_SERVER: names.address } },
  );
  const port = proxy.port('web');
  await request(port);
  t.is((await request(port, { path: '/dead' })).status, 502);
  t.is((await request(port, { path: '/chatty' })).status, 502);
  await call(port);
  const many = Object.fromEntries(Array.from({ length: 20 }, (_, index) => [`x-${index}`, '1']));
  t.is((await request(port, { headers: many })).status, 431);
  return (await request(adminPort, { path: '/metrics' })).text;
}

/** What only a workload of a mesh has: a control plane, and callers and servers that are not who they should be. */
async function scrapeMesh(t: ExecutionContext): Promise<string> {
  const mesh = await Mesh.start(t);
  const [web, till] = [await mesh.sidecar(t, 'web'), await mesh.sidecar(t, 'till')];
  mesh.serve('basket', [till.address]);
  t.is((await ask(web)).status, 502);
  const nobody = tls.connect({
    host: '127.0.0.1',
    port: web.inbound,
    servername: 'p3000.web.shop.mesh.test',
    ALPNProtocols: ['mesh/h1'],
    rejectUnauthorized: false,
  });
  t.teardown(() => nobody.destroy());
  // How it ends is the other side's to tell.
  nobody.on('error', () => {});
  nobody.resume();
  return until('both rejections', async () => {
    const { text } = await request(web.admin, { path: '/metrics' });
    const rejected = ['mesh_identity_rejections_total{', 'mesh_upstream_identity_rejections_total{'];
    return rejected.every((series) => text.includes(series)) ? text : undefined;
  });
}

/** One row a family: its type, the labels that any of its samples has, and what it says of itself. */
function table(text: string): string {
  const types = new Map(
    Array.from(text.matchAll(/^# TYPE (\S+) (\S+)$/gm), ([, name = '', type = '']) => [name, type]),
  );
  const helps = new Map(
    Array.from(text.matchAll(/^# HELP (\S+) (.*)$/gm), ([, name = '', help = '']) => [name, help]),
  );
  const rows = Array.from(helps, ([name, help]) => {
    const suffix = types.get(name) === 'histogram' ? '_bucket' : '';
    const samples = text.matchAll(new RegExp(String.raw`^${name}${suffix}\{(.*)\} `, 'gm'));
    const labels = new Set(
      [...samples].flatMap(([, sample = '']) =>
        Array.from(sample.matchAll(/(\w+)="/g), ([, label]) => label),
      ),
    );
    // A histogram's own, and the one that the page tells of above the table.
    for (const other of ['le', 'peer']) labels.delete(other);
    const names = Array.from(labels, (label) => `\`${label}\``).join(', ');
    return `| \`${name}\` | ${types.get(name)} | ${names || '-'} | ${help} |\n`;
  });
  return `| metric | type | labels | meaning |\n|---|---|---|---|\n${rows.join('')}`;
}

test('the rates of the page are those of metrics that there are, by labels that they have', (t) => {
  const rows = [
    ...example('docs/metrics.md', 'rates').matchAll(/by \(([^)]+)\) \(rate\((mesh_\w+?)(?:_bucket)?\[/g),
  ];
  t.is(rows.length, 3);
  for (const [, labels = '', metric = ''] of rows) {
    const row =
      page('docs/metrics.md')
        .split('\n')
        .find((line) => line.startsWith(`| \`${metric}\` |`)) ?? '';
    for (const label of labels.split(', '))
      t.true(label === 'le' || row.includes(`\`${label}\``), `${metric}: ${label}`);
  }
});

test('the page lists the metrics of real scrapes', async (t) => {
  const { is, shouldBe } = generated('docs/metrics.md', table((await scrapeMesh(t)) + (await scrape(t))));
  t.is(is, shouldBe);
});
