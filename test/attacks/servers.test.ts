// Rows 17, 18 and 21: does a server that lies, or that is lied to, get at the requests of others?

import test from 'ava';
import { proxyStatus } from '../support/http.js';
import { type Peer, tcpServer } from '../support/tcp.js';
import { until } from '../support/wait.js';
import { HIDDEN } from '../../src/attack/payloads.js';
import { ANSWERS } from './answers.js';
import { front } from './support.js';

const GOOD = 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood';
const ask = (method = 'GET'): string => `${method} /ask HTTP/1.1\r\nHost: a.test\r\n\r\n`;

test('row 21', async (t) => {
  let bytes = '';
  // Of each pair of connections the first is bad.
  let bad = true;
  const server = await tcpServer(t, async (peer) => {
    const isBad = bad;
    bad = false;
    await peer.readUntil('\r\n\r\n');
    if (isBad) return peer.send(bytes);
    for (;;) {
      await peer.send(GOOD);
      await peer.readUntil('\r\n\r\n');
    }
  });
  const proxy = await front(t, server.address);
  const bystander = await proxy.connect(t, 'plain');
  for (const answer of ANSWERS) {
    bytes = answer.bytes;
    bad = true;
    const before = server.peers.length;
    const peer = await proxy.connect(t, 'plain');
    await peer.send(ask(answer.method));
    let response = await peer.response(answer.method);
    while (response.status < 200) response = await peer.response(answer.method);
    if ('detail' in answer.outcome) {
      t.is(response.status, 502, answer.name);
      t.regex(proxyStatus(response.headers).details, new RegExp(`: ${answer.outcome.detail}$`), answer.name);
    } else {
      t.true(response.status < 400, answer.name);
      t.is(response.body, answer.outcome.body, answer.name);
    }
    // Neither this client nor another one sees anything of what came behind.
    for (const client of [peer, bystander]) {
      await client.send(ask());
      const next = await client.response();
      t.is(next.body, 'good', answer.name);
    }
    const [spoilt] = server.peers.slice(before) as [Peer];
    await until(`the connection of ${answer.name} is closed`, () => spoilt.ended || spoilt.closed);
    t.is(spoilt.text(), '', `${answer.name}: nothing more was asked there`);
    for (const each of server.peers) each.socket.destroy();
    peer.socket.destroy();
  }
});

test('row 21: a response that comes before it was asked for', async (t) => {
  // The first connection says more once it is idle.
  const server = await tcpServer(t, async (peer, number) => {
    await peer.readUntil('\r\n\r\n');
    await peer.send(GOOD);
    if (number === 0) await peer.send('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged');
    await peer.readUntil('\r\n\r\n');
    await peer.send(number === 0 ? 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad' : GOOD);
  });
  const proxy = await front(t, server.address);
  const peer = await proxy.connect(t, 'plain');
  await peer.send(ask());
  t.is((await peer.response()).body, 'good');
  const first = await server.accepted(0);
  await until('the proxy closes what says too much', async () => {
    if (first.ended || first.closed) return true;
    await peer.send(ask());
    t.is((await peer.response()).body, 'good');
    return false;
  });
});

const UPGRADE = 'GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n';

test('row 17: what is sent before 101 waits for it', async (t) => {
  const server = await tcpServer(t);
  const proxy = await front(t, server.address);
  for (const listener of ['plain', 'tls'] as const) {
    const number = server.peers.length;
    const peer = await proxy.connect(t, listener);
    await peer.send(`${UPGRADE}${HIDDEN}`);
    const upstream = await server.accepted(number);
    await upstream.readUntil('\r\n\r\n');
    // Another request goes through meanwhile, so the bytes have long come.
    const other = await proxy.connect(t, 'plain');
    await other.send(ask());
    const elsewhere = await server.accepted(number + 1);
    await elsewhere.send('HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ngood');
    await other.response();
    t.is(upstream.text(), '');
    await upstream.send(
      'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nwelcome',
    );
    t.is((await peer.response()).status, 101);
    await upstream.readUntil(HIDDEN);
    t.is(await peer.readUntil('welcome'), 'welcome');
    peer.end();
    upstream.end();
    await peer.gone();
  }
});

for (const status of ['200 OK', '403 Forbidden', '426 Upgrade Required', '500 Internal Server Error']) {
  test(`row 17: an upgrade that is answered by ${status}`, async (t) => {
    const server = await tcpServer(t, async (peer) => {
      await peer.readUntil('\r\n\r\n');
      await peer.send(`HTTP/1.1 ${status}\r\nContent-Length: 2\r\n\r\nno`);
    });
    const proxy = await front(t, server.address);
    const peer = await proxy.connect(t, 'plain');
    await peer.send(`${UPGRADE}${HIDDEN}`);
    t.is((await peer.response()).body, 'no');
    t.is(await peer.readToEnd(), '', 'the bytes behind it are no request');
    const upstream = await server.accepted();
    await until('its connection is closed', () => upstream.ended || upstream.closed);
    t.is(upstream.text(), '');
    t.is(server.peers.length, 1);
  });
}

test('row 17: an upgrade to another protocol than was asked for', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    await peer.readUntil('\r\n\r\n');
    await peer.send('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n');
  });
  const proxy = await front(t, server.address);
  const peer = await proxy.connect(t, 'plain');
  await peer.send(`${UPGRADE}${HIDDEN}`);
  t.is((await peer.response()).status, 502);
  t.is(await peer.readToEnd(), '');
  t.is((await server.accepted()).text(), '');
});

