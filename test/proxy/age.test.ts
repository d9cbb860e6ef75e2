// What becomes of streams on a connection that is too old? They have the time that a drain would give them and are cut then,
// so that clients whose streams never end come back elsewhere as well.

import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import http2 from 'node:http2';
import grpc from '@grpc/grpc-js';
import test, { type ExecutionContext } from 'ava';
import { WebSocket, WebSocketServer } from 'ws';
import { startEmbedded } from '../support/embedded.js';
import { event, httpOrigin } from '../support/http.js';
import { http2Connect, readAnswer, resetCode } from '../support/http2.js';
import { startSidecar, web } from '../support/sidecar.js';
import { until, within } from '../support/wait.js';

const { NGHTTP2_INTERNAL_ERROR } = http2.constants;

/** When connections are too old, which leaves this process time to begin, and what their streams have from then on. */
const AGE_MS = 6000;
const DRAIN_MS = 2000;
/** Nothing else ends what is under way. */
const endless = { request: '0s', streamIdle: '0s', tcpIdle: '0s' };
const timeouts = { ...endless, maxConnectionAge: `${AGE_MS}ms`, drain: `${DRAIN_MS}ms` };

/** A server of HTTP/1 that begins its answers, and ends them when it is told to. */
async function endlessOrigin(t: ExecutionContext) {
  const answers: ServerResponse[] = [];
  const origin = await httpOrigin(t, (_, outgoing) => {
    outgoing.write('some');
    answers.push(outgoing);
  });
  return {
    address: origin.address,
    end: (): void => {
      for (const outgoing of answers.splice(0)) outgoing.end(' and all');
    },
  };
}

const asIs = (bytes: Buffer): Buffer => bytes;

const WATCH = {
  path: '/test.Watch/Watch',
  requestStream: false,
  responseStream: true,
  requestSerialize: asIs,
  requestDeserialize: asIs,
  responseSerialize: asIs,
  responseDeserialize: asIs,
};

/** A gRPC server whose streams never end. */
async function watchable(t: ExecutionContext): Promise<string> {
  const server = new grpc.Server();
  server.addService(
    { watch: WATCH },
    {
      watch(call: grpc.ServerWritableStream<Buffer, Buffer>) {
        call.write(Buffer.from('first'));
      },
    },
  );
  const bound = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, at) =>
      error ? reject(error) : resolve(at),
    );
  });
  t.teardown(() => server.forceShutdown());
  return `127.0.0.1:${bound}`;
}

test('gRPC: a stream without an end is cut, and its caller comes back on another connection', async (t) => {
  const proxy = await startEmbedded(t, web({ timeouts, to: await watchable(t) }));
  const client = new grpc.Client(`127.0.0.1:${proxy.port()}`, grpc.credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_retries': 0,
  });
  t.teardown(() => client.close());
  for (let n = 1; n <= 2; n += 1) {
    const begun = performance.now();
    const call = client.makeServerStreamRequest(WATCH.path, asIs, asIs, Buffer.alloc(0));
    const received: string[] = [];
    call.on('data', (message: Buffer) => received.push(message.toString()));
    call.on('error', () => {});
    const status = await within(
      'the end of the call',
      new Promise<grpc.StatusObject>((resolve) => {
        call.on('status', resolve);
      }),
    );
    t.like(status, { code: grpc.status.UNAVAILABLE, details: 'The connection reached its age limit.' });
    t.deepEqual(received, ['first']);
    t.true(performance.now() - begun >= DRAIN_MS, `${performance.now() - begun}`);
    t.true((await proxy.listener()).connections >= n);
  }
  await proxy.endedBy('max_connection_age');
  await proxy.closedBy('max_connection_age');
  t.is((await proxy.listener()).closedBy['draining'], undefined);
});

