// What becomes of streams that are open when policies change? Each goes through two real sidecars.

import { once } from 'node:events';
import http2 from 'node:http2';
import grpc, { type ServiceDefinition } from '@grpc/grpc-js';
import test, { type ExecutionContext } from 'ava';
import { WebSocket, WebSocketServer } from 'ws';
import type { AuthorizationPolicy } from '../../src/config/resources.js';
import { event, http2Origin, httpOrigin, proxyStatus, requestInTime } from '../support/http.js';
import { ask, http2Connect, resetCode } from '../support/http2.js';
import { connect, tcpServer } from '../support/tcp.js';
import { LAST_WORD_MS, PATIENCE_MS, inTime, until, within } from '../support/wait.js';
import { Mesh, type MeshSidecar, ask as askWeb, freePort, idOf, numberOf } from './support.js';

type Rule = NonNullable<AuthorizationPolicy['rules']>[number];

/** A mesh in which `web` calls `basket`, whose application is at `address`. */
interface World {
  /** Where `web` calls `basket`. */
  readonly port: number;
  readonly basket: MeshSidecar;
  /** Puts these policies in force. */
  protect(...policies: AuthorizationPolicy[]): void;
}

async function world(t: ExecutionContext, address: string, protocol: 'auto' | 'http2'): Promise<World> {
  const mesh = await Mesh.start(t);
  const ports = `3000=${address}${protocol === 'http2' ? '/http2' : ''}`;
  const basket = await mesh.sidecar(t, 'basket', { ports });
  mesh.serve('basket', [basket.address], 3000, protocol);
  const port = await freePort();
  const web = await mesh.sidecar(t, 'web', { flags: { '--forward': `basket:3000=127.0.0.1:${port}` } });
  await web.process.said(/forward:basket:3000 listens on/);
  return { port, basket, protect: (...policies) => mesh.protect('basket', policies) };
}

const fromWeb: Rule = { from: [{ kind: 'identity', value: idOf('web') }] };

function policy(action: 'allow' | 'deny', name: string, ...rules: Rule[]): AuthorizationPolicy {
  return { name, targets: [{ kind: 'listener', value: 'inbound' }], action, rules };
}

/** `web` may do what these rules say. */
const allow = (...rules: Rule[]): AuthorizationPolicy =>
  policy('allow', 'callers', ...rules.map((rule) => ({ ...fromWeb, ...rule })));

const deny = (...rules: Rule[]): AuthorizationPolicy => policy('deny', 'never', ...rules);

const asIs = (bytes: Buffer): Buffer => bytes;

function method(name: string, requestStream: boolean) {
  return {
    path: `/test.Rooms/${name}`,
    requestStream,
    responseStream: true,
    requestSerialize: asIs,
    requestDeserialize: asIs,
    responseSerialize: asIs,
    responseDeserialize: asIs,
  };
}

/** `Chat` answers what it is told; `Tick` says something when the test says so, and `Other` at once. */
const ROOMS = {
  chat: method('Chat', true),
  tick: method('Tick', false),
  other: method('Other', false),
} satisfies ServiceDefinition;

type Chat = grpc.ServerDuplexStream<Buffer, Buffer>;
type Tick = grpc.ServerWritableStream<Buffer, Buffer>;

/** The server's ends of calls that are open: neither ended by it nor cancelled. */
interface Rooms {
  readonly address: string;
  readonly chatting: ReadonlySet<Chat>;
  readonly ticking: ReadonlySet<Tick>;
}

async function rooms(t: ExecutionContext): Promise<Rooms> {
  const server = new grpc.Server();
  const [chatting, ticking] = [new Set<Chat>(), new Set<Tick>()];
  server.addService(ROOMS, {
    chat(call: Chat) {
      chatting.add(call);
      call.on('cancelled', () => chatting.delete(call));
      call.on('data', (message: Buffer) => call.write(message));
      call.on('error', () => {});
      call.on('end', () => {
        chatting.delete(call);
        call.end();
      });
    },
    tick(call: Tick) {
      ticking.add(call);
      call.on('cancelled', () => ticking.delete(call));
      call.write(Buffer.from('first'));
    },
    other(call: Tick) {
      call.end();
    },
  });
  const bound = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, at) =>
      error ? reject(error) : resolve(at),
    );
  });
  t.teardown(() => server.forceShutdown());
  return { address: `127.0.0.1:${bound}`, chatting, ticking };
}

type Open = grpc.ClientReadableStream<Buffer>;

/** A call that is open: what it hears, and how it ends. */
function watched<T extends Open>(call: T): { call: T; heard: string[]; status: Promise<grpc.StatusObject> } {
  const heard: string[] = [];
  call.on('data', (message: Buffer) => heard.push(message.toString()));
  call.on('error', () => {});
  // An error comes first, which is told by the status too.
  const status = new Promise<grpc.StatusObject>((resolve) => {
    call.on('status', resolve);
  });
  return { call, heard, status };
}

