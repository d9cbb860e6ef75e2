// Do the proxies that people have in front say who their clients are, and are they understood?

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { startWithAdmin } from '../sidecar/support.js';
import { linesOf } from '../support/access-log.js';
import { Authority } from '../support/certificates.js';
import { temporaryFolder } from '../support/files.js';
import { echoed, httpOrigin } from '../support/http.js';
import { must, start } from '../support/processes.js';
import { startSidecar, web } from '../support/sidecar.js';
import { closedPort, connect, tcpServer } from '../support/tcp.js';
import { until } from '../support/wait.js';

/** The proxy in front; clients come from elsewhere. */
const proxied = { trustedNetworks: ['127.0.0.1'], proxyProtocol: true };
const CLIENT = '127.0.0.2';

/** HAProxy, which passes each of its ports on to one of ours. Gives its ports, once all are open. */
async function haproxy(
  t: ExecutionContext,
  { mode, to, bind = '' }: { mode: string; to: readonly [port: number, options: string][]; bind?: string },
): Promise<number[]> {
  const ports = await Promise.all(to.map(() => closedPort()));
  const defaults = `defaults\n mode ${mode}\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n`;
  const fronts = to.map(
    ([port, options], n) =>
      `listen l${n}\n bind 127.0.0.1:${ports[n]} ${bind}\n server one 127.0.0.1:${port} ${options}\n`,
  );
  const file = join(temporaryFolder(t), 'haproxy.cfg');
  writeFileSync(file, `global\n ssl-server-verify none\n${defaults}${fronts.join('')}`);
  start(t, 'haproxy', ['-db', '-f', file]);
  for (const port of ports) {
    const open = async (): Promise<boolean> => {
      const peer = await connect(t, port).catch(() => undefined);
      peer?.socket.destroy();
      return peer !== undefined;
    };
    await until(`port ${port} is open`, open);
  }
  return ports;
}

const SENDS = [
  'send-proxy',
  'send-proxy-v2',
  'send-proxy-v2 proxy-v2-options crc32c,unique-id',
  'send-proxy-v2-ssl proxy-v2-options ssl,authority,crc32c',
] as const;

test('HAProxy in front of HTTP, of TLS that ends here, and of TCP', async (t) => {
  const path = join(temporaryFolder(t), 'access.log');
  const authority = await Authority.create(t);
  const tls = await authority.sign({ names: ['a.test'] });
  const origin = await httpOrigin(t);
  const server = await tcpServer(t, async (peer) => {
    await peer.send('hello\n');
    peer.end(await peer.readToEnd());
  });
  const common = { ...proxied, address: '127.0.0.1:0', accessLog: { path } };
  const proxy = await startSidecar(t, {
    listeners: [
      { ...common, name: 'http', routes: [{ to: origin.address }] },
      { ...common, name: 'tls', tls, routes: [{ to: origin.address }] },
      { ...common, name: 'tcp', protocol: 'tcp', tcp: server.address },
    ],
  });
  const [http, secure, tcp] = ['http', 'tls', 'tcp'].map((name) => proxy.port(name)) as [
    number,
    number,
    number,
  ];
  for (const sends of SENDS) {
    const ports = await haproxy(t, {
      mode: 'tcp',
      to: [
        [http, sends],
        [secure, sends],
        [tcp, sends],
      ],
    });
    const [plain, encrypted, bytes] = ports as [number, number, number];
    const curl = ['-sS', '--interface', CLIENT];
    const asked = await must('curl', [...curl, `http://127.0.0.1:${plain}/x`]);
    t.is(echoed({ text: asked }).headers['x-forwarded-for'], CLIENT, sends);
    for (const version of ['--http1.1', '--http2']) {
      const resolve = ['--resolve', `a.test:${encrypted}:127.0.0.1`, '--cacert', authority.root, version];
      const text = await must('curl', [...curl, ...resolve, `https://a.test:${encrypted}/x`]);
      t.is(echoed({ text }).headers['x-forwarded-for'], CLIENT, `${sends} ${version}`);
      t.is(echoed({ text }).headers['x-forwarded-proto'], 'https');
    }
    const peer = await connect(t, bytes, '127.0.0.1', CLIENT);
    await peer.readUntil('\n');
    const { localPort } = peer.socket;
    peer.end();
    const line = await until('its line', () =>
      linesOf(path).find(({ client }) => client === `${CLIENT}:${localPort}`),
    );
    t.like(line, { listener: 'tcp', protocol: 'tcp' }, sends);
  }
  t.deepEqual(
    linesOf(path).filter(({ reason }) => /proxy_header/.test(String(reason))),
    [],
  );
});

