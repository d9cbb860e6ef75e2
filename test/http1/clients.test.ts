// Do the clients that people use get along with it: curl, Node, undici, over HTTP/1.1 and 1.0?

import test from 'ava';
import { Pool, fetch as undiciFetch, request as undiciRequest } from 'undici';
import { echoed, httpOrigin, keepAliveAgent, request } from '../support/http.js';
import { must, run } from '../support/processes.js';
import { startSidecar, web } from '../support/sidecar.js';
import { connect } from '../support/tcp.js';

test('curl: two requests on one connection, and a body each way', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const url = proxy.url();
  const verbose = await run('curl', ['-sSv', `${url}/one`, `${url}/two`]);
  t.is(verbose.code, 0, verbose.stderr);
  t.regex(verbose.stderr, /Re-using existing connection/);
  t.is(origin.connections, 1);

  const posted = await must('curl', ['-sS', '-X', 'PUT', '--data-binary', 'x'.repeat(5000), `${url}/put`]);
  const seen = echoed({ text: posted });
  t.is(seen.method, 'PUT');
  t.is(seen.body, 'x'.repeat(5000));
});

test('curl over HTTP/1.0: answered, the connection closed; the server is spoken HTTP/1.1 to', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const { code, stdout, stderr } = await run('curl', ['-sSv', '--http1.0', `${proxy.url()}/old`]);
  t.is(code, 0, stderr);
  t.regex(stderr, /Closing connection/);
  t.is(echoed({ text: stdout.toString() }).httpVersion, '1.1');
});

test('HTTP/1.0: one request a connection, unless the client asks for more', async (t) => {
  const origin = await httpOrigin(t, (_, response) => {
    response.setHeader('content-length', 2);
    response.end('ok');
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));

  const once = await connect(t, proxy.port());
  await once.send('GET / HTTP/1.0\r\n\r\n');
  const first = await once.response();
  t.is(first.status, 200);
  t.is(first.headers.get('connection'), 'close');
  t.is(await once.readToEnd(), '');

  const kept = await connect(t, proxy.port());
  for (let n = 0; n < 3; n += 1) {
    await kept.send('GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n');
    const answer = await kept.response();
    t.is(answer.body, 'ok');
    t.is(answer.headers.get('connection'), 'keep-alive');
  }
});

test('HTTP/1.0: a body without a length is ended by the end of the connection, and has no chunks', async (t) => {
  const origin = await httpOrigin(t, (_, response) => {
    response.write('one,');
    response.end('two');
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const peer = await connect(t, proxy.port());
  await peer.send('GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n');
  const answer = await peer.response();
  t.is(answer.body, 'one,two');
  t.false(answer.headers.has('transfer-encoding'));
  t.is(answer.headers.get('connection'), 'close');
});

test('undici: fetch, request and a pool with pipelining', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const fetched = await undiciFetch(`${proxy.url()}/fetch`, { method: 'POST', body: 'hello' });
  t.is(echoed({ text: await fetched.text() }).body, 'hello');

  const requested = await undiciRequest(`${proxy.url()}/request?a=b`);
  t.is(echoed({ text: await requested.body.text() }).url, '/request?a=b');

  const pool = new Pool(proxy.url(), { connections: 2, pipelining: 8 });
  t.teardown(() => pool.close());
  const answers = await Promise.all(
    Array.from({ length: 100 }, async (_, n) => {
      const { statusCode, body } = await pool.request({ method: 'GET', path: `/pooled/${n}` });
      return { statusCode, url: echoed({ text: await body.text() }).url };
    }),
  );
  for (const [n, answer] of answers.entries()) t.deepEqual(answer, { statusCode: 200, url: `/pooled/${n}` });
});

test('Node: many requests at once over a few connections', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const agent = keepAliveAgent(t, { maxSockets: 10 });
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, n) =>
      request(proxy.port(), { agent, method: 'POST', path: `/${n}`, body: `body ${n}` }),
    ),
  );
  for (const [n, answer] of answers.entries()) {
    t.is(answer.status, 200);
    t.is(echoed(answer).body, `body ${n}`);
  }
  t.true(origin.connections <= 10, `${origin.connections} connections`);
});

for (const method of ['GET', 'DELETE', 'OPTIONS', 'PATCH', 'PROPFIND', 'BREW-COFFEE']) {
  test(`the method ${method} passes`, async (t) => {
    const peerOrigin = await httpOrigin(t);
    const proxy = await startSidecar(t, web({ routes: [{ to: peerOrigin.address }] }));
    // Node's parser knows a list of methods only, so the unusual one is seen by its refusal.
    const peer = await connect(t, proxy.port());
    await peer.send(`${method} /m HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc`);
    const answer = await peer.response();
    if (method === 'BREW-COFFEE') t.is(answer.status, 400);
    else t.is(echoed({ text: answer.body }).method, method);
  });
}

test('OPTIONS * asks the server itself', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const peer = await connect(t, proxy.port());
  await peer.send('OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n');
  t.is(echoed({ text: (await peer.response()).body }).url, '*');
});
