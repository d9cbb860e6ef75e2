// What of responses before the response: 100 to those who wait for it, 103, and answers that come early?

import http from 'node:http';
import { once } from 'node:events';
import test from 'ava';
import { echo, echoed, httpOrigin, keepAliveAgent, proxyStatus, request } from '../support/http.js';
import { must } from '../support/processes.js';
import { startSidecar, web } from '../support/sidecar.js';
import { connect, tcpServer } from '../support/tcp.js';

const EXPECTING = 'POST /up HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n';

test('Expect: 100-continue, accepted: the server says so, then the body goes', async (t) => {
  const origin = await httpOrigin(t);
  let asked = 0;
  origin.server.on('checkContinue', (incoming: http.IncomingMessage, outgoing: http.ServerResponse) => {
    asked += 1;
    outgoing.writeContinue();
    echo(incoming, outgoing);
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const peer = await connect(t, proxy.port());
  await peer.send(EXPECTING);
  t.is((await peer.response()).statusLine, 'HTTP/1.1 100 Continue');
  t.is(peer.pending, 0);
  await peer.send('hello');
  const answer = await peer.response();
  t.is(answer.status, 200);
  t.is(echoed({ text: answer.body }).body, 'hello');
  t.is(asked, 1);

  // curl asks by itself for large bodies, and waits.
  const { text } = {
    text: await must('curl', [
      '-sS',
      '-H',
      'Expect: 100-continue',
      '--data-binary',
      'x'.repeat(100_000),
      proxy.url(),
    ]),
  };
  t.is(echoed({ text }).body.length, 100_000);
  t.is(asked, 2);
});

test('Expect: 100-continue, refused: no 100, the answer, and the connection ends since the body never came', async (t) => {
  const origin = await httpOrigin(t);
  origin.server.on('checkContinue', (_: http.IncomingMessage, outgoing: http.ServerResponse) => {
    outgoing.statusCode = 413;
    outgoing.end('too much');
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const peer = await connect(t, proxy.port());
  await peer.send(EXPECTING);
  const answer = await peer.response();
  t.is(answer.status, 413);
  t.is(answer.body, 'too much');
  t.is(answer.headers.get('connection'), 'close');
  peer.end();
  t.is(await peer.readToEnd(), '');
  // What was left in doubt is used by nobody else.
  const next = await request(proxy.port());
  t.is(next.status, 200);
  t.is(origin.connections, 2);
});

test('Expect: 100-continue where no route is: refused at once', async (t) => {
  const proxy = await startSidecar(t, web({ routes: [{ match: { path: '/other' }, respond: 200 }] }));
  const peer = await connect(t, proxy.port());
  await peer.send(EXPECTING);
  const answer = await peer.response();
  t.is(answer.status, 404);
  t.is(proxyStatus(answer.headers).details, 'no_route');
  t.is(answer.headers.get('connection'), 'close');
});

test('any other expectation is 417', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const peer = await connect(t, proxy.port());
  await peer.send('GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n');
  const answer = await peer.response();
  t.is(answer.status, 417);
  t.is(proxyStatus(answer.headers).details.split(':')[0], 'expectation_failed');
  t.is(origin.requests, 0);
});

test('early hints (103) pass as they come, with their headers', async (t) => {
  let finish = (): void => {};
  const origin = await httpOrigin(t, (_, outgoing) => {
    outgoing.writeEarlyHints({ link: '</style.css>; rel=preload' });
    finish = () => outgoing.end('done');
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const sent = http.get({ port: proxy.port(), host: '127.0.0.1', agent: false });
  const [hints] = (await once(sent, 'information')) as [http.InformationEvent];
  t.is(hints.statusCode, 103);
  t.is(hints.headers['link'], '</style.css>; rel=preload');
  finish();
  const [answer] = (await once(sent, 'response')) as [http.IncomingMessage];
  t.is(answer.statusCode, 200);
  answer.resume();
  await once(answer, 'end');
});

test('an HTTP/1.0 client gets no 1xx', async (t) => {
  const origin = await httpOrigin(t, (_, outgoing) => {
    outgoing.writeEarlyHints({ link: '</style.css>; rel=preload' });
    outgoing.end('done');
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const peer = await connect(t, proxy.port());
  await peer.send('GET / HTTP/1.0\r\n\r\n');
  const answer = await peer.response();
  t.is(answer.status, 200);
  t.is(answer.body, 'done');
});

test('a server that answers before it has the body: the client gets the answer whole', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    await peer.readUntil('\r\n\r\n');
    await peer.send('HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno!');
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: server.address }] }));
  const peer = await connect(t, proxy.port());
  await peer
    .send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n', 'x'.repeat(1000))
    // It may have been answered, and its connection closed, before all of it has gone.
    .catch(() => {});
  const answer = await peer.response();
  t.is(answer.status, 403);
  t.is(answer.body, 'no!');
  // Too much is missing to be waited for.
  t.is(answer.headers.get('connection'), 'close');
  // The rest of the body is no request.
  peer.end('GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n');
  t.is(await peer.readToEnd(), '');
  const upstream = await server.accepted();
  await upstream.gone();
  t.false(upstream.text().includes('GET /smuggled HTTP/1.1\r\nHost'));
  t.is(server.peers.length, 1);
});

for (const [framing, first, rest, closes] of [
  ['Content-Length: 10', '12345', '67890', undefined],
  // How much is missing is not known.
  ['Transfer-Encoding: chunked', '5\r\n12345\r\n', '0\r\n\r\n', 'close'],
] as const) {
  test(`a server that answers amid a short body, ${framing}: the client may send the rest`, async (t) => {
    const origin = await httpOrigin(t, (incoming, outgoing) => {
      if (incoming.url === '/early') outgoing.setHeader('content-length', 2).end('no');
      else echo(incoming, outgoing);
      incoming.resume();
    });
    const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
    const peer = await connect(t, proxy.port());
    await peer.send(`POST /early HTTP/1.1\r\nHost: a\r\n${framing}\r\n\r\n${first}`);
    const answer = await peer.response();
    t.is(answer.body, 'no');
    t.is(answer.headers.get('connection'), closes);
    await peer.send(`${rest}GET /next HTTP/1.1\r\nHost: a\r\n\r\n`);
    if (closes === undefined) t.is(echoed({ text: (await peer.response()).body }).url, '/next');
    else t.is(await peer.readToEnd(), '');
  });
}

test('a client that keeps its connections meets no reset behind an answer that came early', async (t) => {
  const origin = await httpOrigin(t, (incoming, outgoing) => {
    if (incoming.url === '/early') outgoing.writeHead(401, { 'content-length': 2 }).end('no');
    else echo(incoming, outgoing);
    incoming.resume();
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const agent = keepAliveAgent(t, { maxSockets: 1 });
  const base = { port: proxy.port(), host: '127.0.0.1', method: 'POST', agent };
  for (let n = 0; n < 20; n += 1) {
    const early = http.request({ ...base, path: '/early', headers: { 'content-length': 10 } });
    const over = once(early, 'close');
    early.write('12345');
    const [answer] = (await once(early, 'response')) as [http.IncomingMessage];
    t.is(answer.statusCode, 401);
    answer.resume();
    await once(answer, 'end');
    early.end('67890');
    await over;
    const next = await request(proxy.port(), { agent, method: 'POST', path: '/next', body: 'hello' });
    t.is(echoed(next).body, 'hello');
    t.true(next.reused);
  }
});

test('a server that answers early and reads on: both directions end in their own time', async (t) => {
  const origin = await httpOrigin(t, (incoming, outgoing) => {
    outgoing.write('early,');
    let length = 0;
    incoming.on('data', (chunk: Buffer) => {
      length += chunk.length;
    });
    incoming.on('end', () => outgoing.end(`late ${length}`));
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const peer = await connect(t, proxy.port());
  await peer.send('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n', '3\r\nabc\r\n');
  await peer.readUntil('early,');
  await peer.send('4\r\ndefg\r\n', '0\r\n\r\n');
  t.regex(await peer.readUntil('0\r\n\r\n'), /late 7/);
  await peer.send('GET /again HTTP/1.1\r\nHost: a\r\n\r\n');
  t.is((await peer.response()).status, 200);
  t.is(origin.connections, 1);
});
