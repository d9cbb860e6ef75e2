// Does everything that waits have its deadline, and each deadline its own name?

import test from 'ava';
import { startEmbedded } from '../support/embedded.js';
import { httpOrigin, keepAliveAgent, proxyStatus, request } from '../support/http.js';
import { web } from '../support/sidecar.js';
import { connect, tcpServer } from '../support/tcp.js';
import { until } from '../support/wait.js';

/** Short enough to wait for: of what this process has done its part for, or never does. */
const SHORT = '300ms';
/** Of what it has still to do its part for: it may stand still for seconds before it does. */
const LONG = '6s';
const routes = [{ match: { path: '/never' }, respond: 200 }];

test('header: a client that says nothing is let go, without a word', async (t) => {
  const proxy = await startEmbedded(t, web({ routes, timeouts: { header: SHORT } }));
  const peer = await connect(t, proxy.port());
  t.is(await peer.readToEnd(), '');
  await proxy.closedBy('header_timeout');
});

test('header: a head that does not end is 408', async (t) => {
  const proxy = await startEmbedded(t, web({ routes, timeouts: { header: LONG } }));
  const peer = await connect(t, proxy.port());
  await peer.send('GET /never HTTP/1.1\r\nHost: a\r\n');
  const answer = await peer.response();
  t.is(answer.status, 408);
  t.is(proxyStatus(answer.headers).details, 'header_timeout');
  t.is(await peer.readToEnd(), '');
  await proxy.closedBy('header_timeout');
});

test('header: one byte now and then does not buy time', async (t) => {
  const proxy = await startEmbedded(t, web({ routes, timeouts: { header: LONG } }));
  const peer = await connect(t, proxy.port());
  await peer.send('GET /never HTTP/1.1\r\nX: ');
  const drip = setInterval(() => peer.socket.write('x'), 20);
  t.teardown(() => clearInterval(drip));
  t.is((await peer.response()).status, 408);
  await peer.gone();
});

test('header: counted anew for each request of a connection', async (t) => {
  const proxy = await startEmbedded(t, web({ routes, timeouts: { header: LONG } }));
  const peer = await connect(t, proxy.port());
  await peer.send('GET /never HTTP/1.1\r\nHost: a\r\n\r\n');
  t.is((await peer.response()).status, 200);
  await peer.send('GET /never HTTP/1.1\r\nHo');
  t.is((await peer.response()).status, 408);
});

test('handshake: a client that does not begin, or does not go on', async (t) => {
  const { Authority } = await import('../support/certificates.js');
  const authority = await Authority.create(t);
  const tls = await authority.sign({ names: ['a.test'] });
  const proxy = await startEmbedded(t, web({ routes, tls, timeouts: { handshake: SHORT } }));
  const silent = await connect(t, proxy.port());
  const slow = await connect(t, proxy.port());
  // It may be too late for that already.
  await slow.send('\x16\x03\x01\x02\x00\x01').catch(() => {});
  await Promise.all([silent.gone(), slow.gone()]);
  t.is(silent.pending, 0);
  await until(
    'both are counted',
    async () => (await proxy.listener()).closedBy['tls_handshake_timeout'] === 2,
  );
});

test('connect: an endpoint that does not answer is 504, and others are tried', async (t) => {
  // A listener whose queue is full answers no more SYN: TEST-NET would need a route.
  const full = await fullListener(t);
  const origin = await httpOrigin(t);
  const proxy = await startEmbedded(
    t,
    web(
      {
        routes: [
          { match: { path: '/one' }, to: 'one' },
          { match: { path: '/two' }, to: 'two' },
        ],
      },
      {
        clusters: {
          one: { endpoints: [full], timeouts: { connect: SHORT } },
          two: { endpoints: [full, origin.address], timeouts: { connect: SHORT } },
        },
      },
    ),
  );
  const one = await request(proxy.port(), { path: '/one' });
  t.is(one.status, 504);
  t.deepEqual(proxyStatus(one.headers), { error: 'connection_timeout', details: 'connect_timeout' });
  t.is((await proxy.cluster('one')).connectFailures['connect_timeout'], 1);
  for (let n = 0; n < 8; n += 1) t.is((await request(proxy.port(), { path: '/two' })).status, 200);
});

test('connect: a stream, or a CONNECT, whose client breaks off meanwhile is over at once', async (t) => {
  const full = await fullListener(t);
  const proxy = await startEmbedded(
    t,
    web(
      { forwardProxy: true, tcp: 'full', routes: [{ match: { host: 'a.test' }, to: 'full' }] },
      { clusters: { full: { endpoints: [full], timeouts: { connect: '10m' } } } },
    ),
  );
  const says = ['\0hello', 'CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n'];
  for (const [index, bytes] of says.entries()) {
    const peer = await connect(t, proxy.port());
    await peer.send(bytes);
    await until('its server is called', async () => (await proxy.cluster('full')).poolMisses > index);
    peer.reset();
    await until('it is over', async () => (await proxy.listener()).closedBy['client_closed'] === index + 1);
    t.is(peer.pending, 0);
  }
});