test('row 17: CONNECT that is denied', async (t) => {
  const server = await tcpServer(t);
  const proxy = await front(t, server.address);
  const peer = await proxy.connect(t, 'plain');
  await peer.send(`CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n${HIDDEN}`);
  t.is((await peer.response()).status, 403);
  t.is(await peer.readToEnd(), '');
  t.is(server.peers.length, 0);
});

test('row 17: h2c is no upgrade', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    const head = await peer.readUntil('\r\n\r\n');
    t.notRegex(head, /h2c|http2-settings|upgrade/i);
    await peer.send(GOOD);
  });
  const proxy = await front(t, server.address);
  const peer = await proxy.connect(t, 'plain');
  await peer.send(
    'GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n',
  );
  t.is((await peer.response()).body, 'good');
});

test('row 18: a response that comes before the body was read', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    await peer.readUntil('\r\n\r\n');
    await peer.send(GOOD);
  });
  const proxy = await front(t, server.address);
  for (const listener of ['plain', 'tls'] as const) {
    const number = server.peers.length;
    const peer = await proxy.connect(t, listener);
    // The rest of the body, had it been skipped, would be a request.
    await peer.send(`POST /early HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000\r\n\r\n${'x'.repeat(10)}`);
    t.is((await peer.response()).body, 'good');
    await peer.send(HIDDEN).catch(() => {});
    t.is(await peer.readToEnd(), '', 'no second response');
    const upstream = await server.accepted(number);
    await until('its connection is closed', () => upstream.ended || upstream.closed);
    t.notRegex(upstream.text(), /^GET/);
    // Others are served on other connections.
    const other = await proxy.connect(t, 'plain');
    await other.send(ask());
    t.is((await other.response()).body, 'good');
    t.is(server.peers.length, number + 2);
    (server.peers[number + 1] as Peer).socket.destroy();
  }
});

test('row 19: a final answer before 100, and a body that never comes', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    await peer.readUntil('\r\n\r\n');
    await peer.send('HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno');
  });
  const proxy = await front(t, server.address);
  const peer = await proxy.connect(t, 'plain');
  await peer.send('POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n');
  t.is((await peer.response()).body, 'no');
  await peer.send(HIDDEN).catch(() => {});
  t.is(await peer.readToEnd(), '');
  const upstream = await server.accepted();
  await until('its connection is closed', () => upstream.ended || upstream.closed);
  t.is(upstream.text(), '');
});
