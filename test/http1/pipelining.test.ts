// Are pipelined requests answered in order, whole, and however they are cut into packets?

import { randomInt } from 'node:crypto';
import test from 'ava';
import { echo, echoed, httpOrigin } from '../support/http.js';
import { startSidecar, web } from '../support/sidecar.js';
import { connect } from '../support/tcp.js';
import { until } from '../support/wait.js';

test('requests sent at once are answered in order, although the first is answered last', async (t) => {
  let release = (): void => {};
  const origin = await httpOrigin(t, (incoming, outgoing) => {
    if (incoming.url === '/0') release = () => echo(incoming, outgoing);
    else echo(incoming, outgoing);
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const peer = await connect(t, proxy.port());
  const count = 20;
  await peer.send(
    Array.from(
      { length: count },
      (_, n) => `POST /${n} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n${n % 10}x`,
    ).join(''),
  );
  await until('the first request arrives', () => origin.requests > 0);
  t.is(peer.pending, 0);
  release();
  for (let n = 0; n < count; n += 1) {
    const seen = echoed({ text: (await peer.response()).body });
    t.is(seen.url, `/${n}`);
    t.is(seen.body, `${n % 10}x`);
  }
});

test('cut anywhere, requests stay what they are', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const bytes = [
    'GET /a HTTP/1.1\r\nHost: a\r\n\r\n',
    'POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n',
    'PUT /c HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello',
    'GET /d HTTP/1.1\r\nHost: a\r\n\r\n',
  ].join('');
  const cuts = Array.from({ length: 30 }, () => {
    const places = Array.from({ length: randomInt(1, 6) }, () => randomInt(1, bytes.length));
    return [0, ...places.sort((a, b) => a - b), bytes.length];
  });
  for (const places of [...cuts, Array.from({ length: bytes.length + 1 }, (_, n) => n)]) {
    const peer = await connect(t, proxy.port());
    await peer.send(...places.slice(1).map((end, n) => bytes.slice(places[n], end)));
    const seen = [];
    for (let n = 0; n < 4; n += 1) seen.push(echoed({ text: (await peer.response()).body }));
    t.deepEqual(
      seen.map(({ url, body }) => `${url} ${body}`),
      ['/a ', '/b abc0123456789abcdef', '/c hello', '/d '],
      JSON.stringify(places),
    );
    peer.end();
    t.is(await peer.readToEnd(), '');
  }
});

test('a request after `connection: close` is not looked at', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const peer = await connect(t, proxy.port());
  await peer.send(
    'GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n',
  );
  const answer = await peer.response();
  t.is(echoed({ text: answer.body }).url, '/1');
  t.is(answer.headers.get('connection'), 'close');
  t.is(await peer.readToEnd(), '');
  t.is(origin.requests, 1);
});