test('HAProxy that ends TLS and reads requests itself, and says all that it knows', async (t) => {
  const authority = await Authority.create(t);
  const { certificate, key } = await authority.sign({ names: ['a.test'] });
  const both = join(temporaryFolder(t), 'both.pem');
  writeFileSync(both, `${await must('cat', [certificate, key])}`);
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(t, web({ ...proxied, routes: [{ to: origin.address }] }));
  const everything = 'ssl,cert-cn,ssl-cipher,cert-sig,cert-key,authority,crc32c,unique-id';
  for (const mode of ['http', 'tcp']) {
    const sends = `send-proxy-v2-ssl-cn proxy-v2-options ${everything}`;
    const bind = `ssl crt ${both}`;
    const [port = 0] = await haproxy(t, { mode, bind, to: [[proxy.port(), sends]] });
    const resolve = ['--resolve', `a.test:${port}:127.0.0.1`, '--cacert', authority.root];
    const url = `https://a.test:${port}/x`;
    const text = await must('curl', ['-sS', '--http1.1', '--interface', CLIENT, ...resolve, url]);
    t.is(echoed({ text }).headers['x-forwarded-for'], CLIENT, mode);
  }
});

test('health checks of HAProxy: who speaks for itself is served, and leaves as it likes', async (t) => {
  const path = join(temporaryFolder(t), 'access.log');
  const origin = await httpOrigin(t);
  const work = web({ ...proxied, routes: [{ to: origin.address }], accessLog: { path } });
  const { sidecar, admin } = await startWithAdmin(t, work);
  const closed = 'mesh_connections_closed_total';
  for (const sends of ['send-proxy', 'send-proxy-v2', 'check-send-proxy']) {
    const before = (await admin.metrics()).sum(closed, { listener: 'web' });
    await haproxy(t, { mode: 'tcp', to: [[sidecar.port('web'), `check inter 20ms ${sends}`]] });
    await admin.metricsOnce(
      'several have left',
      (metrics) => metrics.sum(closed, { listener: 'web' }) >= before + 5,
    );
  }
  const metrics = await admin.metrics();
  const errors = metrics
    .samples(closed, { listener: 'web' })
    .filter(({ labels }) => /proxy/.test(labels['reason'] ?? ''));
  t.deepEqual(errors, []);
  t.deepEqual(linesOf(path), []);

  // A check that asks: its address is that of the proxy in front. Some are given up, where much else is to be done.
  await haproxy(t, {
    mode: 'http\n option httpchk GET /health',
    to: [[sidecar.port('web'), 'check inter 200ms send-proxy-v2']],
  });
  const line = await until('a check is answered', () => linesOf(path).find(({ status }) => status === 200));
  t.like(line, { path: '/health' });
  t.regex(String(line['client']), /^127\.0\.0\.1:/);
});

test('curl that speaks for itself', async (t) => {
  const authority = await Authority.create(t);
  const tls = await authority.sign({ names: ['a.test'] });
  const origin = await httpOrigin(t);
  const common = { proxyProtocol: true, trustedNetworks: ['127.0.0.0/8'], address: '127.0.0.1:0' };
  const proxy = await startSidecar(t, {
    listeners: [
      { ...common, name: 'http', routes: [{ to: origin.address }] },
      { ...common, name: 'tls', tls, routes: [{ to: origin.address }] },
    ],
  });
  for (const [name, scheme, version] of [
    ['http', 'http', '--http1.1'],
    ['http', 'http', '--http2-prior-knowledge'],
    ['tls', 'https', '--http1.1'],
    ['tls', 'https', '--http2'],
  ] as const) {
    const url = `${scheme}://a.test:${proxy.port(name)}/x`;
    const resolve = ['--resolve', `a.test:${proxy.port(name)}:127.0.0.1`, '--cacert', authority.root];
    // This curl can't use a connection of HTTP/2 without TLS twice.
    const urls = version === '--http2-prior-knowledge' ? [url] : [url, url];
    const args = ['-sS', '--haproxy-protocol', '--interface', '127.0.0.3', version, ...resolve, ...urls];
    const answers = (await must('curl', args)).split(/(?<=\})(?=\{"method)/);
    t.is(answers.length, urls.length);
    for (const text of answers) {
      t.is(echoed({ text }).headers['x-forwarded-for'], '127.0.0.3', `${url} ${version}`);
    }
  }
});