test('request: a server that does not answer in time is 504', async (t) => {
  const origin = await httpOrigin(t, () => {});
  const proxy = await startEmbedded(
    t,
    web({
      timeouts: { request: SHORT },
      routes: [
        { match: { path: '/listener' }, to: origin.address },
        { match: { path: '/route' }, to: origin.address, timeout: '100ms' },
      ],
    }),
  );
  for (const path of ['/listener', '/route']) {
    const answer = await request(proxy.port(), { path });
    t.is(answer.status, 504, path);
    t.deepEqual(proxyStatus(answer.headers), { error: 'http_response_timeout', details: 'request_timeout' });
  }
});

test('request: a route may have none where the listener has one', async (t) => {
  let answer = (): void => {};
  const origin = await httpOrigin(t, (_, outgoing) => {
    answer = () => outgoing.end('late');
  });
  const proxy = await startEmbedded(
    t,
    web({
      timeouts: { request: '50ms' },
      routes: [
        { to: origin.address, timeout: '0s' },
        { match: { path: '/cut' }, to: origin.address },
      ],
    }),
  );
  const slow = request(proxy.port());
  await until('it is asked', () => origin.requests === 1);
  const release = answer;
  // Something else runs into the deadline meanwhile.
  t.is((await request(proxy.port(), { path: '/cut' })).status, 504);
  release();
  t.is((await slow).text, 'late');
});

test('request: a response that began and does not end is broken off', async (t) => {
  const origin = await httpOrigin(t, (_, outgoing) => outgoing.write('begun'));
  const proxy = await startEmbedded(
    t,
    web({ routes: [{ to: origin.address }], timeouts: { request: LONG } }),
  );
  const peer = await connect(t, proxy.port());
  await peer.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await peer.readUntil('begun');
  await peer.gone();
  t.false(peer.text().includes('0\r\n\r\n'));
  await proxy.endedBy('request_timeout');
});

test('idle: a kept connection without a request ends without a word', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startEmbedded(t, web({ routes: [{ to: origin.address }], timeouts: { idle: SHORT } }));
  const peer = await connect(t, proxy.port());
  await peer.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  t.is((await peer.response()).status, 200);
  t.is(await peer.readToEnd(), '');
  await proxy.closedBy('idle_timeout');
});

test('idle: a pooled connection to a server ends likewise', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    await peer.readUntil('\r\n\r\n');
    await peer.send('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
  });
  const proxy = await startEmbedded(
    t,
    web(
      { routes: [{ to: 'app' }] },
      { clusters: { app: { endpoints: [server.address], timeouts: { idle: SHORT } } } },
    ),
  );
  t.is((await request(proxy.port())).status, 200);
  const upstream = await server.accepted();
  await upstream.gone();
  await until('it is counted', async () => (await proxy.cluster('app')).active === 0);
});

test('stream idle: a client that stops its body is 408', async (t) => {
  const server = await tcpServer(t);
  const proxy = await startEmbedded(
    t,
    web({ routes: [{ to: server.address }], timeouts: { streamIdle: SHORT } }),
  );
  const peer = await connect(t, proxy.port());
  await peer.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf');
  const answer = await peer.response();
  t.is(answer.status, 408);
  t.deepEqual(proxyStatus(answer.headers), { error: 'http_request_error', details: 'request_body_timeout' });
  await (await server.accepted()).gone();
});

test('stream idle: a server that does not answer is 504', async (t) => {
  const server = await tcpServer(t);
  const proxy = await startEmbedded(
    t,
    web({ routes: [{ to: server.address }], timeouts: { streamIdle: SHORT } }),
  );
  const answer = await request(proxy.port());
  t.is(answer.status, 504);
  t.deepEqual(proxyStatus(answer.headers), {
    error: 'connection_read_timeout',
    details: 'stream_idle_timeout',
  });
});

test('stream idle: an answer may take as long as its request may; once it began it may not stand still', async (t) => {
  const origin = await httpOrigin(t, (incoming, outgoing) => {
    incoming.resume();
    if (incoming.url === '/late') setTimeout(() => outgoing.end('late'), 900);
    else outgoing.write('begun');
  });
  const proxy = await startEmbedded(
    t,
    web({ routes: [{ to: origin.address, timeout: '20s' }], timeouts: { streamIdle: SHORT } }),
  );
  t.is((await request(proxy.port(), { path: '/late' })).text, 'late');
  t.is((await request(proxy.port(), { path: '/late', method: 'POST', body: 'b' })).text, 'late');
  const peer = await connect(t, proxy.port());
  await peer.send('GET /stops HTTP/1.1\r\nHost: a\r\n\r\n');
  await peer.readUntil('begun');
  await peer.gone();
  await proxy.endedBy('stream_idle_timeout');
});

