// Do connections that leave HTTP carry everything, and do those that may not leave it stay?

import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import test from 'ava';
import { WebSocket, WebSocketServer } from 'ws';
import { event, httpOrigin, proxyStatus, request } from '../support/http.js';
import { startSidecar, web } from '../support/sidecar.js';
import { connect, tcpServer } from '../support/tcp.js';
import { within } from '../support/wait.js';

const ASK = 'GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\n';

test('WebSocket: text, binary, ping, subprotocol, and a close with its code', async (t) => {
  const origin = await httpOrigin(t);
  const server = new WebSocketServer({ server: origin.server, handleProtocols: () => 'chat.v2' });
  t.teardown(() => server.close());
  server.on('connection', (socket, asked) => {
    socket.send(`hello ${asked.url}`);
    socket.on('message', (data, isBinary) => {
      if (data.toString() === 'bye') socket.close(4001, 'as asked');
      else socket.send(data, { binary: isBinary });
    });
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const client = new WebSocket(`ws://${proxy.address()}/room?id=7`, ['chat.v1', 'chat.v2']);
  t.teardown(() => client.terminate());
  const [first] = await event<[Buffer]>(client, 'message');
  t.is(first.toString(), 'hello /room?id=7');
  t.is(client.protocol, 'chat.v2');

  for (const size of [0, 1, 125, 126, 65_535, 65_536, 1_000_000]) {
    const bytes = randomBytes(size);
    client.send(bytes);
    const [back, isBinary] = await event<[Buffer, boolean]>(client, 'message');
    t.true(isBinary);
    t.is(createHash('sha1').update(back).digest('hex'), createHash('sha1').update(bytes).digest('hex'));
  }
  client.send('grüße');
  const [text, isBinary] = await event<[Buffer, boolean]>(client, 'message');
  t.is(text.toString(), 'grüße');
  t.false(isBinary);

  client.ping('are you there');
  const [pong] = await event<[Buffer]>(client, 'pong');
  t.is(pong.toString(), 'are you there');

  client.send('bye');
  const [code, why] = await event<[number, Buffer]>(client, 'close');
  t.is(code, 4001);
  t.is(why.toString(), 'as asked');
});

test('WebSocket: many at once, and the server may begin', async (t) => {
  const origin = await httpOrigin(t);
  const server = new WebSocketServer({ server: origin.server });
  t.teardown(() => server.close());
  server.on('connection', (socket) => socket.on('message', (data) => socket.send(data)));
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  await Promise.all(
    Array.from({ length: 50 }, async (_, n) => {
      const client = new WebSocket(`ws://${proxy.address()}/`);
      await event(client, 'open');
      for (let round = 0; round < 10; round += 1) {
        client.send(`${n}.${round}`);
        const [back] = await event<[Buffer]>(client, 'message');
        t.is(back.toString(), `${n}.${round}`);
      }
      client.close();
      await event(client, 'close');
    }),
  );
});

test('WebSocket: refused by the server, the client sees why', async (t) => {
  const origin = await httpOrigin(t);
  origin.server.on('upgrade', (_, socket) => {
    socket.end('HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nwho?');
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const client = new WebSocket(`ws://${proxy.address()}/`);
  client.on('error', () => {});
  const [, answer] = (await within('the refusal', once(client, 'unexpected-response'))) as [
    unknown,
    { statusCode: number },
  ];
  t.is(answer.statusCode, 401);
});

test('any other protocol: bytes both ways, early ones included, each side may end first', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    const head = await peer.readUntil('\r\n\r\n');
    t.regex(head, /^upgrade: echo\/1\r$/im);
    t.regex(head, /^connection: upgrade\r$/im);
    await peer.send(
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\nat once',
    );
    const sent = await peer.readToEnd();
    peer.end(`echo ${sent}`);
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: server.address }] }));
  const peer = await connect(t, proxy.port());
  await peer.send(ASK);
  const answer = await peer.response();
  t.is(answer.statusLine, 'HTTP/1.1 101 Switching Protocols');
  t.is(answer.headers.get('upgrade'), 'echo/1');
  t.is(answer.headers.get('connection')?.toLowerCase(), 'upgrade');
  t.is((await peer.read(7)).toString(), 'at once');
  const bytes = randomBytes(100_000).toString('latin1');
  peer.end(bytes);
  t.is(await peer.readToEnd(), `echo ${bytes}`);
});

test('an upgrade that the server does not take is an ordinary response, and the connection ends with it', async (t) => {
  const origin = await httpOrigin(t, (incoming, outgoing) => outgoing.end(`plain ${incoming.url}`));
  // Node's server takes a request with `upgrade` as plain when nobody listens for upgrades.
  const proxy = await startSidecar(
    t,
    web({ routes: [{ match: { path: '/here' }, respond: 404 }, { to: origin.address }] }),
  );
  for (const [ask, status] of [
    [ASK, 200],
    [ASK.replace('/chat', '/here'), 404],
  ] as const) {
    const peer = await connect(t, proxy.port());
    await peer.send(ask);
    const answer = await peer.response();
    t.is(answer.status, status);
    t.is(answer.headers.get('connection'), 'close');
    // It may have been on its way before the answer was.
    peer.socket.write('GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n');
    t.is(await peer.readToEnd(), '');
  }
  t.is(origin.requests, 1);
});

test('what only hints at a newer HTTP, as curl and Java do with any request, keeps its connection', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const peer = await connect(t, proxy.port());
  for (let n = 0; n < 2; n += 1) {
    await peer.send(
      'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n',
    );
    t.is((await peer.response()).status, 200);
  }
  t.is(origin.requests, 2);
});

