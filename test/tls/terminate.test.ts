// Is TLS terminated with the right certificate, in both versions, with what was agreed upon?

import http2 from 'node:http2';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import { Authority } from '../support/certificates.js';
import { startEmbedded } from '../support/embedded.js';
import { temporaryFolder } from '../support/files.js';
import { echoed, httpOrigin } from '../support/http.js';
import { ask, http2Connect } from '../support/http2.js';
import { must, run } from '../support/processes.js';
import { startSidecar, web } from '../support/sidecar.js';
import { connect } from '../support/tcp.js';
import { sClient, tlsConnect } from '../support/tls.js';
import { until } from '../support/wait.js';

test('curl, over HTTP/1.1 and HTTP/2: the server behind is told `https`', async (t) => {
  const authority = await Authority.create(t);
  const tls = await authority.sign({ names: ['a.test'] });
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(t, web({ tls, to: origin.address }));
  const url = `https://a.test:${proxy.port()}/x`;
  const args = [
    '-sS',
    '--cacert',
    authority.root,
    '--resolve',
    `a.test:${proxy.port()}:127.0.0.1`,
    '-w',
    '\n%{http_version}',
    url,
  ];
  for (const [flag, version] of [
    ['--http1.1', '1.1'],
    ['--http2', '2'],
  ] as const) {
    const [text = '', spoken] = (await must('curl', [flag, ...args])).split('\n');
    t.is(spoken, version);
    const seen = echoed({ text });
    t.is(seen.headers['x-forwarded-proto'], 'https');
    t.is(seen.headers.host, `a.test:${proxy.port()}`);
  }
});

test('where no requests are read, what is in TLS goes to the TCP target, whatever ALPN calls it', async (t) => {
  const authority = await Authority.create(t);
  const tls = await authority.sign({ names: ['a.test'] });
  const origin = await httpOrigin(t);
  const plain = http2.createServer((asked, answer) => answer.end(`HTTP/2 ${asked.url}`));
  plain.listen(0, '127.0.0.1');
  await once(plain, 'listening');
  t.teardown(() => plain.close());
  const { port } = plain.address() as AddressInfo;
  const address = '127.0.0.1:0';
  const sni = [{ hosts: ['pass.test'], to: '127.0.0.1:1' }];
  const proxy = await startSidecar(t, {
    listeners: [
      { name: 'auto', address, tls, tcp: origin.address },
      { name: 'sni', address, tls, tcp: origin.address, sni },
      { name: 'tcp', address, protocol: 'tcp', tls: { ...tls, alpn: ['http/1.1'] }, tcp: origin.address },
      { name: 'h2', address, protocol: 'tcp', tls: { ...tls, alpn: ['h2'] }, tcp: `127.0.0.1:${port}` },
    ],
  });
  for (const name of ['auto', 'sni', 'tcp']) {
    for (const flag of ['--http2', '--http1.1', '--no-alpn']) {
      const resolve = ['--resolve', `a.test:${proxy.port(name)}:127.0.0.1`];
      const url = `https://a.test:${proxy.port(name)}/x`;
      const text = await must('curl', ['-sS', flag, '--cacert', authority.root, ...resolve, url]);
      const { headers } = echoed({ text });
      t.false('x-forwarded-for' in headers, `${name} ${flag}`);
    }
  }
  const options = { servername: 'a.test', rejectUnauthorized: false };
  const session = await http2Connect(t, proxy.url('h2', 'https'), options);
  t.is((await ask(session, { ':path': '/y' })).text, 'HTTP/2 /y');
});

