// Does an embedded proxy begin, change and end as a server of Node does?

import { once } from 'node:events';
import http from 'node:http';
import test from 'ava';
import {
  type Config,
  type ListenerConfig,
  type MeshProxy,
  StateError,
  createProxy,
} from '../../src/index.js';
import { httpOrigin, keepAliveAgent, request } from '../support/http.js';
import { closedPort, connect, tcpServer } from '../support/tcp.js';
import { until, within } from '../support/wait.js';
import { everythingTo, listening, makeProxy } from './support.js';

/** Answers one text. */
const says =
  (text: string): http.RequestListener =>
  (_, response) =>
    response.end(text);

test('nothing listens before listen(), which gives the addresses in the order of the configuration', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = makeProxy(t, {
    listeners: [
      { name: 'z', address: '127.0.0.1:0', to: origin.address },
      { name: 'six', address: '[::1]:0', to: origin.address },
      { address: '127.0.0.1:0', to: origin.address },
    ],
  });
  const heard: unknown[] = [];
  proxy.on('listening', (event) => heard.push(event));
  t.false(proxy.listening);
  const first = proxy.listen();
  const result = await first;
  t.true(proxy.listening);
  t.deepEqual(
    result.addresses.map(({ listener }) => listener),
    ['z', 'six', '127.0.0.1:0'],
  );
  const [z, six] = result.addresses;
  t.is(z?.host, '127.0.0.1');
  t.is(z?.address, `127.0.0.1:${z?.port}`);
  t.is(six?.host, '::1');
  t.is(six?.address, `[::1]:${six?.port}`);
  t.deepEqual(heard, [result]);
  t.is(await proxy.listen(), result, 'listening twice is listening once');
  t.is(heard.length, 1);
  for (const { host, port = 0 } of result.addresses) {
    const { status } = await request(port, host === undefined ? {} : { host });
    t.is(status, 200);
  }
});

test('apply replaces everything, and what stays keeps its sockets and connections', async (t) => {
  const [one, two] = await Promise.all([httpOrigin(t, says('one')), httpOrigin(t, says('two'))]);
  const { proxy, port } = await listening(t, everythingTo(one.address));
  const agent = keepAliveAgent(t, { maxSockets: 1 });
  t.is((await request(port, { agent })).text, 'one');

  const applied = once(proxy, 'applied');
  const { addresses } = await proxy.apply({
    listeners: [
      { name: 'more', address: '127.0.0.1:0', to: one.address },
      { name: 'web', address: '127.0.0.1:0', to: two.address },
    ],
  });
  t.deepEqual(await applied, [{ addresses }]);
  t.deepEqual(
    addresses.map(({ listener }) => listener),
    ['more', 'web'],
  );
  t.is(addresses[1]?.port, port);
  const response = await request(port, { agent });
  t.true(response.reused, "the client's connection is the same");
  t.is(response.text, 'two');
  t.is((await request(addresses[0]?.port ?? 0)).text, 'one');

  await proxy.apply({ listeners: [{ name: 'more', address: '127.0.0.1:0', to: one.address }] });
  await until('the socket of the listener that went is closed', () =>
    request(port).then(
      () => false,
      (error: NodeJS.ErrnoException) => error.code === 'ECONNREFUSED',
    ),
  );
  t.is((await request(addresses[0]?.port ?? 0)).text, 'one');
});

test('configurations take effect in the order they were given, also when nobody waits', async (t) => {
  const origin = await httpOrigin(t);
  const version = (body: string): Config => ({
    listeners: [{ name: 'web', address: '127.0.0.1:0', routes: [{ respond: { status: 200, body } }] }],
  });
  const proxy = makeProxy(t, everythingTo(origin.address));
  const all: Promise<unknown>[] = [proxy.listen()];
  for (let number = 0; number < 50; number += 1) all.push(proxy.apply(version(String(number))));
  await Promise.all(all);
  const { addresses } = await proxy.listen();
  t.is((await request(addresses[0]?.port ?? 0)).text, '49');
});

test('a drain lets what is under way end, and accepts nothing new', async (t) => {
  let answer = (): void => {};
  const origin = await httpOrigin(t, ({ url }, response) => {
    if (url === '/short') {
      response.end();
      return;
    }
    response.write('begun ');
    answer = () => response.end('and ended');
  });
  const { proxy, port } = await listening(t, everythingTo(origin.address));
  const events: string[] = [];
  proxy.on('draining', () => events.push('draining')).on('close', () => events.push('close'));
  const idle = await connect(t, port);
  await idle.send('GET /short HTTP/1.1\r\nhost: web.test\r\n\r\n');
  const underWay = request(port);
  await until('the request is under way', () => origin.requests === 2);

  const drained = proxy.drain();
  t.is(proxy.drain(), drained, 'a second one joins the first');
  await until('the port is closed', async () =>
    connect(t, port).then(
      ({ socket }) => {
        socket.destroy();
        return false;
      },
      () => true,
    ),
  );
  await until('the idle connection is ended', () => idle.ended);
  t.deepEqual(events, ['draining']);
  answer();
  t.is((await underWay).text, 'begun and ended');
  await within('the end of the drain', drained);
  t.deepEqual(events, ['draining', 'close']);
  t.false(proxy.listening);
});

