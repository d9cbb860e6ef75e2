// Is what a client speaks known from its first bytes, however they are cut, and never guessed?

import http2 from 'node:http2';
import { once } from 'node:events';
import test from 'ava';
import { Authority } from '../support/certificates.js';
import { startEmbedded } from '../support/embedded.js';
import { httpOrigin, proxyStatus } from '../support/http.js';
import { must } from '../support/processes.js';
import { startSidecar, web } from '../support/sidecar.js';
import { connect, tcpServer } from '../support/tcp.js';
import { clientHello } from '../support/tls.js';
import { until } from '../support/wait.js';

/** Every way to cut bytes in two, and byte by byte. */
function cuts(bytes: string): string[][] {
  const halves = Array.from({ length: bytes.length - 1 }, (_, n) => [
    bytes.slice(0, n + 1),
    bytes.slice(n + 1),
  ]);
  return [[bytes], ...halves, bytes.split('')];
}

const REQUEST = 'GET /path HTTP/1.1\r\nHost: a\r\n\r\n';
const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
/** An empty SETTINGS frame. */
const SETTINGS = '\x00\x00\x00\x04\x00\x00\x00\x00\x00';

/** One port for everything: HTTP is answered here, the rest goes to a server that tells what it got. */
async function everything(t: Parameters<typeof connect>[0]) {
  const server = await tcpServer(t, async (peer) => {
    peer.end(`tcp ${await peer.readToEnd()}`);
  });
  const proxy = await startEmbedded(
    t,
    web({
      routes: [{ respond: { status: 200, body: 'http' } }],
      tcp: server.address,
      sni: [{ hosts: '*', to: server.address }],
    }),
  );
  return { server, proxy };
}

test('HTTP/1: cut anywhere', async (t) => {
  const { server, proxy } = await everything(t);
  const all = cuts(REQUEST);
  await Promise.all(
    all.map(async (pieces) => {
      const peer = await connect(t, proxy.port());
      await peer.send(...pieces);
      t.is((await peer.response()).body, 'http');
      peer.end();
    }),
  );
  t.is((await proxy.listener()).detected['http1'], all.length);
  for (const peer of server.peers) t.is(peer.pending, 0, 'a server that was called early got no byte');
});

test('HTTP/2: the preface cut anywhere', async (t) => {
  const { proxy } = await everything(t);
  const all = cuts(PREFACE + SETTINGS);
  await Promise.all(
    all.map(async (pieces) => {
      const peer = await connect(t, proxy.port());
      await peer.send(...pieces);
      // The server's own SETTINGS come first.
      const frame = await peer.read(9);
      t.is(frame[3], 4);
      peer.socket.destroy();
    }),
  );
  t.is((await proxy.listener()).detected['http2'], all.length);

  const session = http2.connect(`http://127.0.0.1:${proxy.port()}`);
  t.teardown(() => session.destroy());
  const stream = session.request({ ':path': '/' });
  const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders];
  t.is(Number(headers[':status']), 200);
});

test('TLS: a ClientHello cut anywhere is passed on whole', async (t) => {
  const server = await tcpServer(t);
  const proxy = await startEmbedded(
    t,
    web(
      { routes: [{ respond: 200 }], tcp: 'tcp', sni: [{ hosts: '*', to: 'tls' }] },
      { clusters: { tcp: { endpoints: [server.address] }, tls: { endpoints: [server.address] } } },
    ),
  );
  const hello = await clientHello(t, 'cut.test');
  const places = [1, 2, 3, 4, 5, 6, 9, 11, 43, 44, 100, hello.length - 1];
  for (const pieces of [
    [hello],
    ...places.map((at) => [hello.slice(0, at), hello.slice(at)]),
    hello.split(''),
  ]) {
    const number = server.peers.length;
    const peer = await connect(t, proxy.port());
    await peer.send(...pieces);
    const found = await until('it arrives whole', () =>
      server.peers.slice(number).find((candidate) => candidate.text() === hello),
    );
    peer.socket.destroy();
    await found.gone();
  }
  const { detected } = await proxy.listener();
  t.is(detected['tls'], places.length + 2);
});

for (const [what, bytes] of [
  ['a mail client', 'EHLO mail.test\r\n'],
  ['Redis', '*1\r\n$4\r\nPING\r\n'],
  ['memcached', 'get key\r\n'],
  ['zeroes', '\x00\x00\x00\x00\x00\x00'],
  ['almost a request', 'GET / HTTX/1.1\r\n'],
  ['almost TLS', '\x16\x04\x01\x00\x10\x01'],
  ['one byte', '\xff'],
] as const) {
  test(`anything else is TCP: ${what}, cut anywhere`, async (t) => {
    const { proxy } = await everything(t);
    const all = bytes.length > 1 ? cuts(bytes) : [[bytes]];
    await Promise.all(
      all.map(async (pieces) => {
        const peer = await connect(t, proxy.port());
        await peer.send(...pieces);
        peer.end();
        t.is(await peer.readToEnd(), `tcp ${bytes}`);
      }),
    );
    t.is((await proxy.listener()).detected['tcp'], all.length);
  });
}