test('a request for a name of another certificate is 421, and the connection goes on', async (t) => {
  const authority = await Authority.create(t);
  const names = [['a.test', 'also.test'], ['b.test'], ['*.shop.test'], ['own.shop.test']];
  const certificates = await Promise.all(names.map((some) => authority.sign({ names: some })));
  const proxy = await startSidecar(t, web({ tls: { certificates }, routes: [{ respond: 204 }] }));
  const statuses = async (servername: string, ...authorities: string[]): Promise<number[]> => {
    const options = { servername, rejectUnauthorized: false };
    const session = await http2Connect(t, proxy.url('web', 'https'), options);
    const found = [];
    for (const asked of authorities) {
      found.push((await ask(session, { ':path': '/', ':authority': asked })).status);
    }
    session.close();
    return found;
  };
  // What nobody has a certificate for is left to the routes.
  t.deepEqual(
    await statuses(
      'a.test',
      'a.test',
      'A.test:8443',
      'also.test',
      'b.test',
      'B.test:443',
      'c.test',
      'a.test',
    ),
    [204, 204, 204, 421, 421, 204, 204],
  );
  // A wildcard holds its names, whoever holds them besides.
  t.deepEqual(await statuses('x.shop.test', 'y.shop.test', 'own.shop.test', 'a.test'), [204, 204, 421]);
  t.deepEqual(await statuses('own.shop.test', 'own.shop.test', 'x.shop.test'), [204, 421]);
  // Who asks for no name that is here, or for none, was shown the first for want of a better one.
  t.deepEqual(
    await statuses('unknown.test', 'a.test', 'unknown.test', 'b.test', 'x.shop.test'),
    [204, 204, 421, 421],
  );
  const { socket } = await tlsConnect(t, proxy.port(), { rejectUnauthorized: false, servername: '' });
  socket.write('GET / HTTP/1.1\r\nHost: b.test\r\n\r\n');
  t.regex(String((await once(socket, 'data'))[0]), /^HTTP\/1\.1 204 /);
  const one = await tlsConnect(t, proxy.port(), { rejectUnauthorized: false, servername: 'a.test' });
  one.socket.write('GET / HTTP/1.1\r\nHost: b.test\r\n\r\n');
  t.regex(String((await once(one.socket, 'data'))[0]), /^HTTP\/1\.1 421 Misdirected Request\r\n/);
});

test('the certificate is chosen by the name: exact, wildcard, else the first', async (t) => {
  const authority = await Authority.create(t);
  const names = [['first.test'], ['shop.test', 'www.shop.test'], ['*.shop.test'], ['deep.x.shop.test']];
  const certificates = await Promise.all(names.map((some) => authority.sign({ names: some })));
  const proxy = await startSidecar(t, web({ tls: { certificates }, routes: [{ respond: 200 }] }));
  const shown = async (servername: string): Promise<string> =>
    (
      await tlsConnect(t, proxy.port(), {
        ca: authority.root,
        servername,
        checkServerIdentity: () => undefined,
      })
    ).names;
  t.is(await shown('first.test'), 'DNS:first.test');
  t.is(await shown('shop.test'), 'DNS:shop.test, DNS:www.shop.test');
  t.is(await shown('SHOP.test'), 'DNS:shop.test, DNS:www.shop.test');
  t.is(await shown('www.shop.test'), 'DNS:shop.test, DNS:www.shop.test');
  t.is(await shown('any.shop.test'), 'DNS:*.shop.test');
  t.is(await shown('deep.x.shop.test'), 'DNS:deep.x.shop.test');
  // A wildcard stands for one label.
  t.is(await shown('other.x.shop.test'), 'DNS:first.test');
  t.is(await shown('unknown.test'), 'DNS:first.test');
  t.is(
    (await tlsConnect(t, proxy.port(), { ca: authority.root, checkServerIdentity: () => undefined })).names,
    'DNS:first.test',
  );
});