/** A client with one connection. */
function roomsClient(t: ExecutionContext, port: number) {
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_retries': 0,
  });
  t.teardown(() => client.close());
  const metadata = new grpc.Metadata();
  metadata.set('x-team', 'blue');
  const options = { deadline: Date.now() + 10 * PATIENCE_MS };
  const serverStream = (of: string) =>
    watched(client.makeServerStreamRequest(of, asIs, asIs, Buffer.from('x'), metadata, options));
  return {
    chat: () => watched(client.makeBidiStreamRequest(ROOMS.chat.path, asIs, asIs, metadata, options)),
    tick: () => serverStream(ROOMS.tick.path),
    /** How a call ends that its server ends at once. */
    other: async () => (await within('the end of a call', serverStream(ROOMS.other.path).status)).code,
  };
}

const calls = (name: string): Rule => ({ grpc: [{ service: 'test.Rooms', method: name }] });
const [chats, ticks, others] = [calls('Chat'), calls('Tick'), calls('Other')];
const team = (value: string): Rule => ({ headers: [{ name: 'x-team', value: { kind: 'exact', value } }] });
const path = (kind: 'exact' | 'prefix', value: string): Rule => ({ paths: [{ kind, value }] });
const from = (...names: string[]): Rule => ({
  from: names.map((name) => ({ kind: 'identity', value: idOf(name) })),
});

/** A change of what stands beside the rule for `Tick`. */
interface Change {
  /** What lets a `Chat` in. */
  readonly before: Rule;
  readonly after: readonly AuthorizationPolicy[];
  /** Whether a new `Chat` is let in by something else. */
  readonly opens?: true;
}

/** What ends a `Chat`. */
const ENDING: Readonly<Record<string, Change>> = {
  'its rule is removed': { before: chats, after: [allow(ticks)] },
  'its rule is removed, and the default would do': { before: chats, after: [], opens: true },
  'another rule alone lets it in': {
    before: chats,
    after: [allow(ticks), policy('allow', 'all', fromWeb)],
    opens: true,
  },
  'its rule takes another call': { before: chats, after: [allow(ticks, others)] },
  'its rule takes other headers': {
    before: { ...chats, ...team('blue') },
    after: [allow(ticks, { ...chats, ...team('red') })],
  },
  'its rule takes other paths': {
    before: path('prefix', '/test.Rooms'),
    after: [allow(ticks, path('exact', '/test.Rooms/Other'))],
  },
  'its rule takes other methods': {
    before: { methods: ['POST'] },
    after: [allow(ticks, { methods: ['GET'] })],
  },
  'its rule takes others': { before: chats, after: [allow(ticks, { ...chats, ...from('till') })] },
  'its call is denied': { before: chats, after: [allow(ticks, chats), deny(chats)] },
  'what it says of itself is denied': {
    before: chats,
    after: [allow(ticks, chats), deny({ ...path('exact', '/test.Rooms/Chat'), ...team('blue') })],
  },
};

/** What does not. */
const LEAVING: Readonly<Record<string, Change>> = {
  'another rule comes': { before: chats, after: [allow(ticks, chats, others)] },
  'rules change places': { before: chats, after: [allow(others, chats, ticks)] },
  'its rule takes more calls': {
    before: chats,
    after: [allow(ticks, { grpc: [...(others.grpc ?? []), ...(chats.grpc ?? [])] })],
  },
  'its rule takes more callers': {
    before: chats,
    after: [allow(ticks, { ...chats, ...from('till', 'web') }, others)],
  },
  'its rule asks for less': { before: { ...chats, ...team('blue') }, after: [allow(ticks, others, chats)] },
  'its policy is called otherwise': {
    before: chats,
    after: [policy('allow', 'others', ...[ticks, chats, others].map((rule) => ({ ...fromWeb, ...rule })))],
  },
  'something else is denied': {
    before: chats,
    after: [allow(ticks, chats, others), deny({ ...chats, ...team('red') }, { methods: ['GET'] })],
  },
};

/** Opens a `Chat` that this rule lets in, and none of what was in force before. */
async function openChat(client: ReturnType<typeof roomsClient>, protect: World['protect'], by: Rule) {
  protect(allow());
  await until('a policy that lets nobody in', async () => (await client.other()) === 7);
  protect(allow(ticks, by));
  return until('a chat', async () => {
    const chat = client.chat();
    chat.call.write(Buffer.from('hello'));
    const answered = new Promise<true>((resolve) => {
      chat.call.once('data', () => resolve(true));
    });
    const first = await within('an answer', Promise.race([answered, chat.status]));
    return first === true && chat;
  });
}

