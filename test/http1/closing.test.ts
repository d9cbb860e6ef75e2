// When does a connection end, and when does it go on?

import test from 'ava';
import { httpOrigin, keepAliveAgent, proxyStatus, request } from '../support/http.js';
import { startEmbedded } from '../support/embedded.js';
import { startSidecar, web } from '../support/sidecar.js';
import { connect, tcpServer } from '../support/tcp.js';
import { inTime, until } from '../support/wait.js';

/** How long an answer may be silent for a client that ended its side: `HALF_CLOSED_GRACE` of the core. */
const GRACE_MS = 5000;

test('a server that closes after its answer costs the client nothing', async (t) => {
  const origin = await httpOrigin(t, (_, outgoing) => {
    outgoing.setHeader('connection', 'close');
    outgoing.end('ok');
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const agent = keepAliveAgent(t, { maxSockets: 1 });
  for (let n = 0; n < 5; n += 1) {
    const answer = await request(proxy.port(), { agent });
    t.is(answer.text, 'ok');
    t.is(answer.reused, n > 0);
    t.not(answer.headers.connection, 'close');
  }
  t.is(origin.connections, 5);
});

test('a client that closes after its answer costs the server nothing', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  for (let n = 0; n < 5; n += 1) {
    const answer = await request(proxy.port(), { headers: { connection: 'close' } });
    t.is(answer.status, 200);
    t.is(answer.headers.connection, 'close');
  }
  t.is(origin.connections, 1);
});

test('a client that ends its side after its request still gets the answer', async (t) => {
  let answer = (): void => {};
  const origin = await httpOrigin(t, (_, outgoing) => {
    answer = () => outgoing.end('ok');
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const [body, rest] = await inTime('an answer', GRACE_MS, async (answered) => {
    const { requests } = origin;
    const peer = await connect(t, proxy.port());
    peer.end('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    await until('the request arrives', () => origin.requests > requests);
    answer();
    answered();
    return [(await peer.response()).body, await peer.readToEnd()];
  });
  t.deepEqual([body, rest], ['ok', '']);
});

test('a pooled connection that the server has closed is not used; one closed amid the request is tried anew', async (t) => {
  const server = await tcpServer(t, async (peer, number) => {
    for (let n = 0; ; n += 1) {
      await peer.readUntil('\r\n\r\n');
      // The first connection answers once; the second request on it meets a close without a word.
      if (number === 0 && n === 1) return peer.end();
      await peer.send(`HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n${number}`);
    }
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: server.address }] }));
  t.is((await request(proxy.port())).text, '0');
  t.is((await request(proxy.port())).text, '1');
  t.is((await request(proxy.port())).text, '1');
});

test('a POST on a pooled connection that closes amid it is not sent twice', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    await peer.readUntil('\r\n\r\n');
    await peer.send('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
    await peer.readUntil('\r\n\r\n');
    peer.end();
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: server.address }] }));
  t.is((await request(proxy.port())).status, 200);
  const answer = await request(proxy.port(), { method: 'POST', body: 'pay' });
  t.is(answer.status, 502);
  t.deepEqual(proxyStatus(answer.headers), { error: 'connection_terminated', details: 'upstream_closed' });
  t.is(server.peers.length, 1);
});

test('a server that never answers on a new connection is 502, and asked once', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    await peer.readUntil('\r\n\r\n');
    peer.end();
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: server.address }] }));
  const answer = await request(proxy.port());
  t.is(answer.status, 502);
  t.is(proxyStatus(answer.headers).details, 'upstream_closed');
  t.is(server.peers.length, 1);
});

test('a client that leaves takes its request with it, and the connection to the server', async (t) => {
  const server = await tcpServer(t);
  const proxy = await startEmbedded(t, web({ routes: [{ to: server.address }] }));
  const peer = await connect(t, proxy.port());
  await peer.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  const upstream = await server.accepted();
  await upstream.readUntil('\r\n\r\n');
  peer.reset();
  await upstream.gone();
  await proxy.endedBy('client_closed');
  await until('its connection is over', async () => (await proxy.listener()).active === 0);
  t.pass();
});

test('bytes behind a response belong to nobody: the connection is not used again', async (t) => {
  const server = await tcpServer(t, async (peer, number) => {
    await peer.readUntil('\r\n\r\n');
    await peer.send(
      `HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n${number}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil`,
    );
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: server.address }] }));
  t.is((await request(proxy.port())).text, '0');
  t.is((await request(proxy.port())).text, '1');
});
