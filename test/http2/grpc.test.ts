// Does gRPC's own client reach its own server: calls of all four kinds, deadlines, cancellation, errors, in bulk?

import { once } from 'node:events';
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import grpc, { type ServiceDefinition } from '@grpc/grpc-js';
import test, { type ExecutionContext } from 'ava';
import { type Sidecar, startSidecar, web } from '../support/sidecar.js';
import { closedPort } from '../support/tcp.js';
import { PATIENCE_MS, until } from '../support/wait.js';

const asIs = (bytes: Buffer): Buffer => bytes;

function method(name: string, requestStream: boolean, responseStream: boolean) {
  return {
    path: `/test.Echo/${name}`,
    requestStream,
    responseStream,
    requestSerialize: asIs,
    requestDeserialize: asIs,
    responseSerialize: asIs,
    responseDeserialize: asIs,
  };
}

/** A service whose messages are bytes. */
const ECHO = {
  unary: method('Unary', false, false),
  collect: method('Collect', true, false),
  repeat: method('Repeat', false, true),
  chat: method('Chat', true, true),
  fail: method('Fail', false, false),
  wait: method('Wait', false, false),
  tick: method('Tick', false, true),
} satisfies ServiceDefinition;

type Call = grpc.ServerUnaryCall<Buffer, Buffer>;
type Done = grpc.sendUnaryData<Buffer>;

/** What the server counted. */
interface Counts {
  waiting: number;
  cancelled: number;
}

/** A gRPC server that ends with the test. */
async function grpcServer(t: ExecutionContext, counts: Counts, port = 0): Promise<string> {
  const server = new grpc.Server();
  const watch = (call: { on(event: 'cancelled', listener: () => void): void }): void => {
    counts.waiting += 1;
    call.on('cancelled', () => {
      counts.cancelled += 1;
    });
  };
  server.addService(ECHO, {
    unary(call: Call, done: Done) {
      const trailers = new grpc.Metadata();
      trailers.set('x-behind', 'trailer');
      const head = new grpc.Metadata();
      head.set('x-front', String(call.metadata.get('x-asked')[0] ?? ''));
      call.sendMetadata(head);
      done(null, call.request, trailers);
    },
    collect(call: grpc.ServerReadableStream<Buffer, Buffer>, done: Done) {
      const all: Buffer[] = [];
      call.on('data', (message: Buffer) => all.push(message));
      call.on('end', () => done(null, Buffer.concat(all)));
    },
    repeat(call: grpc.ServerWritableStream<Buffer, Buffer>) {
      for (let n = 0; n < 100; n += 1) call.write(Buffer.concat([call.request, Buffer.from(`${n}`)]));
      call.end();
    },
    chat(call: grpc.ServerDuplexStream<Buffer, Buffer>) {
      call.on('data', (message: Buffer) => call.write(message));
      call.on('end', () => call.end());
      call.on('error', () => {});
    },
    fail(_: Call, done: Done) {
      done({ code: grpc.status.FAILED_PRECONDITION, details: 'not so: 100% ö' });
    },
    wait(call: Call) {
      watch(call);
    },
    tick(call: grpc.ServerWritableStream<Buffer, Buffer>) {
      watch(call);
      call.write(Buffer.from('first'));
    },
  });
  const bound = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(), (error, at) =>
      error ? reject(error) : resolve(at),
    );
  });
  t.teardown(() => server.forceShutdown());
  return `127.0.0.1:${bound}`;
}

type Client = grpc.Client & Record<keyof typeof ECHO, (...args: unknown[]) => never>;

function client(t: ExecutionContext, proxy: Sidecar, options: grpc.ChannelOptions = {}): grpc.Client {
  const made = new grpc.Client(proxy.address('web'), grpc.credentials.createInsecure(), {
    // Each test's own connection, and no tries that the proxy did not see.
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_retries': 0,
    ...options,
  });
  t.teardown(() => made.close());
  return made as Client;
}

const soon = (ms = PATIENCE_MS): { deadline: number } => ({ deadline: Date.now() + ms });