test('gRPC: a stream ends with its rule, and no other of its connection does', async (t) => {
  const server = await rooms(t);
  const { port, protect } = await world(t, server.address, 'http2');
  const client = roomsClient(t, port);
  for (const [what, { before, after, opens }] of Object.entries(ENDING)) {
    const [chat, tick] = [await openChat(client, protect, before), client.tick()];
    const ours = await until('the other stream', () => [...server.ticking][0]);
    protect(...after);
    const { code, details } = await within(`the end: ${what}`, chat.status);
    t.is(`${code} ${details}`, '7 Denied by policy.', what);
    const again = client.chat();
    again.call.end();
    t.is((await within('a new one', again.status)).code, opens ? 0 : 7, what);
    // The default lets the other in as well, but it is another rule than the one that did.
    if (after.length > 0) {
      ours.write(Buffer.from('more'));
      await until(`the other stream: ${what}`, () => tick.heard.includes('more'));
      tick.call.cancel();
    }
    await within('the end of the other stream', tick.status);
    await until(`the server hears of both: ${what}`, () => server.ticking.size + server.chatting.size === 0);
  }
});

test('gRPC: a stream stays over changes that leave it its rule', async (t) => {
  const server = await rooms(t);
  const { port, protect } = await world(t, server.address, 'http2');
  const client = roomsClient(t, port);
  for (const [what, { before, after }] of Object.entries(LEAVING)) {
    const chat = await openChat(client, protect, before);
    protect(...after);
    await until(`the change: ${what}`, async () => (await client.other()) === 0);
    chat.call.write(Buffer.from('still'));
    await until(`an answer: ${what}`, () => chat.heard.includes('still'));
    chat.call.end();
    t.is((await within('its end', chat.status)).code, 0, what);
  }
});

test('HTTP/2: a long poll ends with its rule, and no other of its connection does', async (t) => {
  const held = new Map<string, http2.ServerHttp2Stream>();
  const origin = await http2Origin(t, (stream, headers) => {
    const asked = headers[':path'] ?? '';
    if (asked.startsWith('/begun')) stream.respond({ ':status': 200 });
    if (asked.startsWith('/now')) stream.respond({ ':status': 204 }, { endStream: true });
    else held.set(asked, stream);
  });
  const { port, protect } = await world(t, origin.address, 'http2');
  const session = await http2Connect(t, `http://127.0.0.1:${port}`);
  const kept = path('exact', '/kept');
  const blue = team('blue');
  const status = async (asked: string) => (await ask(session, { ':path': asked, 'x-team': 'blue' })).status;
  const changes: Record<string, [Rule, AuthorizationPolicy[]]> = {
    gone: [path('prefix', '/'), [allow(kept)]],
    path: [path('prefix', '/'), [allow(kept, path('prefix', '/other'))]],
    method: [{ methods: ['GET'] }, [allow(kept, { methods: ['POST'] })]],
    header: [blue, [allow(kept, team('red'))]],
    denied: [
      path('prefix', '/'),
      [
        allow(kept, path('prefix', '/')),
        deny({ ...path('prefix', '/begun'), ...blue }, path('prefix', '/waits'), path('prefix', '/now')),
      ],
    ],
  };
  protect(allow());
  await until('a policy that lets nobody in', async () => (await status('/now')) === 403);
  for (const [what, [before, after]] of Object.entries(changes)) {
    protect(allow(kept, before));
    await until('the policy before', async () => (await status('/now')) === 204);
    const open = (asked: string) => session.request({ ':path': asked, 'x-team': 'blue' });
    const [begun, stays] = [open(`/begun/${what}`), open('/kept')];
    const waits = ask(session, { ':path': `/waits/${what}`, 'x-team': 'blue' });
    const [head, code] = [once(begun, 'response'), resetCode(begun)];
    await until('both at the server', () => held.has(`/waits/${what}`) && held.has('/kept'));
    await within('the head', head);
    const servers = [...held.values()];
    protect(...after);
    // What has begun is no whole response, and must not look like one; what has not is told why.
    t.is(await code, http2.constants.NGHTTP2_INTERNAL_ERROR, what);
    const { status: refused, headers } = await waits;
    t.deepEqual([refused, proxyStatus(headers).details], [403, 'denied'], what);
    t.is(await status('/now'), 403, what);
    held.get('/kept')?.respond({ ':status': 200 });
    held.get('/kept')?.end('whole');
    const [answer] = (await within('the other stream', once(stays, 'response'))) as [Record<string, unknown>];
    t.is(answer[':status'], 200, what);
    stays.resume();
    await within('its end', once(stays, 'end'));
    await until('the server hears of all', () => servers.every((stream) => stream.closed));
    held.clear();
  }
  t.false(session.closed);
});

