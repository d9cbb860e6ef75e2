// Rows 12 to 16 and 19: is what two parsers could read differently refused, and does nothing of it reach a server?

import test, { type ExecutionContext } from 'ava';
import { proxyStatus } from '../support/http.js';
import { printable } from '../support/tcp.js';
import { until } from '../support/wait.js';
import { HIDDEN, type Payload, REQUESTS } from '../../src/attack/payloads.js';
import { type Front, LISTENERS, type Listener, type Recorder, front, recorder } from './support.js';

const ORDINARY = 'GET /ordinary HTTP/1.1\r\nHost: a.test\r\n\r\n';

/** Runs a test's part for each row: its attacks against a plain listener, and against one behind TLS. */
for (const row of new Set(REQUESTS.map((payload) => payload.row))) {
  test(`row ${row}`, async (t) => {
    const server = await recorder(t);
    const proxy = await front(t, server.address);
    const refusals = new Map<string, number>();
    // Somebody else, who must notice nothing.
    const bystander = await proxy.connect(t, 'plain');
    for (const listener of LISTENERS) {
      for (const payload of REQUESTS.filter((each) => each.row === row)) {
        server.forget();
        await attack(t, proxy, server, listener, payload, refusals);
        await bystander.send(ORDINARY);
        t.is((await bystander.response()).status, 200);
      }
    }
  });
}

async function attack(
  t: ExecutionContext,
  proxy: Front,
  server: Recorder,
  listener: Listener,
  { row, name, bytes, outcome }: Payload,
  refusals: Map<string, number>,
): Promise<void> {
  const what = `row ${row}, ${listener}: ${name}`;
  const peer = await proxy.connect(t, listener);
  await peer.send(bytes).catch(() => {});
  if ('passes' in outcome) {
    t.is((await peer.response()).status, 200, what);
    for (const line of outcome.passes)
      t.true(
        server.bytes().includes(line),
        `${what}: ${printable(line)} is not in ${printable(server.bytes())}`,
      );
    for (const line of outcome.without ?? [])
      t.false(
        server.bytes().includes(line),
        `${what}: ${printable(line)} is in ${printable(server.bytes())}`,
      );
    t.is(server.requests.length, 1, what);
    t.false(server.bytes().includes(HIDDEN), what);
    peer.socket.destroy();
    return;
  }
  const response = await peer.response();
  t.is(response.status, outcome.refused, `${what}: ${response.statusLine}`);
  t.regex(proxyStatus(response.headers).details, new RegExp(`: ${outcome.detail}$`), what);
  t.is(response.headers.get('connection'), 'close', what);
  t.is(await peer.readToEnd(), '', `${what}: one response and no more`);
  t.is(server.bytes(), '', `${what}: nothing reaches a server`);
  const [reason = ''] = proxyStatus(response.headers).details.split(':');
  const key = `${listener} ${reason}`;
  refusals.set(key, (refusals.get(key) ?? 0) + 1);
  await proxy.counted(0, refusals.get(key) ?? 0, 'mesh_responses_total', { listener, reason });
  peer.socket.destroy();
  await until(`the connection of ${what} is gone`, () => peer.closed);
}