test('a silent client of an HTTP listener costs no connection to a server', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startEmbedded(
    t,
    web({ routes: [{ to: 'app' }] }, { clusters: { app: { endpoints: [origin.address] } } }),
  );
  const silent = await Promise.all(Array.from({ length: 20 }, () => connect(t, proxy.port())));
  // That it stays so however long they are silent is shown with a clock that is made up: crates/proxy/src/sim.
  const speaking = await connect(t, proxy.port());
  for (let n = 0; n < 10; n += 1) {
    await speaking.send(REQUEST);
    t.is((await speaking.response()).status, 200);
    await new Promise(setImmediate);
  }
  await until('all are accepted', async () => (await proxy.listener()).active === silent.length + 1);
  t.is(origin.connections, 1);
});

for (const [what, bytes] of [
  ['a mail client', 'EHLO mail.test\r\n'],
  ['binary', '\x00\x01\x02\x03\x04\x05\x06\x07'],
  ['TLS', '\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03'],
] as const) {
  test(`a port that speaks HTTP only refuses ${what}`, async (t) => {
    const origin = await httpOrigin(t);
    const proxy = await startEmbedded(t, web({ routes: [{ to: origin.address }] }));
    const peer = await connect(t, proxy.port());
    await peer.send(bytes);
    const said = await peer.readToEnd();
    if (what === 'TLS') t.is(said, '');
    else t.regex(said, /^HTTP\/1\.1 400 /);
    t.is(origin.connections, 0);
    await proxy.closedBy(what === 'TLS' ? 'tls_not_configured' : 'bad_request');
  });
}

test('waiting is no way around HTTP’s rules: a request line that stops is 408, not a TCP stream', async (t) => {
  const server = await tcpServer(t);
  const proxy = await startEmbedded(
    t,
    web({ routes: [{ respond: 200 }], tcp: server.address, timeouts: { header: '300ms' } }),
  );
  const peer = await connect(t, proxy.port());
  await peer.send('GET /admin HTT');
  const answer = await peer.response();
  t.is(answer.status, 408);
  t.is(proxyStatus(answer.headers).details, 'header_timeout');
  for (const called of server.peers) t.is(called.pending, 0);
});

test('length is no way around them either: a request line that never ends is 431', async (t) => {
  const server = await tcpServer(t);
  const proxy = await startEmbedded(
    t,
    web({ routes: [{ respond: 200 }], tcp: server.address, limits: { headerBytes: 2048 } }),
  );
  const peer = await connect(t, proxy.port());
  await peer.send(`GET /${'x'.repeat(4000)}`);
  t.is((await peer.response()).status, 431);
  for (const called of server.peers) t.is(called.pending, 0);
});

test('with TLS terminated, what is inside is detected as well', async (t) => {
  const authority = await Authority.create(t);
  const tls = await authority.sign({ names: ['a.test'] });
  const server = await tcpServer(t, async (peer) => {
    await peer.send('welcome\r\n');
    await peer.readUntil('QUIT\r\n');
    peer.end('bye\r\n');
  });
  const proxy = await startSidecar(
    t,
    web({
      tls: { ...tls, alpn: [] },
      routes: [{ respond: { status: 200, body: 'http' } }],
      tcp: server.address,
    }),
  );
  const curl = [
    '-sS',
    '--cacert',
    authority.root,
    '--resolve',
    `a.test:${proxy.port()}:127.0.0.1`,
    `https://a.test:${proxy.port()}/`,
  ];
  t.is(await must('curl', curl), 'http');
  t.is(await must('curl', ['--http2-prior-knowledge', ...curl]), 'http');
  const said = await must(
    'openssl',
    ['s_client', '-quiet', '-connect', proxy.address(), '-CAfile', authority.root],
    { input: 'QUIT\r\n' },
  );
  t.is(said, 'welcome\r\nbye\r\n');
});

test('who breaks a connection off before a word, as probes do, is no error', async (t) => {
  const server = await tcpServer(t);
  const listeners = [
    { name: 'requests', address: '127.0.0.1:0', routes: [{ respond: 200 }] },
    { name: 'both', address: '127.0.0.1:0', routes: [{ respond: 200 }], tcp: 'silent' },
    { name: 'http1', address: '127.0.0.1:0', protocol: 'http1' as const, routes: [{ respond: 200 }] },
  ];
  const clusters = { silent: { endpoints: [server.address] } };
  const proxy = await startEmbedded(t, { listeners, clusters });
  const numbers = async (name: string) => {
    const stats = await proxy.stats();
    const listener = stats.listeners.find((each) => each.name === name);
    const silent = stats.clusters.find((each) => each.name === 'silent');
    const closedBy = listener?.closedBy ?? {};
    return {
      closedBy,
      gone: Object.values(closedBy).reduce((sum, count) => sum + count, listener?.closed ?? 0),
      called: (silent?.connections ?? 0) + (silent?.pending ?? 0),
    };
  };
  for (const { name } of listeners) {
    await until(`one of ${name} has gone at once`, async () => {
      const before = await numbers(name);
      (await connect(t, proxy.port(name))).reset();
      const after = await until(`one of ${name} has gone`, async () => {
        const now = await numbers(name);
        return now.gone > before.gone && now;
      });
      // For whom hesitates, be it for 10 ms, the server is called: that one broke off a stream.
      if (after.called > before.called) return false;
      t.deepEqual(after.closedBy, before.closedBy, name);
      return true;
    });
  }
});
