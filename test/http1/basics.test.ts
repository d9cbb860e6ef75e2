// Does a request arrive as it was sent, and its response as it was answered?

import test from 'ava';
import { echoed, httpOrigin, keepAliveAgent, proxyStatus, request } from '../support/http.js';
import { startSidecar, web } from '../support/sidecar.js';
import { closedPort, connect } from '../support/tcp.js';

test('a request and its response pass, on connections that both sides keep', async (t) => {
  const origin = await httpOrigin(t);
  // No TCP target: a client's silence would call it, and is counted.
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const agent = keepAliveAgent(t, { maxSockets: 1 });
  for (let n = 0; n < 10; n += 1) {
    const answer = await request(proxy.port(), {
      agent,
      path: `/a/${n}?q=${n}`,
      headers: { 'X-Case': 'kept' },
    });
    t.is(answer.status, 200);
    t.is(answer.reused, n > 0);
    const seen = echoed(answer);
    t.is(seen.method, 'GET');
    t.is(seen.url, `/a/${n}?q=${n}`);
    t.is(seen.headers.host, proxy.address());
    t.true(seen.rawHeaders.includes('X-Case'));
  }
  t.is(origin.connections, 1);
});

test('a server that is not there: 502, the reason and a short text', async (t) => {
  const port = await closedPort();
  const proxy = await startSidecar(t, web({ routes: [{ to: `127.0.0.1:${port}` }] }));
  const answer = await request(proxy.port());
  t.is(answer.status, 502);
  t.deepEqual(proxyStatus(answer.headers), { error: 'connection_refused', details: 'connect_refused' });
  t.is(answer.text, 'The server refused the connection.\n');

  const peer = await connect(t, proxy.port());
  await peer.send('GET / HTTP/1.1\r\n', 'host: a\r\n\r\n');
  const raw = await peer.response();
  t.is(raw.statusLine, 'HTTP/1.1 502 Bad Gateway');
  t.is(proxyStatus(raw.headers).details, 'connect_refused');
});
