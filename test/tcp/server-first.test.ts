// Do protocols flow in which the server speaks first, on the port that also takes HTTP?

import http2 from 'node:http2';
import test from 'ava';
import { startEmbedded } from '../support/embedded.js';
import { http2Origin, httpOrigin, proxyStatus } from '../support/http.js';
import { ask } from '../support/http2.js';
import { startSidecar, web } from '../support/sidecar.js';
import { closedPort, connect, tcpServer } from '../support/tcp.js';
import { LAST_WORD_MS, inTime, until } from '../support/wait.js';

test('mail: greeting, dialogue, goodbye', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    await peer.send('220 mail.test ESMTP\r\n');
    t.is(await peer.readUntil('\r\n'), 'EHLO me\r\n');
    await peer.send('250-mail.test\r\n', '250 OK\r\n');
    t.is(await peer.readUntil('\r\n'), 'QUIT\r\n');
    peer.end('221 Bye\r\n');
  });
  const proxy = await startEmbedded(t, web({ to: server.address }));
  for (let n = 0; n < 3; n += 1) {
    const peer = await connect(t, proxy.port());
    t.is(await peer.readUntil('\r\n'), '220 mail.test ESMTP\r\n');
    await peer.send('EHLO me\r\n');
    t.is(await peer.readUntil('250 OK\r\n'), '250-mail.test\r\n250 OK\r\n');
    peer.end('QUIT\r\n');
    t.is(await peer.readToEnd(), '221 Bye\r\n');
  }
  t.is(server.peers.length, 3);
  t.is((await proxy.listener()).detected['tcp'], 3);
});

test('a client that says nothing and ends its side still hears the server that was called', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    await peer.readToEnd();
    peer.end('the time is now\r\n');
  });
  const proxy = await startEmbedded(t, web({ to: server.address }));
  const peer = await connect(t, proxy.port());
  await until('the server is called', () => server.peers.length === 1);
  peer.end();
  t.is(await peer.readToEnd(), 'the time is now\r\n');
});

test('a client that ends its side at once still hears the server', async (t) => {
  const greeter = await tcpServer(t, (peer) => peer.end('220 mail.test ESMTP\r\n'));
  const listener = await tcpServer(t, async (peer) => {
    await peer.readToEnd();
    peer.end('the time is now\r\n');
  });
  for (const [server, said] of [
    [greeter, '220 mail.test ESMTP\r\n'],
    [listener, 'the time is now\r\n'],
  ] as const) {
    const proxy = await startEmbedded(t, web({ routes: [{ respond: 200 }], tcp: server.address }));
    for (let n = 0; n < 3; n += 1) {
      const peer = await connect(t, proxy.port());
      peer.end();
      t.is(await peer.readToEnd(), said);
    }
    t.is((await proxy.listener()).detected['tcp'], 3);
  }
});

test('a database: a binary greeting, then packets both ways', async (t) => {
  const greeting = Buffer.from([0x0a, 0, 0, 0, 0x0a, 0x38, 0x2e, 0x30, 0, 1, 2, 3, 4, 0]);
  const server = await tcpServer(t, async (peer) => {
    await peer.send(greeting);
    for (;;) await peer.send(Buffer.concat([Buffer.from([1]), await peer.read(5)]));
  });
  const proxy = await startSidecar(t, web({ to: server.address }));
  const peer = await connect(t, proxy.port());
  t.deepEqual(await peer.read(greeting.length), greeting);
  for (let n = 0; n < 20; n += 1) {
    const packet = Buffer.from([1, 0, 0, n, 0x03]);
    await peer.send(packet);
    t.deepEqual(await peer.read(6), Buffer.concat([Buffer.from([1]), packet]));
  }
});