test('HTTP/2: what ends in time is whole, what does not is cut, and the connection closes', async (t) => {
  const origin = await endlessOrigin(t);
  for (const inTime of [true, false]) {
    const drain = inTime ? '20s' : timeouts.drain;
    const proxy = await startSidecar(t, web({ timeouts: { ...timeouts, drain }, to: origin.address }));
    const session = await http2Connect(t, proxy.url());
    const stream = session.request({ ':path': '/' });
    const left = once(session, 'goaway');
    const closed = once(session, 'close');
    if (inTime) {
      const answer = readAnswer(stream);
      await within('GOAWAY', left);
      origin.end();
      t.is((await answer).text, 'some and all');
    } else {
      t.is(await resetCode(stream), NGHTTP2_INTERNAL_ERROR);
    }
    await within('the end of the connection', closed);
  }
});

test('WebSocket: it is cut as well, over HTTP/1 and over a stream of HTTP/2', async (t) => {
  const origin = await httpOrigin(t);
  const server = new WebSocketServer({ server: origin.server });
  t.teardown(() => server.close());
  const proxy = await startSidecar(t, web({ timeouts, to: origin.address }));
  const client = new WebSocket(`ws://${proxy.address()}/`);
  client.on('error', () => {});
  const closed = event<[number]>(client, 'close');
  await event(client, 'open');
  t.is((await closed)[0], 1006);

  const session = await http2Connect(t, proxy.url());
  await until('it is announced', () => session.remoteSettings?.enableConnectProtocol === true);
  const stream = session.request(
    {
      ':method': 'CONNECT',
      ':protocol': 'websocket',
      ':scheme': 'http',
      ':path': '/',
      'sec-websocket-version': '13',
    },
    { endStream: false },
  );
  const ended = once(session, 'close');
  const [head] = (await within('the answer', once(stream, 'response'))) as [
    http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader,
  ];
  t.is(head[':status'], 200);
  await resetCode(stream);
  await within('the end of the connection', ended);
});

test('streams that have no time but the one that their connection gets while they are open are cut', async (t) => {
  const origin = await endlessOrigin(t);
  const listener = (changed: object) => web({ timeouts: { ...endless, ...changed }, to: origin.address });
  const proxy = await startSidecar(t, listener({ maxConnectionAge: '0s' }));
  const session = await http2Connect(t, proxy.url());
  const stream = session.request({ ':path': '/' });
  await within('the answer begins', once(stream, 'data'));
  const left = once(session, 'goaway');
  await proxy.reload(listener({ maxConnectionAge: '1ms', drain: '0s' }));
  await within('GOAWAY', left);
  t.false(stream.closed);
  await proxy.reload(listener({ maxConnectionAge: '1ms', drain: '300ms' }));
  t.is(await resetCode(stream), NGHTTP2_INTERNAL_ERROR);
});

test('without an end for what is under way, and by a count of requests, streams go on', async (t) => {
  const origin = await endlessOrigin(t);
  const port = { address: '127.0.0.1:0', to: origin.address };
  const proxy = await startSidecar(t, {
    listeners: [
      { ...port, name: 'old', timeouts: { ...timeouts, drain: '0s' } },
      {
        ...port,
        name: 'worn',
        timeouts: { ...endless, drain: '1ms' },
        limits: { requestsPerConnection: 1 },
      },
      { ...port, name: 'cut', timeouts },
    ],
  });
  const begin = async (name: string) => {
    const session = await http2Connect(t, proxy.url(name));
    const stream = session.request({ ':path': '/' });
    const answer = readAnswer(stream);
    answer.catch(() => {});
    await within('GOAWAY', once(session, 'goaway'));
    return { stream, answer };
  };
  const [old, worn, cut] = [await begin('old'), await begin('worn'), await begin('cut')];
  t.is(await resetCode(cut.stream), NGHTTP2_INTERNAL_ERROR);
  origin.end();
  for (const { answer } of [old, worn]) {
    t.is((await within('an answer', answer)).text, 'some and all');
  }
});
