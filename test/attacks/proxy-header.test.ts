// Row 32: does a header of the PROXY protocol bind nobody who is not trusted, and cost no more than it may?

import { join } from 'node:path';
import test from 'ava';
import { lines, linesOf } from '../support/access-log.js';
import { temporaryFolder } from '../support/files.js';
import { SIGNATURE, block, line, raw, summed } from '../support/proxy-header.js';
import { connect } from '../support/tcp.js';
import { until } from '../support/wait.js';
import { LISTENERS, front, recorder } from './support.js';

const proxied = { trustedNetworks: ['127.0.0.1'], proxyProtocol: true };
const ORDINARY = 'GET /ordinary HTTP/1.1\r\nHost: a.test\r\n\r\n';
const CLOSED = 'mesh_connections_closed_total';

const client = '192.0.2.1:56324';
const addresses = block(client).subarray(16);
const pieces = (...bytes: number[]): Buffer =>
  raw(0x21, 0x11, Buffer.concat([addresses, Buffer.from(bytes)]));

/** What no sender says. */
const WRONG: Record<string, string | Buffer> = {
  'no header': ORDINARY,
  'a ClientHello': '\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03',
  'the preface of HTTP/2': 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  'another family than its addresses': 'PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n',
  'a port with zeros': 'PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n',
  'an address in octal': 'PROXY TCP4 0300.0.2.1 198.51.100.2 1 2\r\n',
  'a name': 'PROXY TCP4 localhost 198.51.100.2 1 2\r\n',
  blanks: 'PROXY TCP4  192.0.2.1 198.51.100.2 1 2\r\n',
  'a line without end': `PROXY UNKNOWN ${'x'.repeat(93)}`,
  'a line that ends late': `PROXY UNKNOWN ${'x'.repeat(92)}\r\n`,
  'another version': raw(0x31, 0x11, addresses),
  'another command': raw(0x22, 0x11, addresses),
  'another family': raw(0x21, 0x41, addresses),
  'another transport': raw(0x21, 0x13, addresses),
  'less than its addresses': raw(0x21, 0x11, addresses.subarray(1)),
  'more than it may be': raw(0x21, 0x11, addresses, 0xffff),
  'more than it may be, for itself': raw(0x20, 0, Buffer.alloc(5000)),
  'a piece that leads outside': pieces(0xea, 0, 5, 1, 2, 3, 4),
  'a piece that leads far outside': pieces(0xea, 0xff, 0xff, 1),
  'a piece without a length': pieces(0x04, 0, 0, 0xea, 0),
  'a wrong checksum': summed(client, 1),
  'a checksum of two bytes': pieces(0x03, 0, 2, 0, 0),
};

for (const listener of LISTENERS) {
  test(`row 32: ${listener}: what is no header, or a wrong one, is closed without an answer`, async (t) => {
    const path = join(temporaryFolder(t), 'access.log');
    const server = await recorder(t);
    const proxy = await front(t, server.address, { ...proxied, accessLog: { path } });
    const cases = Object.entries(WRONG);
    for (const [number, [what, bytes]] of cases.entries()) {
      const peer = await connect(t, proxy.proxy.port(listener));
      const { localPort } = peer.socket;
      // A request behind it changes nothing.
      await peer.send(bytes, ORDINARY).catch(() => {});
      t.is(await peer.readToEnd(), '', what);
      const labels = { listener, reason: 'proxy_header_invalid' };
      await proxy.counted(number, 1, CLOSED, labels);
      const written = await until(`${what}: its line`, () => linesOf(path)[number]);
      t.like(written, { reason: 'proxy_header_invalid', layer: 'downstream', listener });
      t.is(written['client'], `127.0.0.1:${localPort}`, 'who sent it is blamed, and nobody whom it names');
      t.false('status' in written);
    }
    t.is(await proxy.count('mesh_limit_hits_total', { listener, limit: 'proxy_header_bytes' }), 2);
    t.is(server.bytes(), '');
  });
}