for (const [version, flag] of [
  ['TLSv1.2', '-tls1_2'],
  ['TLSv1.3', '-tls1_3'],
] as const) {
  test(`${version} is spoken, and older ones are not`, async (t) => {
    const authority = await Authority.create(t);
    const tls = await authority.sign({ names: ['a.test'] });
    const proxy = await startSidecar(t, {
      listeners: [
        { name: 'both', address: '127.0.0.1:0', tls, routes: [{ respond: 200 }] },
        {
          name: 'new',
          address: '127.0.0.1:0',
          tls: { ...tls, minimumVersion: '1.3' },
          routes: [{ respond: 200 }],
        },
      ],
    });
    const both = await sClient(proxy.address('both'), flag, '-CAfile', authority.root);
    t.true(both.made, both.report);
    t.true(both.report.includes(`New, ${version}`), both.report);
    t.true(both.report.includes('Verify return code: 0 (ok)'), both.report);
    t.is((await sClient(proxy.address('new'), flag)).made, version === 'TLSv1.3');
    t.false((await sClient(proxy.address('both'), '-tls1_1', '-cipher', 'ALL:@SECLEVEL=0')).made);
  });
}

test('sessions of TLS 1.2 are resumed by a ticket; nothing is kept for clients without', async (t) => {
  const authority = await Authority.create(t);
  const tls = await authority.sign({ names: ['a.test'] });
  const proxy = await startSidecar(t, web({ tls, routes: [{ respond: 200 }] }));
  const visits = async (...args: string[]): Promise<(string | undefined)[]> => {
    const { report } = await sClient(proxy.address(), '-tls1_2', '-reconnect', ...args);
    return [...report.matchAll(/^(New|Reused), TLSv1\.2/gm)].map(([, how]) => how);
  };
  t.deepEqual(await visits(), ['New', ...Array<string>(5).fill('Reused')]);
  t.deepEqual(await visits('-no_ticket'), Array<string>(6).fill('New'));
});

test('sessions of TLS 1.3 are resumed by a ticket', async (t) => {
  const authority = await Authority.create(t);
  const tls = await authority.sign({ names: ['a.test'] });
  const proxy = await startSidecar(t, web({ tls, routes: [{ respond: 200 }] }));
  const session = join(temporaryFolder(t), 'session.pem');
  // Tickets come behind the handshake: it reads until the answer ends.
  const input = 'GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n';
  const visit = (...args: string[]): Promise<string> =>
    must('openssl', ['s_client', '-connect', proxy.address(), '-tls1_3', '-ign_eof', ...args], { input });
  t.regex(await visit('-sess_out', session), /^New, TLSv1\.3/m);
  t.regex(await visit('-sess_in', session), /^Reused, TLSv1\.3[^]*HTTP\/1\.1 200 /m);
});

test('ALPN: what both speak, in the order of the listener', async (t) => {
  const authority = await Authority.create(t);
  const tls = await authority.sign({ names: ['a.test'] });
  const proxy = await startSidecar(t, {
    listeners: [
      { name: 'both', address: '127.0.0.1:0', tls, routes: [{ respond: 200 }] },
      { name: 'http1', address: '127.0.0.1:0', protocol: 'http1', tls, routes: [{ respond: 200 }] },
      {
        name: 'own',
        address: '127.0.0.1:0',
        tls: { ...tls, alpn: ['http/1.1', 'h2'] },
        routes: [{ respond: 200 }],
      },
    ],
  });
  const agreed = async (listener: string, ...ALPNProtocols: string[]): Promise<string | false | null> =>
    (await tlsConnect(t, proxy.port(listener), { ca: authority.root, servername: 'a.test', ALPNProtocols }))
      .alpn;
  t.is(await agreed('both', 'h2', 'http/1.1'), 'h2');
  t.is(await agreed('both', 'http/1.1', 'h2'), 'h2');
  t.is(await agreed('both', 'http/1.1'), 'http/1.1');
  t.is(await agreed('both'), false);
  t.is(await agreed('own', 'h2', 'http/1.1'), 'http/1.1');
  t.is(await agreed('http1', 'h2', 'http/1.1'), 'http/1.1');
  await t.throwsAsync(agreed('both', 'imap'));
});

