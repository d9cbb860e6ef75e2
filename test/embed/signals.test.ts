// Does an AbortSignal end what it was given to, before, while and after that happens?

import { getEventListeners, once } from 'node:events';
import test from 'ava';
import { httpOrigin, request } from '../support/http.js';
import { connect } from '../support/tcp.js';
import { within } from '../support/wait.js';
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