test('row 32: a right checksum is no mistake', async (t) => {
  const server = await recorder(t);
  const proxy = await front(t, server.address, proxied);
  const peer = await connect(t, proxy.proxy.port('plain'));
  await peer.send(summed(client), ORDINARY);
  t.is((await peer.response()).status, 200);
  t.regex(server.bytes(), /\r\nx-forwarded-for: 192\.0\.2\.1\r\n/);
});

for (const listener of LISTENERS) {
  test(`row 32: ${listener}: a header that never ends has the time of a head`, async (t) => {
    const path = join(temporaryFolder(t), 'access.log');
    const server = await recorder(t);
    const timeouts = { header: '300ms', handshake: '20s' };
    const proxy = await front(t, server.address, { ...proxied, timeouts, accessLog: { path } });
    const port = proxy.proxy.port(listener);
    for (const begun of ['', 'P', 'PROXY TCP4 192.0.2.1 ', SIGNATURE, block(client).subarray(0, 20)]) {
      const peer = await connect(t, port);
      // Its time may be over before this process has said anything.
      if (begun !== '') await peer.send(begun).catch(() => {});
      t.is(await peer.readToEnd(), '');
    }
    const dripping = await connect(t, port);
    await dripping.send('PROXY UNKNOWN ').catch(() => {});
    await until('a drip is ended', async () => {
      if (dripping.ended || dripping.closed) return true;
      // Too few to make a line too long in the time that it has.
      if (dripping.socket.bytesWritten < 100) await dripping.send('x').catch(() => {});
      return false;
    });
    await proxy.counted(0, 6, CLOSED, { listener, reason: 'proxy_header_timeout' });
    const reasons = (await lines(path, 6)).map(({ reason }) => reason);
    t.deepEqual(reasons, Array<string>(6).fill('proxy_header_timeout'));
    t.is(server.bytes(), '');
  });
}

test('row 32: a header from elsewhere is bytes like any others', async (t) => {
  const server = await recorder(t);
  const proxy = await front(t, server.address, proxied);
  const elsewhere = (listener: 'plain' | 'tls') =>
    connect(t, proxy.proxy.port(listener), '127.0.0.1', '127.0.0.2');
  for (const header of [line(client), block(client), summed(client)]) {
    const plain = await elsewhere('plain');
    // The header alone is refused.
    await plain.send(header, ORDINARY).catch(() => {});
    t.regex(await plain.readToEnd(), /^HTTP\/1\.1 400 /);
    const secure = await elsewhere('tls');
    await secure.send(header, ORDINARY).catch(() => {});
    t.notRegex(await secure.readToEnd(), /HTTP/);
  }
  t.is(server.bytes(), '');
  const honest = await elsewhere('plain');
  await honest.send(`GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n`);
  t.is((await honest.response()).status, 200);
  t.regex(server.bytes(), /\r\nx-forwarded-for: 127\.0\.0\.2\r\n/);
  t.notRegex(server.bytes(), /192\.0\.2\.1/);
  t.is(await proxy.count(CLOSED, { reason: 'proxy_header_invalid' }), 0);
});

test('row 32: half headers by the hundred cost a buffer each, for as long as a head may take', async (t) => {
  const server = await recorder(t);
  const proxy = await front(t, server.address, { ...proxied, timeouts: { header: '8s' } });
  const half = raw(0x21, 0x11, Buffer.concat([addresses, Buffer.alloc(3000)])).subarray(0, 2000);
  const before = proxy.proxy.residentBytes();
  const peers = await Promise.all(
    Array.from({ length: 500 }, async () => {
      const peer = await connect(t, proxy.proxy.port('plain'));
      await peer.send(half).catch(() => {});
      return peer;
    }),
  );
  t.true(proxy.proxy.residentBytes() - before < 24 * 1024 * 1024);
  const other = await connect(t, proxy.proxy.port('plain'));
  await other.send(line(client), ORDINARY);
  t.is((await other.response()).status, 200, 'others are served meanwhile');
  for (const peer of peers) t.is(await peer.readToEnd(), '');
  await proxy.counted(0, 500, CLOSED, { listener: 'plain', reason: 'proxy_header_timeout' });
});
