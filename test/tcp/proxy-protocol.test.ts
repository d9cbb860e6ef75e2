// Is a connection that a proxy in front passes on the client's that it names, and nobody else's?

import http2 from 'node:http2';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { parseShape } from '../../src/config/load.js';
import { type Config, ConfigError, checkConfig, createProxy } from '../../src/index.js';
import { startWithAdmin } from '../sidecar/support.js';
import { lines, linesOf } from '../support/access-log.js';
import { Authority } from '../support/certificates.js';
import { temporaryFolder } from '../support/files.js';
import { echoed, httpOrigin } from '../support/http.js';
import { ask } from '../support/http2.js';
import { LOCAL, block, line, raw, summed, tlsBehind } from '../support/proxy-header.js';
import { startSidecar, web } from '../support/sidecar.js';
import { Peer, connect, tcpServer } from '../support/tcp.js';
import { httpsOrigin } from '../support/tls.js';

/** A proxy is believed that comes from here, and not one from 127.0.0.2. */
const proxied = { trustedNetworks: ['127.0.0.1/32'], proxyProtocol: true };

const CLIENTS = ['192.0.2.1:56324', '[2001:db8::1]:4000', '[::ffff:c000:207]:1'] as const;
const HEADERS = [line, block, summed] as const;

/** As it stands in `x-forwarded-for`. */
const ip = (client: string): string =>
  client.startsWith('[::ffff:') ? '192.0.2.7' : client.replaceAll(/:\d+$|[[\]]/g, '');

const get = (headers = ''): string => `GET /x HTTP/1.1\r\nHost: a.test\r\n${headers}\r\n`;

async function seen(peer: Peer): Promise<Record<string, unknown>> {
  const { status, body } = await peer.response();
  return status === 200 ? echoed({ text: body }).headers : { status };
}

for (const protocol of ['auto', 'http1'] as const) {
  test(`HTTP/1, ${protocol}: the server behind is told of the client, at any split of the bytes`, async (t) => {
    const origin = await httpOrigin(t);
    const proxy = await startSidecar(t, web({ ...proxied, protocol, routes: [{ to: origin.address }] }));
    for (const client of CLIENTS) {
      for (const header of HEADERS) {
        const bytes = Buffer.concat([Buffer.from(header(client)), Buffer.from(get())]);
        const whole = await connect(t, proxy.port());
        await whole.send(bytes);
        t.is((await seen(whole))['x-forwarded-for'], ip(client), `${header.name} ${client}`);
        // The header is the connection's, and not that of each request.
        await whole.send(get());
        t.is((await seen(whole))['x-forwarded-for'], ip(client), `${header.name} ${client}, again`);
        await whole.send(line('203.0.113.9:1'));
        t.is((await seen(whole))['status'], 400, 'a second header is a wrong request');
        const split = await connect(t, proxy.port());
        await split.send(...Array.from(bytes, (byte) => Buffer.of(byte)));
        t.is((await seen(split))['x-forwarded-for'], ip(client), `${header.name} ${client}, byte by byte`);
      }
    }
  });
}

test('HTTP/2: the client that the header names is that of every stream', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(t, web({ ...proxied, routes: [{ to: origin.address }] }));
  for (const header of HEADERS) {
    const { socket } = await connect(t, proxy.port());
    socket.removeAllListeners('data');
    socket.write(header('192.0.2.1:56324'));
    const session = http2.connect(proxy.url(), { createConnection: () => socket });
    t.teardown(() => session.destroy());
    t.is(echoed(await ask(session, { ':path': '/x' })).headers['x-forwarded-for'], '192.0.2.1');
    t.is(echoed(await ask(session, { ':path': '/y' })).headers['x-forwarded-for'], '192.0.2.1');
    session.close();
  }
});

test('TLS that ends here, and TLS that passes through: ClientHello and header in one write', async (t) => {
  const authority = await Authority.create(t);
  const tls = await authority.sign({ names: ['a.test'] });
  const origin = await httpOrigin(t);
  const secure = await httpsOrigin(t, tls);
  const address = '127.0.0.1:0';
  const proxy = await startSidecar(t, {
    listeners: [
      { ...proxied, name: 'ends', address, tls, routes: [{ to: origin.address }] },
      {
        ...proxied,
        name: 'passes',
        address,
        protocol: 'tlsPassthrough',
        sni: [{ hosts: 'a.test', to: secure.address }],
      },
    ],
  });
  const options = { servername: 'a.test', ALPNProtocols: ['http/1.1'] };
  for (const header of HEADERS) {
    const ends = await tlsBehind(t, proxy.port('ends'), header('192.0.2.1:56324'), options);
    await ends.send(get());
    t.like(await seen(ends), { 'x-forwarded-for': '192.0.2.1', 'x-forwarded-proto': 'https' });
    const passes = await tlsBehind(t, proxy.port('passes'), header('192.0.2.1:56324'), options);
    await passes.send(get());
    t.is((await passes.response()).body, 'origin');
  }
  t.deepEqual(secure.names, ['a.test', 'a.test', 'a.test']);
});

