// What becomes of connections that are open when their listener asks for more, or for something else, than before?
//
// They are drained as if the listener had been taken out: what is under way ends, nothing else begins. What only concerns
// what is shown to clients, or how long they may stay, reaches them where they are.

import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import type { ConnectionOptions } from 'node:tls';
import test, { type ExecutionContext } from 'ava';
import { Authority, type Certificate } from '../support/certificates.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin } from '../support/http.js';
import { ask, http2Connect, readAnswer } from '../support/http2.js';
import { type Sidecar, startSidecar, web } from '../support/sidecar.js';
import { Peer, connect } from '../support/tcp.js';
import { tlsConnect } from '../support/tls.js';
import { until, within } from '../support/wait.js';

type Listener = Parameters<typeof web>[0];

const REQUEST = 'GET /now HTTP/1.1\r\nHost: a.test\r\n\r\n';

/** A server that answers `/later` when it is told to, and all else at once. */
async function patient(t: ExecutionContext) {
  const waiting: ServerResponse[] = [];
  const { address } = await httpOrigin(t, ({ url }: IncomingMessage, outgoing) => {
    if (url === '/later') waiting.push(outgoing);
    else outgoing.end('now');
  });
  return {
    address,
    waits: async (n: number): Promise<void> => {
      await until(`${n} requests wait`, () => waiting.length === n);
    },
    answer: (): void => {
      for (const outgoing of waiting.splice(0)) outgoing.end('later');
    },
  };
}

/** How a client connects that believes an authority and presents a certificate. */
const presenting = (authority: Authority, { certificate, key }: Certificate) => ({
  ca: authority.root,
  servername: 'a.test',
  cert: readFileSync(certificate),
  key: readFileSync(key),
});

/** Who is there when the listener changes: two of HTTP/1, one with a request under way, and one of HTTP/2 with another. */
async function guests(t: ExecutionContext, proxy: Sidecar, tls?: ConnectionOptions) {
  const open = async (): Promise<Peer> =>
    tls === undefined
      ? connect(t, proxy.port())
      : new Peer((await tlsConnect(t, proxy.port(), { ...tls, ca: String(tls.ca) })).socket);
  const idle = await open();
  const busy = await open();
  const options = tls && { ...tls, ca: readFileSync(String(tls.ca)) };
  const session = await http2Connect(t, proxy.url('web', tls ? 'https' : 'http'), options);
  for (const peer of [idle, busy]) {
    await peer.send(REQUEST);
    const { status, headers } = await peer.response();
    t.deepEqual([status, headers.get('connection')], [200, undefined]);
  }
  t.is((await ask(session, { ':path': '/now' })).text, 'now');
  await busy.send(REQUEST.replace('/now', '/later'));
  const answer = readAnswer(session.request({ ':path': '/later' }));
  return { idle, busy, session, answer };
}

/** What was under way when the listener changed is answered, and then its connections end. */
async function finish(
  t: ExecutionContext,
  { busy, session, answer }: Awaited<ReturnType<typeof guests>>,
  origin: Awaited<ReturnType<typeof patient>>,
): Promise<void> {
  t.false(busy.ended);
  origin.answer();
  const { body, headers } = await busy.response();
  t.deepEqual([body, headers.get('connection')], ['later', 'close']);
  await busy.gone();
  t.is((await answer).text, 'later');
  await until('the session ends', () => session.destroyed);
}

const CHANGES: Record<
  string,
  (parts: {
    own: Authority;
    other: Authority;
    tls: { certificate: string; key: string };
  }) => [Listener, Listener]
> = {
  'TLS where there was none': ({ tls }) => [{}, { tls }],
  'no TLS where there was some': ({ tls }) => [{ tls }, {}],
  'certificates of clients': ({ own, tls }) => [
    { tls },
    { tls: { ...tls, clientCertificates: { roots: own.root } } },
  ],
  'certificates that were optional': ({ own, tls }) => [
    { tls: { ...tls, clientCertificates: { roots: own.root, optional: true } } },
    { tls: { ...tls, clientCertificates: { roots: own.root } } },
  ],
  'certificates of others': ({ own, other, tls }) => [
    { tls: { ...tls, clientCertificates: { roots: own.root } } },
    { tls: { ...tls, clientCertificates: { roots: other.root } } },
  ],
  'TLS 1.3': ({ tls }) => [{ tls }, { tls: { ...tls, minimumVersion: '1.3' } }],
  'HTTP/1 alone': () => [{}, { protocol: 'http1' }],
};