test('during the lame duck time new connections are served and asked to leave', async (t) => {
  const origin = await httpOrigin(t);
  const { proxy, port } = await listening(t, everythingTo(origin.address));
  const drained = proxy.drain({ lameDuckMs: 60_000 });
  const response = await until('a response that asks to leave', async () => {
    const received = await request(port, { agent: keepAliveAgent(t) });
    return received.headers.connection === 'close' && received;
  });
  t.is(response.status, 200);
  await proxy.close();
  await within('the end of the drain', drained);
});

test('a drain ends at its deadline, whatever is still open', async (t) => {
  const origin = await httpOrigin(t, (_, response) => response.write('for ever'));
  const { proxy, port } = await listening(t, everythingTo(origin.address));
  const peer = await connect(t, port);
  await peer.send('GET / HTTP/1.1\r\nhost: web.test\r\n\r\n');
  await peer.readUntil('for ever\r\n');
  await within('the end of the drain', proxy.drain({ timeoutMs: 1 }));
  await peer.gone();
  t.is(peer.text(), '', 'cut, and not ended as if it were whole');
  t.false(proxy.listening);
});

test('a drain ends at its deadline also who came to a listener that is no more, or is never to be cut', async (t) => {
  const echo = await tcpServer(t, ({ socket }) => socket.pipe(socket));
  const stream = (name: string, address = '127.0.0.1:0'): ListenerConfig => ({
    name,
    address,
    protocol: 'tcp',
    to: echo.address,
    timeouts: { drain: '0s' },
  });
  const proxy = makeProxy(t, { listeners: [stream('leaves'), stream('moves'), stream('stays')] });
  const { addresses } = await proxy.listen();
  const peers = await Promise.all(addresses.map(({ port = 0 }) => connect(t, port)));
  for (const peer of peers) {
    await peer.send('here');
    await peer.readUntil('here');
  }
  await proxy.apply({ listeners: [stream('moves', '127.0.0.2:0'), stream('stays')] });
  for (const peer of peers) {
    await peer.send('still');
    await peer.readUntil('still');
  }
  await within('the end of the drain', proxy.drain({ timeoutMs: 1 }));
  for (const peer of peers) await peer.gone();
  t.false(proxy.listening);
});

test('close ends everything at once, also a drain; later calls say so', async (t) => {
  const origin = await httpOrigin(t, () => {});
  const { proxy, port } = await listening(t, everythingTo(origin.address));
  const cut = t.throwsAsync(request(port), { code: 'ECONNRESET' });
  await until('the request is under way', () => origin.requests === 1);
  let closed = 0;
  proxy.on('close', () => {
    closed += 1;
  });
  const drained = proxy.drain({ lameDuckMs: 60_000 });
  await within('the end', Promise.all([proxy.close(), proxy.close(), drained, cut]));
  t.is(closed, 1);
  await t.throwsAsync(connect(t, port), { code: 'ECONNREFUSED' });
  const calls: ((proxy: MeshProxy) => Promise<unknown>)[] = [
    (it) => it.listen(),
    (it) => it.apply(everythingTo(origin.address)),
    (it) => it.stats(),
    (it) => it.metrics(),
  ];
  for (const call of calls) await t.throwsAsync(call(proxy), { instanceOf: StateError, code: 'MESH_STATE' });
  await proxy.drain();
  await proxy.close();
});

test('a proxy that does not listen has nothing to tell, and can be drained and closed', async (t) => {
  const proxy = makeProxy(t, everythingTo('127.0.0.1:1'));
  await t.throwsAsync(proxy.stats(), { code: 'MESH_STATE', message: 'the proxy does not listen' });
  await t.throwsAsync(proxy.apply(everythingTo('127.0.0.1:2')), { code: 'MESH_STATE' });
  await proxy.drain();
  await t.throwsAsync(proxy.listen(), { code: 'MESH_STATE', message: 'the proxy was closed' });
});

test('what is closed while it starts does not start', async (t) => {
  for (let times = 0; times < 5; times += 1) {
    const proxy = makeProxy(t, everythingTo('127.0.0.1:1'), { threads: 2 });
    const started = t.throwsAsync(proxy.listen(), { code: 'MESH_STATE' });
    await Promise.all([proxy.close(), started]);
    t.false(proxy.listening);
  }
});