test('a client that does not agree on anything speaks what it likes', async (t) => {
  const authority = await Authority.create(t);
  const tls = await authority.sign({ names: ['a.test'] });
  const proxy = await startSidecar(t, web({ tls, routes: [{ respond: { status: 200, body: 'ok' } }] }));
  const { socket } = await tlsConnect(t, proxy.port(), { ca: authority.root, servername: 'a.test' });
  socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  const [answer] = (await once(socket, 'data')) as [Buffer];
  t.regex(answer.toString(), /^HTTP\/1\.1 200 /);

  const other = await tlsConnect(t, proxy.port(), { ca: authority.root, servername: 'a.test' });
  const session = http2.connect('http://a.test', { createConnection: () => other.socket });
  const stream = session.request({ ':path': '/' });
  const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders];
  t.is(Number(headers[':status']), 200);
  session.destroy();
});

test('X25519MLKEM768 is preferred: asked for when only another share came', async (t) => {
  const authority = await Authority.create(t);
  const tls = await authority.sign({ names: ['a.test'] });
  const proxy = await startSidecar(t, web({ tls, routes: [{ respond: 200 }] }));
  // OpenSSL 3.0 does not know the group, so its ClientHello is written by hand: it offers the group, and a share of
  // X25519 only. A server that prefers the group answers with a HelloRetryRequest that names it.
  const peer = await connect(t, proxy.port());
  await peer.send(clientHello([0x11ec, 0x001d], 0x001d));
  const record = await peer.read(5);
  t.is(record[0], 0x16);
  const hello = await peer.read((record[3] ?? 0) * 256 + (record[4] ?? 0));
  const retry = 'cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c';
  t.is(hello.subarray(6, 38).toString('hex'), retry, 'this random says HelloRetryRequest');
  t.true(hello.toString('hex').includes('0033000211ec'), hello.toString('hex'));

  // And a client that knows X25519 alone is served at once.
  const old = await connect(t, proxy.port());
  await old.send(clientHello([0x001d], 0x001d));
  const head = await old.read(5);
  const answer = await old.read((head[3] ?? 0) * 256 + (head[4] ?? 0));
  t.not(answer.subarray(6, 38).toString('hex'), retry);
});

test('a failed handshake is counted, and says why where TLS can', async (t) => {
  const authority = await Authority.create(t);
  const tls = await authority.sign({ names: ['a.test'] });
  const proxy = await startEmbedded(t, web({ tls, routes: [{ respond: 200 }] }));
  const plain = await run('curl', ['-sS', `http://127.0.0.1:${proxy.port()}/`]);
  t.not(plain.code, 0);
  await proxy.closedBy('tls_handshake_failed');
  const { tlsFailures, tlsHandshakes } = await proxy.listener();
  t.is(tlsFailures, 1);
  t.is(tlsHandshakes, 0);
  await tlsConnect(t, proxy.port(), { ca: authority.root, servername: 'a.test' });
  await until('a good one is counted', async () => (await proxy.listener()).tlsHandshakes === 1);
});

/** A ClientHello of TLS 1.3 that offers these groups and a share of one of them. */
function clientHello(groups: number[], share: number): Buffer {
  const u16 = (value: number): Buffer => Buffer.from([value >> 8, value & 255]);
  const sized = (body: Buffer): Buffer => Buffer.concat([u16(body.length), body]);
  const extension = (kind: number, body: Buffer): Buffer => Buffer.concat([u16(kind), sized(body)]);
  const extensions = Buffer.concat([
    extension(0x002b, Buffer.from([2, 3, 4])),
    extension(0x000a, sized(Buffer.concat(groups.map(u16)))),
    extension(0x000d, sized(Buffer.concat([0x0403, 0x0804, 0x0807].map(u16)))),
    extension(0x0033, sized(Buffer.concat([u16(share), sized(Buffer.alloc(32, 9))]))),
  ]);
  const body = Buffer.concat([
    u16(0x0303),
    Buffer.alloc(32, 1),
    Buffer.from([0]),
    sized(Buffer.concat([0x1301, 0x1302, 0x1303].map(u16))),
    Buffer.from([1, 0]),
    sized(extensions),
  ]);
  const handshake = Buffer.concat([Buffer.from([1, 0]), u16(body.length), body]);
  return Buffer.concat([Buffer.from([0x16, 3, 1]), sized(handshake)]);
}
