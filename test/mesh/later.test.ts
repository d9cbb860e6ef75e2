// What of a name that was asked for before the mesh had a service of that name? And of one that nobody asks for?

import http from 'node:http';
import test, { type ExecutionContext } from 'ava';
import { type Response, httpOrigin, proxyStatus, request, requestInTime, serve } from '../support/http.js';
import { ask as askHttp2, http2Connect } from '../support/http2.js';
import { connect } from '../support/tcp.js';
import { LAST_WORD_MS, inTime, until } from '../support/wait.js';
import { Mesh, type MeshSidecar, ask, freePort, idOf, numberOf } from './support.js';

type Test = Pick<ExecutionContext, 'teardown'>;

/** Who calls, as the application of a workload is told; nobody for what did not come through a mesh. */
const tells: http.RequestListener = (incoming, outgoing) =>
  void outgoing.end(`called by ${incoming.headers['x-mesh-peer'] ?? 'nobody'}`);
const MUTUAL = `called by ${idOf('web')}`;

/** The workload of `late`, which the control plane knows of no name for yet. */
async function late(t: Test, mesh: Mesh, port = 3000): Promise<MeshSidecar> {
  const origin = await httpOrigin(t, tells);
  return mesh.sidecar(t, 'late', { ports: `${port}=${origin.address}` });
}

test('a name that was asked for too early is called over mTLS once the mesh has it', async (t) => {
  const mesh = await Mesh.start(t);
  const web = await mesh.sidecar(t, 'web');
  const early = await ask(web, '/', 'late');
  t.true(early.status >= 500, 'no name server knows it');
  const { address } = await late(t, mesh);
  mesh.serve('late', [address]);
  const answer = await until('the service', async () => {
    const { status, text } = await ask(web, '/', 'late');
    t.true(status === 200 || status >= 500, `its port is declared: ${status} ${text}`);
    return status === 200 && text;
  });
  t.is(answer, MUTUAL);
});

test('a name that the mesh has is called by it from the moment on, and never looked for outside', async (t) => {
  const mesh = await Mesh.start(t);
  const web = await mesh.sidecar(t, 'web');
  const { address } = await late(t, mesh);
  const texts = new Set<string>();
  for (let more = 0; more < 60; more++) {
    mesh.serve(`late-${more}`, [address], 3000, 'auto', 'late');
    texts.add((await ask(web, '/', `late-${more}`)).text);
  }
  t.deepEqual([...texts], [MUTUAL]);
});

test('a name that was called outside the mesh never is again once the mesh has it', async (t) => {
  const mesh = await Mesh.start(t);
  const web = await mesh.sidecar(t, 'web');
  const outside = await httpOrigin(t, tells);
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  t.teardown(() => agent.destroy());
  const call = () => ask(web, '/', `localhost:${outside.port}`, {}, agent);
  t.is((await call()).text, 'called by nobody');
  const { address } = await late(t, mesh, outside.port);
  mesh.serve('localhost', [address], outside.port, 'auto', 'late');
  const answer = await until('the service', async () => {
    const { status, text } = await call();
    return status === 200 && text !== 'called by nobody' && text;
  });
  t.is(answer, MUTUAL);
  const before = outside.requests;
  for (let more = 0; more < 20; more++) t.is((await call()).text, MUTUAL);
  t.is(outside.requests, before);
});

test('a service that is no more is as a name that nobody knows, until it comes back', async (t) => {
  const mesh = await Mesh.start(t);
  const web = await mesh.sidecar(t, 'web');
  const { address } = await late(t, mesh);
  mesh.serve('late', [address]);
  const call = async () => {
    const { status, text, headers } = await ask(web, '/', 'late');
    return status === 200 ? text : `${status} ${proxyStatus(headers).details}`;
  };
  t.is(await call(), MUTUAL);
  mesh.remove('late');
  const after = await until('another answer', async () => {
    const answer = await call();
    return answer !== MUTUAL && answer;
  });
  t.is(after, '403 forward_denied');
  const { status, headers } = await request(web.outbound, { headers: { host: 'late' } });
  t.is(`${status} ${proxyStatus(headers).details}`, '404 no_route', 'who asks for no proxy');
  mesh.serve('late', [address]);
  await until('the service', async () => (await call()) === MUTUAL);
});

test('a plain listener follows its name into the mesh', async (t) => {
  const mesh = await Mesh.start(t);
  const plain = await freePort();
  const web = await mesh.sidecar(t, 'web', { flags: { '--forward': `late:80=127.0.0.1:${plain}` } });
  await web.process.said(/forward:late:80 listens on/);
  const early = await requestInTime(plain, { headers: { host: 'late' } });
  t.true(early.status >= 500, 'no name server knows it');
  const { address } = await late(t, mesh);
  mesh.serve('late', [address]);
  // Its socket is never closed: no call is refused meanwhile.
  const answer = await until('the service', async () => {
    const { status, text } = await requestInTime(plain, { headers: { host: 'late' } });
    return status === 200 && text;
  });
  t.is(answer, MUTUAL);
});

interface Plain {
  readonly web: MeshSidecar;
  readonly port: number;
  call(): Promise<Response>;
}