test('TCP: only what stands behind the header arrives, also where the server speaks first', async (t) => {
  const server = await tcpServer(t, (peer) => peer.send('220 hello\r\n'));
  const address = '127.0.0.1:0';
  const proxy = await startSidecar(t, {
    listeners: [
      { ...proxied, name: 'tcp', address, protocol: 'tcp', tcp: server.address },
      { ...proxied, name: 'auto', address, to: server.address },
    ],
  });
  for (const name of ['tcp', 'auto']) {
    for (const header of HEADERS) {
      const number = server.peers.length;
      const peer = await connect(t, proxy.port(name));
      await peer.send(header('192.0.2.1:56324'));
      t.is(await peer.readUntil('\n'), '220 hello\r\n');
      const behind = `${line('203.0.113.9:1')}and more`;
      peer.end(behind);
      t.is(await (await server.accepted(number)).readToEnd(), behind, `${name} ${header.name}`);
    }
  }
  for (const header of HEADERS) {
    const number = server.peers.length;
    const peer = await connect(t, proxy.port('tcp'));
    peer.end(Buffer.concat([Buffer.from(header('192.0.2.1:56324')), Buffer.from('at once')]));
    t.is(await (await server.accepted(number)).readToEnd(), 'at once');
  }
});

test('the access log has the client, and a balancer that hashes addresses its', async (t) => {
  const path = join(temporaryFolder(t), 'access.log');
  const origins = await Promise.all(
    Array.from({ length: 4 }, (_, n) => httpOrigin(t, (_incoming, outgoing) => outgoing.end(String(n)))),
  );
  const endpoints = origins.map(({ address }) => address);
  const proxy = await startSidecar(
    t,
    web(
      { ...proxied, routes: [{ to: 'app', hashKey: 'sourceAddress' }], accessLog: { path } },
      { clusters: { app: { endpoints, balance: 'ringHash' } } },
    ),
  );
  const chosen = new Map<string, string>();
  for (let n = 0; n < 60; n += 1) {
    const client = `192.0.2.${n % 30}`;
    const peer = await connect(t, proxy.port());
    await peer.send(block(`${client}:${1000 + n}`), get());
    const { body } = await peer.response();
    t.is(body, chosen.get(client) ?? body, client);
    chosen.set(client, body);
  }
  t.true(new Set(chosen.values()).size > 1, 'not all by the address of the proxy in front');
  const logged = await lines(path, 60);
  t.deepEqual(
    logged.map(({ client }) => client),
    Array.from({ length: 60 }, (_, n) => `192.0.2.${n % 30}:${1000 + n}`),
  );
});

test('what is believed of the way here goes by the client, and not by the proxy in front', async (t) => {
  const origin = await httpOrigin(t);
  const trustedNetworks = ['127.0.0.1', '10.0.0.0/8'];
  const proxy = await startSidecar(t, web({ ...proxied, trustedNetworks, routes: [{ to: origin.address }] }));
  const claims = 'X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n';
  for (const [header, forwarded, proto] of [
    [line('192.0.2.1:1'), '192.0.2.1', 'http'],
    [line('10.1.1.1:1'), '1.2.3.4, 10.1.1.1', 'https'],
    // The proxy in front speaks for itself.
    [LOCAL, '1.2.3.4, 127.0.0.1', 'https'],
    ['PROXY UNKNOWN 192.0.2.1 192.0.2.2 1 2\r\n', '1.2.3.4, 127.0.0.1', 'https'],
    [raw(0x21, 0, Buffer.from('anything')), '1.2.3.4, 127.0.0.1', 'https'],
    [raw(0x20, 0x11, block('192.0.2.1:1').subarray(16)), '1.2.3.4, 127.0.0.1', 'https'],
    // A client of its own Unix socket has no address, and did not come by one of ours.
    [raw(0x21, 0x31, Buffer.alloc(216)), 'unknown', 'http'],
  ] as const) {
    const peer = await connect(t, proxy.port());
    await peer.send(header, get(claims));
    t.like(await seen(peer), { 'x-forwarded-for': forwarded, 'x-forwarded-proto': proto });
  }
});

test('policies go by the client', async (t) => {
  const resources = {
    ...checkConfig(web({ ...proxied, routes: [{ respond: 200 }] })).compiled.resources,
    policies: [
      {
        name: 'one-network',
        targets: [{ kind: 'listener' as const, value: 'web' }],
        action: 'allow' as const,
        rules: [{ networks: ['192.0.2.0/24'] }],
      },
    ],
  };
  const proxy = await startSidecar(t, { resources });
  for (const [header, status] of [
    [line('192.0.2.1:1'), 200],
    [block('[::ffff:c000:201]:1'), 200],
    [block('198.51.100.1:1'), 403],
    [LOCAL, 403],
  ] as const) {
    const peer = await connect(t, proxy.port());
    await peer.send(header, get());
    t.is((await peer.response()).status, status);
  }
});

