// Does an AbortSignal end what it was given to, before, while and after that happens?

import { getEventListeners, once } from 'node:events';
import { setImmediate as othersTurn } from 'node:timers/promises';
import test from 'ava';
import type { Config } from '../../src/index.js';
import { NameServer } from '../support/name-server.js';
import { httpOrigin, request } from '../support/http.js';
import { closedPort, connect } from '../support/tcp.js';
import { until, within } from '../support/wait.js';
import { everythingTo, listening, makeProxy } from './support.js';

const REASON = new Error('the application says so');

test('of the proxy, before: it never listens', async (t) => {
  const proxy = makeProxy(t, everythingTo('127.0.0.1:1'), { signal: AbortSignal.abort(REASON) });
  t.is(await t.throwsAsync(proxy.listen()), REASON);
  t.is(await t.throwsAsync(proxy.stats()), REASON);
});

test('of the proxy, while it starts or changes: the call rejects with the reason', async (t) => {
  const first = new AbortController();
  const starting = makeProxy(t, everythingTo('127.0.0.1:1'), { signal: first.signal });
  const started = starting.listen();
  first.abort(REASON);
  t.is(await t.throwsAsync(started), REASON);
  t.false(starting.listening);

  const second = new AbortController();
  const { proxy } = await listening(t, everythingTo('127.0.0.1:1'), { signal: second.signal });
  const applied = proxy.apply(everythingTo('127.0.0.1:2'));
  const closed = once(proxy, 'close');
  second.abort(REASON);
  // The change may have been made before the proxy was closed.
  await applied.catch((error: unknown) => t.is(error, REASON));
  await within('the end', closed);
  t.is(await t.throwsAsync(proxy.apply(everythingTo('127.0.0.1:3'))), REASON);
});

test('of the proxy, later: it closes', async (t) => {
  const origin = await httpOrigin(t);
  const controller = new AbortController();
  const { proxy, port } = await listening(t, everythingTo(origin.address), { signal: controller.signal });
  t.is((await request(port)).status, 200);
  const closed = once(proxy, 'close');
  controller.abort();
  await within('the end', closed);
  await t.throwsAsync(connect(t, port), { code: 'ECONNREFUSED' });
  t.is(await proxy.listen().catch(({ name }: Error) => name), 'AbortError');
});

test('a proxy that is closed leaves nothing behind at a signal that lives on', async (t) => {
  const { signal } = new AbortController();
  const { proxy } = await listening(t, everythingTo('127.0.0.1:1'), { signal });
  t.is(getEventListeners(signal, 'abort').length, 1);
  await proxy.close();
  t.is(getEventListeners(signal, 'abort').length, 0);
});

test('of listen(): it gives up on listening, and the proxy may try again', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = makeProxy(t, everythingTo(origin.address));
  t.is(await t.throwsAsync(proxy.listen({ signal: AbortSignal.abort(REASON) })), REASON);
  const controller = new AbortController();
  const started = proxy.listen({ signal: controller.signal });
  controller.abort(REASON);
  t.is(await t.throwsAsync(started), REASON);
  t.false(proxy.listening);

  const later = new AbortController();
  const { addresses } = await proxy.listen({ signal: later.signal });
  later.abort();
  t.is((await request(addresses[0]?.port ?? 0)).status, 200, 'once it listens the signal means nothing');
});

test('of listen(): it gives up although a name server is silent, and the admin port is free for the next try', async (t) => {
  const names = await NameServer.start(t);
  names.trouble('site.test', 'nothing');
  const admin = `127.0.0.1:${await closedPort()}`;
  const proxy = makeProxy(t, everythingTo('site.test:80'), { dnsServers: [names.address], admin });
  const controller = new AbortController();
  let waits = true;
  const other = makeProxy(t, everythingTo('site.test:80'), { dnsServers: [names.address] });
  void other.listen().then(
    () => (waits = false),
    () => (waits = false),
  );
  const started = proxy.listen({ signal: controller.signal });
  await until('both ask for the name', () => names.asked('site.test') > 1);
  controller.abort(REASON);
  t.is(await within('the refusal', t.throwsAsync(started)), REASON);
  t.false(proxy.listening);
  t.is(getEventListeners(controller.signal, 'abort').length, 0);
  t.true(waits, 'the first try did not wait for its name');

  names.host('site.test', ['127.0.0.1']);
  await within('the next try', proxy.listen());
  t.is((await request(Number(admin.split(':')[1]), { path: '/ready' })).status, 200);
});

test('of listen(): the next try finds the ports free, also of a start that was over when it was given up', async (t) => {
  t.timeout(120_000);
  const config: Config = {
    listeners: [{ name: 'web', address: `127.0.0.1:${await closedPort()}`, to: '127.0.0.1:1' }],
  };
  let givenUp = 0;
  while (givenUp < 100) {
    const proxy = makeProxy(t, config, { threads: 64 });
    const controller = new AbortController();
    const started = proxy.listen({ signal: controller.signal }).then(
      () => 'it listens',
      (error: unknown) => error,
    );
    await othersTurn();
    // Nobody hears that it listens.
    const busyUntil = performance.now() + 15;
    while (performance.now() < busyUntil);
    controller.abort(REASON);
    const end = await started;
    // Else this process was held up, and had heard of it.
    if (end !== 'it listens') {
      t.is(end, REASON);
      givenUp += 1;
      // The threads of the first start are on their way out.
      for (let turn = 0; turn < 3 + (givenUp % 6); turn += 1) await othersTurn();
      await within('the next try', proxy.listen());
    }
    await proxy.close();
  }
});

test('of listen(): who gives up does not take the others with it', async (t) => {
  const proxy = makeProxy(t, everythingTo('127.0.0.1:1'));
  const [first, second] = [new AbortController(), new AbortController()];
  const starts = [
    proxy.listen({ signal: first.signal }),
    proxy.listen({ signal: second.signal }),
    proxy.listen(),
  ] as const;
  first.abort(REASON);
  second.abort(REASON);
  t.is(await t.throwsAsync(starts[0]), REASON);
  t.is(await t.throwsAsync(starts[1]), REASON);
  t.is((await starts[2]).addresses.length, 1);
  t.true(proxy.listening);
});