for (const [name, change] of Object.entries(CHANGES)) {
  test(`a listener asks for something else: ${name}`, async (t) => {
    const own = await Authority.create(t, 'own');
    const other = await Authority.create(t, 'other');
    const tls = await own.sign({ names: ['a.test'] });
    const client = await own.sign({ names: ['me'], client: true });
    const [before, after] = change({ own, other, tls });
    const origin = await patient(t);
    const clusters = { site: { endpoints: [origin.address] } };
    const proxy = await startSidecar(t, web({ ...before, to: 'site' }, { clusters }));
    const guest = await guests(t, proxy, before.tls && presenting(own, client));
    await origin.waits(2);
    const { idle, session } = guest;
    const leave = once(session, 'goaway');
    const routes: Listener['routes'] = [
      { match: { path: '/now' }, respond: { status: 200, body: 'new' } },
      { to: 'site' },
    ];
    await proxy.reload(web({ ...after, routes }, { clusters }));
    await within('a GOAWAY', leave);
    // One that is idle may be used while its client does not know yet: by the routes of before, and once.
    await idle.send(REQUEST).catch(() => {});
    const said = await idle.readToEnd();
    t.regex(said, /^(HTTP\/1\.1 200 OK\r\n[^]*connection: close[^]*now$|$)/i);
    await finish(t, guest, origin);
  });
}

test('a file of clients’ roots that loses one drains, and one that gains another does not', async (t) => {
  const [own, other] = [await Authority.create(t, 'own'), await Authority.create(t, 'other')];
  const tls = await own.sign({ names: ['a.test'] });
  const client = await own.sign({ names: ['me'], client: true });
  const roots = join(temporaryFolder(t), 'roots.pem');
  const put = (...authorities: Authority[]): void =>
    writeFileSync(roots, authorities.map(({ root }) => readFileSync(root, 'utf8')).join(''));
  put(own);
  const origin = await patient(t);
  const proxy = await startSidecar(
    t,
    web({ tls: { ...tls, clientCertificates: { roots } }, to: origin.address }),
  );
  const earlier = await guests(t, proxy, presenting(own, client));
  await origin.waits(2);
  const { idle, session } = earlier;
  put(own, other);
  await proxy.said(/listener web: its new certificates are in use/);
  await idle.send(REQUEST);
  t.is((await idle.response()).headers.get('connection'), undefined);
  t.is((await ask(session, { ':path': '/now' })).text, 'now');

  const leave = once(session, 'goaway');
  put(other);
  await within('a GOAWAY', leave);
  t.regex(await idle.readToEnd(), /^$/);
  await finish(t, earlier, origin);
  await proxy.said(/listener web: a root of clients is gone; who came before is drained/);
  // Who comes by a root that is still there is let in.
  const guest = await other.sign({ names: ['you'], client: true });
  const { socket } = await tlsConnect(t, proxy.port(), presenting(own, guest));
  const peer = new Peer(socket);
  await peer.send(REQUEST);
  t.is((await peer.response()).body, 'now');
});

test('what does not end by itself ends by `timeouts.drain`', async (t) => {
  const origin = await patient(t);
  const tls = await (await Authority.create(t)).sign({ names: ['a.test'] });
  const proxy = await startSidecar(t, web({ to: origin.address }));
  const { busy, answer } = await guests(t, proxy);
  await origin.waits(2);
  await proxy.reload(web({ tls, timeouts: { drain: '300ms' }, to: origin.address }));
  t.is((await busy.response()).status, 503);
  t.is((await answer).status, 503);
  await busy.gone();
});

test('a listener that shows another certificate, or has other routes, leaves connections where they are', async (t) => {
  const authority = await Authority.create(t);
  const origin = await patient(t);
  const listener = async (): Promise<Listener> => ({
    tls: await authority.sign({ names: ['a.test'] }),
    to: origin.address,
  });
  const proxy = await startSidecar(t, web(await listener()));
  const { idle, busy, session, answer } = await guests(t, proxy, {
    ca: authority.root,
    servername: 'a.test',
  });
  let left = false;
  session.on('goaway', () => {
    left = true;
  });
  await origin.waits(2);
  const { to: _, ...shown } = await listener();
  await proxy.reload(
    web({ ...shown, routes: [{ match: { path: '/new' }, respond: 200 }, { to: origin.address }] }),
  );
  origin.answer();
  t.is((await busy.response()).headers.get('connection'), undefined);
  t.is((await answer).text, 'later');
  for (const peer of [idle, busy]) {
    await peer.send(REQUEST.replace('/now', '/new'));
    const { status, headers } = await peer.response();
    t.deepEqual([status, headers.get('connection')], [200, undefined]);
  }
  t.is((await ask(session, { ':path': '/new' })).status, 200);
  t.false(left);
});

test('open HTTP/2 connections go by the newest deadlines and limits', async (t) => {
  const changes: Listener[] = [
    { timeouts: { idle: '100ms' } },
    { timeouts: { maxConnectionAge: '100ms' } },
    { limits: { requestsPerConnection: 2 } },
  ];
  for (const change of changes) {
    const routes: Listener['routes'] = [{ respond: { status: 200, body: 'here' } }];
    const proxy = await startSidecar(t, web({ routes }));
    const session = await http2Connect(t, proxy.url());
    for (let n = 0; n < 3; n += 1) t.is((await ask(session, { ':path': '/' })).text, 'here');
    const leave = once(session, 'goaway');
    await proxy.reload(web({ ...change, routes }));
    if (change.limits) t.is((await ask(session, { ':path': '/' })).text, 'here');
    await within(`a GOAWAY for ${JSON.stringify(change)}`, leave);
    await proxy.kill();
  }
});