/** A sidecar with a plain listener for `late`, from which only services may be called. */
async function plainly(t: Test, mesh: Mesh): Promise<Plain> {
  const port = await freePort();
  const flags = { '--forward': `late:80=127.0.0.1:${port}`, '--egress': 'known', '--name-idle': '1s' };
  const web = await mesh.sidecar(t, 'web', { flags });
  // Whatever host its clients ask for.
  const call = () => requestInTime(port, { headers: { host: 'any.test' } });
  return { web, port, call };
}

test('a plain listener tells HTTP that nobody knows its service, or no more, and closes bytes', async (t) => {
  const mesh = await Mesh.start(t);
  const { web, port, call } = await plainly(t, mesh);
  const closed = () =>
    numberOf(web, /^mesh_connections_closed_total\{listener="forward:late:80",reason="no_route"\} (\d+)$/m);
  const nobody = (answer: Pick<Response, 'status' | 'headers'>) => {
    t.is(answer.status, 404);
    t.deepEqual(proxyStatus(answer.headers), { error: 'destination_not_found', details: 'no_route' });
  };
  nobody(await call());
  const overHttp2 = async () => askHttp2(await http2Connect(t, `http://127.0.0.1:${port}`), { ':path': '/' });
  nobody(await inTime('an answer', LAST_WORD_MS, overHttp2));
  const bytes = async () => {
    const peer = await connect(t, port);
    // Who is late is cut off before it speaks, for the same reason.
    await peer.send('hello\n').catch(() => {});
    await peer.gone();
  };
  await bytes();
  await until('a reason', async () => (await closed()) > 0);
  const { address } = await late(t, mesh);
  for (const _ of [1, 2]) {
    mesh.serve('late', [address]);
    await until('the service', async () => (await call()).text === MUTUAL);
    const before = await closed();
    mesh.remove('late');
    const last = await until('its end', async () => {
      const answer = await call();
      return answer.text !== MUTUAL && answer;
    });
    nobody(last);
    await bytes();
    await until('a reason', async () => (await closed()) > before);
  }
});

test('of more than 256 names outside the mesh those that are idle give way', async (t) => {
  const mesh = await Mesh.start(t);
  const web = await mesh.sidecar(t, 'web');
  const { port } = await serve(t, http.createServer(tells), 0, '0.0.0.0');
  const call = (host: string) => ask(web, '/', `${host}:${port}`);
  for (let number = 0; number < 256; number++) {
    t.is((await call(`127.0.1.${number}`)).text, 'called by nobody');
  }
  // They are all in use for a moment.
  await until('room for one more', async () => {
    const { status, headers, text } = await call('127.0.2.1');
    if (status === 503) t.is(proxyStatus(headers).details, 'name_limit');
    return text === 'called by nobody';
  });
  t.is((await call('127.0.1.0')).text, 'called by nobody', 'it gave way, and takes the place of another');
});

/** Kinds of which a sidecar has none are named once it had some. */
const NONE = { Listener: 0, RouteConfiguration: 0, Cluster: 0, ClusterLoadAssignment: 0 };
/** The roots. */
const OWN = { ...NONE, Secret: 1 };
const WITH_LATE = { ...OWN, Listener: 1, RouteConfiguration: 1, Cluster: 1, ClusterLoadAssignment: 1 };

/** How many resources of each kind `web` has, as the control plane counts them. */
function held(mesh: Mesh): Readonly<Record<string, number>> {
  const has = mesh.control.sidecars().find(({ name }) => name === 'web')?.has ?? [];
  const counts = has.map(({ resource, count }) => [resource.split('.').at(-1) ?? '', count] as const);
  return { ...NONE, ...Object.fromEntries(counts) };
}

async function isSubscribedWhileCalled(
  t: ExecutionContext,
  mesh: Mesh,
  call: () => Promise<string>,
): Promise<void> {
  const { address } = await late(t, mesh);
  mesh.serve('late', [address]);
  const has = (expected: Readonly<Record<string, number>>): boolean => {
    const now = held(mesh);
    return Object.entries(expected).every(([kind, count]) => now[kind] === count);
  };
  await until('its own resources', () => has(OWN));
  for (const _ of [1, 2]) {
    const answer = await until('what it calls', async () => {
      const text = await call();
      return has(WITH_LATE) && text;
    });
    t.is(answer, MUTUAL);
    await until('the end of what nobody calls', () => has(OWN));
  }
}

test('a service that is idle is dropped, and asked for again', async (t) => {
  const mesh = await Mesh.start(t);
  const web = await mesh.sidecar(t, 'web', { flags: { '--name-idle': '1s' } });
  await isSubscribedWhileCalled(t, mesh, async () => (await ask(web, '/', 'late')).text);
});

test('a plain listener asks for its service when it is called, and drops it when it is idle', async (t) => {
  const mesh = await Mesh.start(t);
  const { call } = await plainly(t, mesh);
  await isSubscribedWhileCalled(t, mesh, async () => (await call()).text);
});

test('names that are idle are dropped, and asked for again', async (t) => {
  const mesh = await Mesh.start(t);
  const web = await mesh.sidecar(t, 'web', { flags: { '--name-idle': '1s' } });
  const outside = await httpOrigin(t, tells);
  const call = () => ask(web, '/', outside.address);
  const tables = async () => {
    const { text } = await request(web.admin, { path: '/config' });
    return text.includes(outside.address);
  };
  await until('the name is there', async () => {
    t.is((await call()).text, 'called by nobody');
    // It may be idle by now, and gone.
    return tables();
  });
  await until('the end of the name', async () => !(await tables()));
  t.is((await call()).text, 'called by nobody');
});