test('after a port in use, listen() can be called again', async (t) => {
  const port = await closedPort();
  const holder = http.createServer().listen(port, '127.0.0.1');
  await once(holder, 'listening');
  const origin = await httpOrigin(t);
  const proxy = makeProxy(t, {
    listeners: [
      { name: 'free', address: '127.0.0.1:0', to: origin.address },
      { name: 'web', address: `127.0.0.1:${port}`, to: origin.address },
    ],
  });
  await t.throwsAsync(proxy.listen(), { code: 'EADDRINUSE' });
  t.false(proxy.listening);
  holder.close();
  await once(holder, 'close');
  await proxy.listen();
  t.is((await request(port)).status, 200);
});

test('what is applied while a start fails is refused: nothing listens, and the next start takes what was there', async (t) => {
  const origin = await httpOrigin(t);
  const [port, free] = await Promise.all([closedPort(), closedPort()]);
  const holder = http.createServer().listen(port, '127.0.0.1');
  await once(holder, 'listening');
  const listener = (name: string, to: number): Config => ({
    listeners: [{ name, address: `127.0.0.1:${to}`, to: origin.address }],
  });
  const proxy = makeProxy(t, listener('taken', port));
  let applied = 0;
  proxy.on('applied', () => {
    applied += 1;
  });
  for (let times = 0; times < 20; times += 1) {
    const started = t.throwsAsync(proxy.listen(), { code: 'EADDRINUSE' });
    const change = t.throwsAsync(proxy.apply(listener('free', free)), {
      code: 'MESH_STATE',
      message: 'the proxy does not listen',
    });
    await within('both refusals', Promise.all([started, change]));
  }
  t.is(applied, 0);
  holder.close();
  await once(holder, 'close');
  t.deepEqual(
    (await proxy.listen()).addresses.map((bound) => bound.listener),
    ['taken'],
  );
});

test('what is applied during a drain is told so', async (t) => {
  const origin = await httpOrigin(t);
  const { proxy } = await listening(t, everythingTo(origin.address));
  const drained = proxy.drain({ lameDuckMs: 60_000 });
  const refused = { code: 'MESH_STATE', message: 'the proxy is draining' };
  await t.throwsAsync(proxy.apply(everythingTo(origin.address)), refused);
  await proxy.close();
  await within('the end of the drain', drained);
});

test('close is the last event, also where JavaScript was busy while a change went live', async (t) => {
  for (let times = 0; times < 30; times += 1) {
    const { proxy } = await listening(t, everythingTo('127.0.0.1:1'));
    const events: string[] = [];
    for (const event of ['applied', 'warning', 'close'] as const) proxy.on(event, () => events.push(event));
    const changed = proxy.apply(everythingTo('127.0.0.1:2')).then(
      () => 'applied',
      () => 'refused',
    );
    // It is the core's turn.
    await Promise.resolve();
    const closed = proxy.close();
    const busyUntil = performance.now() + 50;
    while (performance.now() < busyUntil);
    await within('the end', closed);
    const wanted = (await changed) === 'applied' ? ['applied', 'close'] : ['close'];
    t.deepEqual(events, wanted);
  }
});

test('await using closes it at the end of the block', async (t) => {
  const origin = await httpOrigin(t);
  let kept: MeshProxy;
  let port = 0;
  {
    await using proxy = createProxy(everythingTo(origin.address), { threads: 1 });
    const { addresses } = await proxy.listen();
    port = addresses[0]?.port ?? 0;
    t.is((await request(port)).status, 200);
    kept = proxy;
  }
  t.false(kept.listening);
  await t.throwsAsync(connect(t, port), { code: 'ECONNREFUSED' });
});

test('two proxies in one process know nothing of each other', async (t) => {
  const [one, two] = await Promise.all([httpOrigin(t, says('one')), httpOrigin(t, says('two'))]);
  const [a, b] = await Promise.all([
    listening(t, everythingTo(one.address)),
    listening(t, everythingTo(two.address)),
  ]);
  t.is((await request(a.port)).text, 'one');
  t.is((await request(b.port)).text, 'two');
  const requestsOf = async (proxy: MeshProxy): Promise<(number | string)[][]> =>
    (await proxy.stats()).routes.map(({ cluster, requests }) => [cluster, requests]);
  t.deepEqual(await requestsOf(a.proxy), [[one.address, 1]]);
  t.deepEqual(await requestsOf(b.proxy), [[two.address, 1]]);
  await a.proxy.close();
  t.is((await request(b.port)).text, 'two');
});