test('what would carry requests past every route is no upgrade, whatever it is called', async (t) => {
  const origin = await tcpServer(t, async (peer) => {
    for (;;) {
      const head = await peer.readUntil('\r\n\r\n');
      const [, token] = /^upgrade: (.*)\r$/im.exec(head) ?? [];
      const switched = `HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: ${token}\r\n\r\n`;
      await peer.send(token === undefined ? 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok' : switched);
    }
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const peer = await connect(t, proxy.port());
  const tokens = ['TLS/1.0', 'tls', 'HTTP/2.0', 'HTTP/1.1', 'h2', 'h2c-16', 'h2-14', 'websocket, TLS/1.2'];
  for (const token of tokens) {
    await peer.send(ASK.replace('echo/1', token));
    t.is((await peer.response()).status, 200, token);
  }
});

test('bytes that a client sends before its upgrade was taken are held, and are no request when it is not', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    await peer.readUntil('\r\n\r\n');
    await new Promise(setImmediate);
    t.is(peer.pending, 0);
    await peer.send('HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno');
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: server.address }] }));
  const peer = await connect(t, proxy.port());
  await peer.send(`${ASK}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n`);
  const answer = await peer.response();
  t.is(answer.status, 403);
  t.is(await peer.readToEnd(), '');
  t.is(server.peers.length, 1);
  await server.peers[0]?.gone();
  t.is(server.peers[0]?.pending, 0);
});

test('bytes that a client sends before its upgrade was taken arrive once it is', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    await peer.readUntil('\r\n\r\n');
    await peer.send('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\n');
    peer.end(`got ${(await peer.read(5)).toString()}`);
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: server.address }] }));
  const peer = await connect(t, proxy.port());
  await peer.send(`${ASK}early`);
  t.is((await peer.response()).status, 101);
  t.is(await peer.readUntil('early'), 'got early');
});

test('a server that switches protocols unasked broke HTTP: 502', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    await peer.readUntil('\r\n\r\n');
    await peer.send('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: evil\r\n\r\nbytes');
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: server.address }] }));
  const answer = await request(proxy.port());
  t.is(answer.status, 502);
  t.is(proxyStatus(answer.headers).error, 'http_protocol_error');
  await (await server.accepted()).gone();
});

test('a server switches to nothing but what was offered', async (t) => {
  // What is offered, what is chosen.
  for (const [offered, chosen, status] of [
    ['echo/1', 'other', 502],
    ['echo/1', 'echo/2', 502],
    ['echo/1', 'echo/1, other', 502],
    ['echo/1', 'ECHO/1', 101],
    ['echo/2, echo/1', 'echo/1', 101],
  ] as const) {
    const server = await tcpServer(t, async (peer) => {
      await peer.readUntil('\r\n\r\n');
      await peer.send(
        `HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: ${chosen}\r\n\r\n`,
      );
    });
    const proxy = await startSidecar(t, web({ routes: [{ to: server.address }] }));
    const peer = await connect(t, proxy.port());
    await peer.send(ASK.replace('echo/1', offered));
    const answer = await peer.response();
    t.is(answer.status, status, chosen);
    if (status === 101) continue;
    t.is(proxyStatus(answer.headers).details, 'upstream_protocol: unasked_switch');
    await (await server.accepted()).gone();
  }
});

test('`upgrade` without `connection: upgrade` is no upgrade', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const answer = await request(proxy.port(), { headers: { upgrade: 'websocket', connection: 'keep-alive' } });
  t.is(answer.status, 200);
  t.false('upgrade' in (JSON.parse(answer.text) as { headers: object }).headers);
});

test('an `upgrade` of a response that switches nothing is dropped, also where it means nothing', async (t) => {
  let head = '';
  const server = await tcpServer(t, async (peer) => {
    for (;;) {
      await peer.readUntil('\r\n\r\n');
      await peer.send(`${head}Content-Length: 2\r\n\r\nok`);
    }
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: server.address }] }));
  const peer = await connect(t, proxy.port());
  for (const status of ['200 OK', '404 Not Found', '426 Upgrade Required']) {
    for (const upgrade of ['', ',', 'web socket', 'a/b/c', '(none)']) {
      head = `HTTP/1.1 ${status}\r\nConnection: upgrade\r\nUpgrade: ${upgrade}\r\n`;
      await peer.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
      const answer = await peer.response();
      t.is(`${answer.status}`, status.slice(0, 3), upgrade);
      t.is(answer.body, 'ok');
      t.false(answer.headers.has('upgrade'), `${status} ${upgrade}`);
      t.false(answer.headers.has('connection'), `${status} ${upgrade}`);
    }
  }
  t.is(server.peers.length, 1);
});

test('what a 426 asks for reaches the client where it can be had here: no TLS, and no other HTTP', async (t) => {
  let upgrade = '';
  const server = await tcpServer(t, async (peer) => {
    for (;;) {
      await peer.readUntil('\r\n\r\n');
      const asks = `Connection: upgrade\r\nUpgrade: ${upgrade}\r\n`;
      await peer.send(`HTTP/1.1 426 Upgrade Required\r\n${asks}Content-Length: 2\r\n\r\nno`);
    }
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: server.address }] }));
  const peer = await connect(t, proxy.port());
  for (const [asked, told] of [
    ['websocket', 'websocket'],
    ['TLS/1.0', undefined],
    ['TLS/1.2, HTTP/1.1', undefined],
    ['h2c', undefined],
    ['TLS/1.0, websocket, HTTP/3.0, echo/1', 'websocket, echo/1'],
  ] as const) {
    upgrade = asked;
    await peer.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    const { status, body, headers } = await peer.response();
    t.deepEqual([status, body, headers.get('upgrade')], [426, 'no', told], asked);
    t.is(headers.get('connection'), told && 'upgrade', asked);
  }
  t.is(server.peers.length, 1);
});