test('who comes from elsewhere is taken as it is', async (t) => {
  const origin = await httpOrigin(t);
  const server = await tcpServer(t);
  const address = '127.0.0.1:0';
  const proxy = await startSidecar(t, {
    listeners: [
      { ...proxied, name: 'web', address, routes: [{ to: origin.address }] },
      { ...proxied, name: 'tcp', address, protocol: 'tcp', tcp: server.address },
    ],
  });
  const elsewhere = (name: string): Promise<Peer> => connect(t, proxy.port(name), '127.0.0.1', '127.0.0.2');
  const plain = await elsewhere('web');
  await plain.send(get());
  t.is((await seen(plain))['x-forwarded-for'], '127.0.0.2');
  const forged = await elsewhere('tcp');
  forged.end(line('192.0.2.1:1'));
  t.is(await (await server.accepted()).readToEnd(), line('192.0.2.1:1'));
});

test('by a Unix socket, where that is trusted', async (t) => {
  const origin = await httpOrigin(t);
  const path = join(temporaryFolder(t), 'web.sock');
  await startSidecar(t, {
    listeners: [
      {
        name: 'web',
        address: `unix:${path}`,
        proxyProtocol: true,
        trustedNetworks: ['unix'],
        routes: [{ to: origin.address }],
      },
    ],
  });
  for (const [header, client] of [
    [line('192.0.2.1:1'), '192.0.2.1'],
    [LOCAL, 'unknown'],
  ] as const) {
    const socket = net.connect({ path });
    t.teardown(() => socket.destroy());
    const peer = new Peer(socket);
    await peer.send(header, get());
    t.is((await seen(peer))['x-forwarded-for'], client);
  }
});

async function quiet(t: ExecutionContext, leave: (peer: Peer) => unknown): Promise<void> {
  const path = join(temporaryFolder(t), 'access.log');
  const origin = await httpOrigin(t);
  const work = web({ ...proxied, routes: [{ to: origin.address }], accessLog: { path } });
  const { sidecar, admin } = await startWithAdmin(t, work);
  for (let n = 0; n < 5; n += 1) await leave(await connect(t, sidecar.port('web')));
  const closed = 'mesh_connections_closed_total';
  const metrics = await admin.metricsOnce(
    'all have left',
    (each) => each.sum(closed, { listener: 'web' }) >= 5,
  );
  t.is(metrics.sum(closed, { listener: 'web', reason: 'none' }), 5);
  t.deepEqual(linesOf(path), []);
  t.is(origin.connections, 0);
}

test('who leaves without a word, as probes do, is no error', async (t) => {
  await quiet(t, (peer) => peer.end());
  await quiet(t, (peer) => peer.reset());
});

test('who leaves after a header of its own, as health checks do, is no error', async (t) => {
  await quiet(t, (peer) => peer.end(LOCAL));
  await quiet(t, (peer) => peer.end('PROXY UNKNOWN\r\n'));
});

test('a listener that nobody could send a header to is refused, with its place', async (t) => {
  for (const [address, trusted] of [
    [':0', '[]'],
    [':0', '[unix]'],
    ['unix:web.sock', '[10.0.0.0/8]'],
  ] as const) {
    const rest = `address: '${address}', to: '127.0.0.1:1', trustedNetworks: ${trusted}`;
    const text = `listeners:\n  - { ${rest},\n      proxyProtocol: true }\n`;
    const config = parseShape(text, { file: 'mesh.yaml' });
    const proxy = createProxy(config);
    const error = await t.throwsAsync(proxy.listen(), { instanceOf: ConfigError });
    t.is(error?.issues.length, 1);
    const place = { file: 'mesh.yaml', line: 3, column: 22, field: 'listeners[0].proxyProtocol' };
    t.like(error?.issues[0], { ...place, code: 'missing' }, trusted);
  }
});

test('who came before headers were asked for goes, and who comes later is asked', async (t) => {
  const origin = await httpOrigin(t);
  const config = (proxyProtocol: boolean): Config =>
    web({ ...proxied, proxyProtocol, routes: [{ to: origin.address }] });
  const proxy = await startSidecar(t, config(false));
  const before = await connect(t, proxy.port());
  await before.send(get());
  t.is((await seen(before))['x-forwarded-for'], '127.0.0.1');
  await proxy.reload(config(true));
  // For whom it speaks was never asked.
  await before.gone();
  const after = await connect(t, proxy.port());
  await after.send(line('192.0.2.1:1'), get());
  t.is((await seen(after))['x-forwarded-for'], '192.0.2.1');
});