test('stream idle: a server that does not read the body is 504, and not the client’s fault', async (t) => {
  const server = await tcpServer(t, (peer) => {
    peer.socket.pause();
  });
  const proxy = await startEmbedded(
    t,
    web({ routes: [{ to: server.address }], timeouts: { streamIdle: LONG } }),
  );
  const peer = await connect(t, proxy.port());
  peer.socket.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n');
  peer.socket.write(Buffer.alloc(100_000_000));
  const answer = await peer.response();
  t.is(answer.status, 504);
  t.is(proxyStatus(answer.headers).details, 'stream_idle_timeout');
});

test('stream idle: a client that does not read its response is cut off', async (t) => {
  const origin = await httpOrigin(t, (_, outgoing) => outgoing.end(Buffer.alloc(100_000_000)));
  const proxy = await startEmbedded(
    t,
    web({ routes: [{ to: origin.address }], timeouts: { streamIdle: LONG } }),
  );
  const peer = await connect(t, proxy.port());
  peer.socket.pause();
  await peer.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  t.is(await proxy.endedBy('client_stalled'), 1);
});

test('stream idle: what moves, however slowly, is not cut', async (t) => {
  let ticks = 0;
  const origin = await httpOrigin(t, (_, outgoing) => {
    const timer = setInterval(() => {
      ticks += 1;
      if (ticks < 12) outgoing.write('.');
      else {
        clearInterval(timer);
        outgoing.end('!');
      }
    }, 600);
  });
  const proxy = await startEmbedded(
    t,
    web({ routes: [{ to: origin.address }], timeouts: { streamIdle: LONG } }),
  );
  t.is((await request(proxy.port())).text, `${'.'.repeat(11)}!`);
});

test('maximum age: a busy connection is asked to leave with its next response, a quiet one leaves', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startEmbedded(
    t,
    web({ routes: [{ to: origin.address }], timeouts: { maxConnectionAge: SHORT } }),
  );
  const agent = keepAliveAgent(t, { maxSockets: 1 });
  await until('a response says so', async () => {
    const answer = await request(proxy.port(), { agent }).catch((error: NodeJS.ErrnoException) => error);
    if (answer instanceof Error) {
      // It had not been busy: this process stood still before it asked again.
      t.is(answer.code, 'ECONNRESET');
      return false;
    }
    t.is(answer.status, 200);
    return answer.headers.connection === 'close';
  });
  await until('its connection is over', async () => (await proxy.listener()).active === 0);
  const before = (await proxy.closedBy('max_connection_age')) ?? 0;

  const quiet = await connect(t, proxy.port());
  await quiet.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await quiet.response();
  t.is(await quiet.readToEnd(), '');
  await until(
    'it is counted',
    async () => ((await proxy.listener()).closedBy['max_connection_age'] ?? 0) > before,
  );
});

test('maximum age: a connection to a server takes no more requests', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startEmbedded(
    t,
    web(
      { routes: [{ to: 'app' }] },
      { clusters: { app: { endpoints: [origin.address], timeouts: { maxConnectionAge: SHORT } } } },
    ),
  );
  await until('another connection is made, though the first was never idle', async () => {
    t.is((await request(proxy.port())).status, 200);
    return origin.connections > 2;
  });
  await until('it is counted', async () => {
    return (await proxy.cluster('app')).closedBy['max_connection_age'];
  });
});

test('idle: a connection to a server that nobody uses is closed, and why is counted', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startEmbedded(
    t,
    web(
      { routes: [{ to: 'app' }] },
      { clusters: { app: { endpoints: [origin.address], timeouts: { idle: SHORT } } } },
    ),
  );
  t.is((await request(proxy.port())).status, 200);
  const cluster = await until('it is closed', async () => {
    const app = await proxy.cluster('app');
    return app.active === 0 && 'idle_timeout' in app.closedBy && app;
  });
  t.deepEqual([cluster.closed, cluster.closedBy], [0, { idle_timeout: 1 }]);
});

/** A listening socket that accepts nothing and whose queue is full, so that connecting to it hangs. */
async function fullListener(t: Parameters<typeof connect>[0]): Promise<string> {
  const { start } = await import('../support/processes.js');
  const script =
    'import socket,sys;s=socket.socket();s.bind(("127.0.0.1",0));s.listen(0);p=s.getsockname()[1];k=[];\n' +
    'for _ in range(4):\n c=socket.socket();c.setblocking(False);c.connect_ex(("127.0.0.1",p));k.append(c)\n' +
    'print(p,file=sys.stderr,flush=True);sys.stdin.read()';
  const [, port] = await start(t, 'python3', ['-c', script]).said(/^(\d+)$/m);
  return `127.0.0.1:${port}`;
}