test('a WebSocket ends with its rule, and stays over changes that leave it that', async (t) => {
  const origin = await httpOrigin(t);
  const server = new WebSocketServer({ server: origin.server });
  t.teardown(() => server.close());
  server.on('connection', (socket) => socket.on('message', (data) => socket.send(data)));
  const { port, protect } = await world(t, origin.address, 'auto');
  const inRooms = path('prefix', '/rooms');
  const open = async (asked: string): Promise<WebSocket | number> => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}${asked}`);
    t.teardown(() => socket.terminate());
    socket.on('error', () => {});
    const opened = once(socket, 'open').then(() => socket);
    const refused = once(socket, 'unexpected-response').then(
      ([, response]) => (response as { statusCode: number }).statusCode,
    );
    return within('an answer', Promise.race([opened, refused]));
  };
  const opens = (asked: string) =>
    until(`a WebSocket to ${asked}`, async () => {
      const socket = await open(asked);
      return typeof socket !== 'number' && socket;
    });
  const changes: Record<string, AuthorizationPolicy[]> = {
    'its rule is removed': [allow(path('prefix', '/halls'))],
    'its rule takes other paths': [allow(path('exact', '/rooms/2'), path('prefix', '/halls'))],
    'it is denied': [allow(inRooms, path('prefix', '/halls')), deny(inRooms)],
  };
  // The default lets in, by no rule: it must not be what does.
  protect(allow());
  await until('a policy that lets nobody in', async () => (await open('/rooms/1')) === 403);
  for (const [what, after] of Object.entries(changes)) {
    protect(allow(inRooms));
    const socket = await opens('/rooms/1');
    protect(
      allow({ ...inRooms, ...from('web', 'till') }, path('prefix', '/halls')),
      deny({ ...inRooms, ...from('till') }),
    );
    (await opens('/halls')).terminate();
    socket.send('still');
    const [back] = await event<[Buffer]>(socket, 'message');
    t.is(back.toString(), 'still', what);
    const closed = event<[number]>(socket, 'close');
    protect(...after);
    t.is((await closed)[0], 1006, what);
    t.is(await open('/rooms/1'), 403, what);
  }
});

test('HTTP rules of one port are no matter of the streams of another', async (t) => {
  const [http, database] = [await httpOrigin(t), await tcpServer(t)];
  const mesh = await Mesh.start(t);
  const ports = `3000=${http.address},5432=${database.address}/tcp`;
  const basket = await mesh.sidecar(t, 'basket', { ports });
  mesh.serve('basket', [basket.address]);
  mesh.serve('basket', [basket.address], 5432, 'tcp');
  const bytes = policy('allow', 'database', { ...fromWeb, ports: [5432] });
  const items: Rule = { ports: [3000], ...path('exact', '/items') };
  mesh.protect('basket', [allow(items), bytes]);
  const port = await freePort();
  const web = await mesh.sidecar(t, 'web', { flags: { '--forward': `basket:5432=127.0.0.1:${port}/tcp` } });
  const status = async (url: string): Promise<number> => (await askWeb(web, url, 'basket:3000')).status;
  await until('the rule', async () => (await status('/items')) === 200);
  t.is(await status('/other'), 403);
  const client = await connect(t, port);
  await client.send('hello');
  const open = await database.accepted();
  t.is((await open.read(5)).toString(), 'hello');

  // What is open is judged again in the same way.
  mesh.protect('basket', [allow(items, { ports: [3000], ...path('exact', '/more') }), bytes]);
  await until('the change', async () => (await status('/more')) === 200);
  await open.send('world');
  t.is((await client.read(5)).toString(), 'world');
  mesh.protect('basket', [bytes, deny({ ports: [5432], ...path('exact', '/items') })]);
  await client.gone();
});

test('a client that hesitates is no stream of bytes, which policy would deny', async (t) => {
  const origin = await httpOrigin(t, (_, outgoing) => void outgoing.end('served'));
  const { port, basket, protect } = await world(t, origin.address, 'auto');
  protect(allow(path('prefix', '/shop')));
  await until('the policy', async () => (await requestInTime(port)).status === 403);
  const series = /^mesh_connections_closed_total\{listener="inbound",reason="denied"\} (\d+)$/m;
  // From then on it has a second in which it may still speak.
  const answer = await inTime('an answer', LAST_WORD_MS, async (spoken) => {
    const before = await numberOf(basket, series);
    const client = await connect(t, port);
    await until('a stream that is denied', async () => (await numberOf(basket, series)) > before);
    await client.send('GET /shop HTTP/1.1\r\nhost: basket\r\n\r\n');
    spoken();
    return client.response();
  });
  t.is(answer.body, 'served');
});