/** A unary call; resolves with the message, or rejects with the error. */
function unary(
  made: grpc.Client,
  name: keyof typeof ECHO,
  message: string | Buffer,
  { metadata = new grpc.Metadata(), ...options }: grpc.CallOptions & { metadata?: grpc.Metadata } = soon(),
): { call: grpc.ClientUnaryCall; answer: Promise<Buffer> } {
  let call: grpc.ClientUnaryCall | undefined;
  const answer = new Promise<Buffer>((resolve, reject) => {
    call = made.makeUnaryRequest(
      ECHO[name].path,
      asIs,
      asIs,
      Buffer.from(message),
      metadata,
      options,
      (error, value) => (error ? reject(error) : resolve(value ?? Buffer.alloc(0))),
    );
  });
  answer.catch(() => {});
  if (!call) throw new Error('no call');
  return { call, answer };
}

async function before(t: ExecutionContext, counts: Counts = { waiting: 0, cancelled: 0 }): Promise<Sidecar> {
  // Nothing says HTTP/2: gRPC implies it.
  return startSidecar(t, web({ to: await grpcServer(t, counts) }), { admin: '127.0.0.1:0' });
}

/** A server that says of some calls, counted from 1, that it never looked at them, when it has read them. */
async function refusing(t: ExecutionContext, refuses: (call: number) => boolean) {
  const seen = { calls: 0, address: '' };
  const server = http2.createServer();
  server.on('session', (session) => t.teardown(() => session.destroy()));
  server.on('stream', (stream) => {
    seen.calls += 1;
    const refused = refuses(seen.calls);
    stream.on('error', () => {});
    stream.on('end', () => {
      if (refused) return stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
      const head = { ':status': 200, 'content-type': 'application/grpc' };
      stream.respond(head, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      return stream.end(Buffer.concat([Buffer.from([0, 0, 0, 0, 4]), Buffer.from('done')]));
    });
    stream.resume();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  seen.address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return seen;
}

test('a unary call with metadata in front and behind', async (t) => {
  const made = client(t, await before(t));
  const metadata = new grpc.Metadata();
  metadata.set('x-asked', 'yes');
  for (const size of [0, 5, 100_000, 1_000_000]) {
    const message = Buffer.alloc(size, 'x');
    const { call, answer } = unary(made, 'unary', message, { ...soon(), metadata });
    // Both may come at once.
    const [[head], [status]] = (await Promise.all([once(call, 'metadata'), once(call, 'status')])) as [
      [grpc.Metadata],
      [grpc.StatusObject],
    ];
    t.true((await answer).equals(message));
    t.deepEqual(head.get('x-front'), ['yes']);
    t.is(status.code, grpc.status.OK);
    t.deepEqual(status.metadata.get('x-behind'), ['trailer']);
  }
});

test('a call that is too long to be kept, and that its server has not looked at, is sent again by its client', async (t) => {
  const seen = await refusing(t, (call) => call !== 2);
  const proxy = await startSidecar(t, web({ to: seen.address }), { admin: '127.0.0.1:0' });
  const made = client(t, proxy, { 'grpc.enable_retries': 1 });
  const message = Buffer.alloc(10_000);
  t.is(String(await unary(made, 'unary', message).answer), 'done');
  t.is(seen.calls, 2);
  // It does so once, as it does unless it is told not to.
  await t.throwsAsync(unary(made, 'unary', message).answer, { code: grpc.status.UNAVAILABLE } as object);
  t.is(seen.calls, 4);
});

test('client, server and bidirectional streams', async (t) => {
  const made = client(t, await before(t));
  const collected = await new Promise<Buffer>((resolve, reject) => {
    const call = made.makeClientStreamRequest(
      ECHO.collect.path,
      asIs,
      asIs,
      new grpc.Metadata(),
      soon(),
      (error, value) => (error ? reject(error) : resolve(value ?? Buffer.alloc(0))),
    );
    for (let n = 0; n < 100; n += 1) call.write(Buffer.from(`${n},`));
    call.end();
  });
  t.is(collected.toString(), Array.from({ length: 100 }, (_, n) => `${n},`).join(''));

  const repeated: string[] = [];
  const call = made.makeServerStreamRequest(
    ECHO.repeat.path,
    asIs,
    asIs,
    Buffer.from('n'),
    new grpc.Metadata(),
    soon(),
  );
  for await (const message of call) repeated.push(String(message));
  t.deepEqual(
    repeated,
    Array.from({ length: 100 }, (_, n) => `n${n}`),
  );

  const chat = made.makeBidiStreamRequest(ECHO.chat.path, asIs, asIs, new grpc.Metadata(), soon());
  for (let n = 0; n < 50; n += 1) {
    chat.write(Buffer.from(`${n}`));
    const [message] = (await once(chat, 'data')) as [Buffer];
    t.is(message.toString(), `${n}`);
  }
  const ended = once(chat, 'status');
  chat.end();
  const [status] = (await ended) as [grpc.StatusObject];
  t.is(status.code, grpc.status.OK);
});

test('a status of the server passes with its message', async (t) => {
  const made = client(t, await before(t));
  await t.throwsAsync(unary(made, 'fail', '').answer, {
    code: grpc.status.FAILED_PRECONDITION,
    message: /not so: 100% ö/,
  } as object);
});

test('errors of the proxy are statuses with a message', async (t) => {
  const gone = await closedPort();
  const proxy = await startSidecar(
    t,
    web(
      {
        routes: [
          { match: { grpc: 'test.Echo/Unary' }, to: `127.0.0.1:${gone}` },
          { match: { grpc: 'test.Echo/Wait' }, to: 'nobody' },
        ],
      },
      { clusters: { nobody: { endpoints: [], protocol: 'http2' } } },
    ),
  );
  const made = client(t, proxy);
  for (const [name, code, details] of [
    ['unary', grpc.status.UNAVAILABLE, 'The server refused the connection.'],
    ['wait', grpc.status.UNAVAILABLE, 'The cluster has no endpoints.'],
    ['fail', grpc.status.UNIMPLEMENTED, 'No route takes this request.'],
  ] as const) {
    const error = await t.throwsAsync(unary(made, name, '').answer);
    t.like(error, { code, details }, name);
  }
});

test('the caller’s deadline is kept by the proxy, and the server is told', async (t) => {
  const counts = { waiting: 0, cancelled: 0 };
  const proxy = await before(t, counts);
  const made = client(t, proxy);
  // The client's own clock would end the call as well; a header that it does not know of is the proxy's alone.
  const metadata = new grpc.Metadata();
  // Long enough that the server, which is in this process, has begun by then: what it never saw it hears nothing of.
  metadata.set('grpc-timeout', '6S');
  const calls = [unary(made, 'wait', '', { ...soon(), metadata }), unary(made, 'wait', '', soon(6000))];
  for (const { answer } of calls) {
    const error = await t.throwsAsync(answer);
    t.like(error, { code: grpc.status.DEADLINE_EXCEEDED });
  }
  await until('the server hears of both', () => counts.cancelled === 2);
  t.is((await unary(made, 'unary', 'still').answer).toString(), 'still');
});

test('thousands of calls, a third of them cancelled: none of the others fails', async (t) => {
  const counts = { waiting: 0, cancelled: 0 };
  const proxy = await before(t, counts);
  const made = client(t, proxy);
  const watched = made.makeServerStreamRequest(
    ECHO.tick.path,
    asIs,
    asIs,
    Buffer.alloc(0),
    new grpc.Metadata(),
    {},
  );
  watched.on('error', () => {});
  let ended = false;
  watched.on('status', () => {
    ended = true;
  });
  await once(watched, 'data');
  const rounds = 60;
  const perRound = 100;
  let answered = 0;
  const failures = new Set<string>();
  for (let round = 0; round < rounds; round += 1) {
    const waiting = counts.waiting;
    const calls = Array.from({ length: perRound }, (_, n) => {
      const name = n % 6 === 0 ? 'wait' : 'unary';
      const one = unary(made, name, `${n}`);
      return { n, name, ...one };
    });
    const streams = Array.from({ length: 20 }, () => {
      const stream = made.makeServerStreamRequest(
        ECHO.tick.path,
        asIs,
        asIs,
        Buffer.alloc(0),
        new grpc.Metadata(),
        soon(),
      );
      stream.on('error', () => {});
      return stream;
    });
    const waits = calls.filter(({ name }) => name === 'wait').length + streams.length;
    await until('all that wait are there', () => counts.waiting === waiting + waits);
    for (const { name, call } of calls) if (name === 'wait') call.cancel();
    for (const stream of streams) stream.cancel();
    for (const { n, name, answer } of calls) {
      try {
        const value = await answer;
        if (value.toString() === `${n}`) answered += 1;
      } catch (error) {
        const { code, message } = error as grpc.ServiceError;
        if (name !== 'wait' || code !== grpc.status.CANCELLED) failures.add(`round ${round}: ${message}`);
      }
    }
  }
  t.deepEqual([...failures], []);
  t.is(answered, rounds * (perRound - Math.ceil(perRound / 6)));
  await until('the server hears of all', () => counts.cancelled === counts.waiting - 1);
  t.false(ended);
  watched.cancel();
});