test('a server of HTTP/2 greets unasked: a client that hesitates is an HTTP client all the same', async (t) => {
  let greeted = 0;
  const origin = await http2Origin(t, (stream, headers) => {
    stream.respond({ ':status': 200 });
    stream.end(String(headers['x-forwarded-for']));
  });
  origin.server.on('session', () => (greeted += 1));
  const clusters = { site: { endpoints: [origin.address], protocol: 'http2' as const } };
  const proxy = await startEmbedded(t, web({ to: 'site' }, { clusters }));
  const peer = await connect(t, proxy.port());
  await until('the server has greeted and was left', () => greeted === 1 && origin.sessions.size === 0);
  const session = http2.connect(`http://127.0.0.1:${proxy.port()}`, { createConnection: () => peer.socket });
  t.teardown(() => session.destroy());
  t.is((await ask(session, { ':path': '/' })).text, '127.0.0.1');
  t.deepEqual((await proxy.listener()).detected, { http2: 1 });
});

test('a client that hesitates and then speaks HTTP is an HTTP client', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    await peer.readUntil('\r\n\r\n');
    await peer.send('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
  });
  const proxy = await startEmbedded(t, web({ to: server.address }));
  const peer = await connect(t, proxy.port());
  // The target is called because of the silence, and hears nothing of the request.
  const called = await server.accepted();
  await peer.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  t.is((await peer.response()).body, 'ok');
  await called.gone();
  t.is(called.pending, 0);
  t.deepEqual((await proxy.listener()).detected, { http1: 1 });
});

test('a client that hesitates and then speaks something else gets the server that was called', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    peer.end(`got ${await peer.readToEnd()}`);
  });
  const proxy = await startSidecar(t, web({ to: server.address }));
  const peer = await connect(t, proxy.port());
  await server.accepted();
  await peer.send('hel', 'lo\r\n');
  peer.end();
  t.is(await peer.readToEnd(), 'got hello\r\n');
  t.is(server.peers.length, 1);
});

test('a silent client of a dead server: one that speaks HTTP after all learns why', async (t) => {
  const port = await closedPort();
  const proxy = await startEmbedded(
    t,
    web(
      { routes: [{ to: 'dead' }], tcp: 'dead' },
      { clusters: { dead: { endpoints: [`127.0.0.1:${port}`] } } },
    ),
  );
  const refused = async (): Promise<number> =>
    (await proxy.cluster('dead')).connectFailures['connect_refused'] ?? 0;
  const silent = await connect(t, proxy.port());
  await until('it was called in vain', async () => (await refused()) > 0);
  const answer = await inTime('an answer', LAST_WORD_MS, async (spoken) => {
    const before = await refused();
    const http = await connect(t, proxy.port());
    await until('it was called in vain', async () => (await refused()) > before);
    await http.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    spoken();
    return http.response();
  });
  t.is(answer.status, 502);
  t.is(proxyStatus(answer.headers).details, 'connect_refused');
  await silent.gone();
  await proxy.closedBy('connect_refused');
});

test('a client that hesitates is an HTTP client also where the server of streams left without a word', async (t) => {
  const origin = await httpOrigin(t, (_, outgoing) => void outgoing.end('served'));
  const server = await tcpServer(t, (peer) => peer.reset());
  const proxy = await startEmbedded(t, web({ routes: [{ to: origin.address }], tcp: server.address }));
  const answer = await inTime('an answer', LAST_WORD_MS, async (spoken) => {
    const number = server.peers.length;
    const http = await connect(t, proxy.port());
    await (await server.accepted(number)).gone();
    await http.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    spoken();
    return http.response();
  });
  t.is(answer.body, 'served');
  // Whoever speaks something else, or nothing, gets such a server, and its end.
  const number = server.peers.length;
  const other = await connect(t, proxy.port());
  await (await server.accepted(number)).gone();
  await other.send('\x00hello').catch(() => {});
  await other.gone();
  const silent = await connect(t, proxy.port());
  await silent.gone();
});

test('a server that closes without a word closes the client', async (t) => {
  const server = await tcpServer(t, (peer) => peer.end());
  const proxy = await startSidecar(t, web({ protocol: 'tcp', tcp: server.address }));
  const peer = await connect(t, proxy.port());
  t.is(await peer.readToEnd(), '');
  peer.end();
  await (await server.accepted()).gone();
});
