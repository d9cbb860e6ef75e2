// Is a question whether a copy is ready over in its time, and does it leave nothing open, whatever is answered?

import test, { type ExecutionContext } from 'ava';
import { probe } from '../../src/mesh/up/probe.js';
import { httpOrigin } from '../support/http.js';
import { type TcpServer, tcpServer } from '../support/tcp.js';
import { until, within } from '../support/wait.js';

const READY = { kind: 'http', path: '/stream' } as const;

/** More than a probe with both of its questions takes on a busy machine. */
const LONG_MS = 10_000;

const ready = (t: ExecutionContext) => httpOrigin(t, (_, response) => void response.end('ready\n'));

/** Answers with `head`, and then with `more` again and again, as long as somebody is there. */
const endless = (t: ExecutionContext, head: string, more: string): Promise<TcpServer> =>
  tcpServer(t, async (peer) => {
    await peer.send(head);
    const timer = setInterval(() => peer.socket.write(more), 50);
    peer.socket.once('close', () => clearInterval(timer));
  });

/** The same without a pause. */
const flood = (t: ExecutionContext, head: string): Promise<TcpServer> =>
  tcpServer(t, async (peer) => {
    await peer.send(head);
    while (!peer.closed) await peer.send('x'.repeat(65_536));
  });

const allClosed = ({ peers }: TcpServer): Promise<boolean> =>
  until('its connections are closed', () => peers.every(({ closed }) => closed));

test('an answer that never ends is one, and its connection is closed', async (t) => {
  const sidecar = await ready(t);
  for (const application of [
    await endless(t, 'HTTP/1.1 200 OK\r\n\r\n', 'data: x\n\n'),
    await flood(t, 'HTTP/1.1 200 OK\r\n\r\n'),
  ]) {
    for (let look = 0; look < 3; look += 1)
      t.is(await probe(sidecar.address, application.address, READY), undefined);
    await allClosed(application);
    t.is(application.peers.length, 3);
  }
});

test('whoever answers in a few lines is heard to its end', async (t) => {
  const sidecar = await ready(t);
  const finished: boolean[] = [];
  const application = await httpOrigin(t, (_, response) => {
    response.once('close', () => finished.push(response.writableFinished));
    response.write('fine');
    setImmediate(() => response.end('\n'));
  });
  t.is(await probe(sidecar.address, application.address, READY), undefined);
  await until('it is closed', () => finished.length > 0);
  t.deepEqual(finished, [true]);
});

test('headers that never end are no answer', async (t) => {
  const sidecar = await ready(t);
  const application = await endless(t, 'HTTP/1.1 200 OK\r\n', 'x-a: b\r\n');
  const missing = await within('an end', probe(sidecar.address, application.address, READY), LONG_MS);
  t.is(missing?.what, `nothing answers on ${application.address}`);
  await allClosed(application);
});

test('a sidecar whose reason is long or has no end is not ready', async (t) => {
  const application = await ready(t);
  const head = 'HTTP/1.1 503 Service Unavailable\r\n\r\n';
  for (const sidecar of [await endless(t, head, 'x'), await flood(t, head)]) {
    const missing = await within('an end', probe(sidecar.address, application.address, READY), LONG_MS);
    t.is(missing?.who, 'sidecar');
    t.regex(missing?.what ?? '', /^its sidecar is not ready(: x{1,200})?$/);
    await allClosed(sidecar);
  }
});

test('why a sidecar is not ready is told', async (t) => {
  const application = await ready(t);
  let reason = 'draining\n';
  const sidecar = await httpOrigin(t, (_, response) => void response.writeHead(503).end(reason));
  const what = async () => (await probe(sidecar.address, application.address, READY))?.what;
  t.is(await what(), 'its sidecar is not ready: draining');
  reason = '';
  t.is(await what(), 'its sidecar is not ready');
});
