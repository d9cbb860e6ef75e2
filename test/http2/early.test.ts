// When an answer is complete before its request is: what becomes of the rest?

import test from 'ava';
import { CODE, FLAG, REQUEST, TYPE, code, frame, opening, request } from '../../src/attack/frames.js';
import { arrives, framesOf } from '../attacks/arrives.js';
import { startSidecar, web } from '../support/sidecar.js';
import { connect } from '../support/tcp.js';

/** The head of a request whose body is to come. */
const post = (stream: number) => request(stream, [[':method', 'POST'], ...REQUEST.slice(1)], FLAG.endHeaders);

test('a rest that is on its way is awaited, so that no client sees a reset', async (t) => {
  const proxy = await startSidecar(t, web({ routes: [{ respond: { status: 403, body: 'no' } }] }));
  const peer = await connect(t, proxy.port());
  await peer.send(opening());
  const resets = () => framesOf(peer).filter(({ type }) => type === TYPE.reset).length;
  let whole = 0;
  // A machine that stops for long enough costs some, and never all.
  for (let stream = 1; stream < 41; stream += 2) {
    const before = resets();
    await peer.send(post(stream));
    await arrives('the end of the answer', peer, (seen) => {
      return seen.type === TYPE.data && seen.stream === stream && (seen.flags & FLAG.endStream) !== 0;
    });
    const payload = Buffer.alloc(8, stream);
    await peer.send(
      Buffer.concat([frame(TYPE.data, FLAG.endStream, stream, 'hello'), frame(TYPE.ping, 0, 0, payload)]),
    );
    await arrives(
      'the answer to a ping',
      peer,
      (seen) => seen.type === TYPE.ping && seen.payload.equals(payload),
    );
    if (resets() === before) whole += 1;
  }
  t.true(whole > 0);
});

test('a rest that does not come, or not to an end, is given up: the stream is reset without a fault', async (t) => {
  const proxy = await startSidecar(t, web({ routes: [{ respond: { status: 403, body: 'no' } }] }));
  const peer = await connect(t, proxy.port());
  await peer.send(opening());
  for (const [stream, rest] of [
    [1, 0],
    [3, 8],
  ] as const) {
    await peer.send(post(stream));
    for (let n = 0; n < rest; n += 1) await peer.send(frame(TYPE.data, 0, stream, Buffer.alloc(8192)));
    const reset = await arrives(
      'a reset',
      peer,
      (seen) => seen.type === TYPE.reset && seen.stream === stream,
    );
    t.is(code(reset), CODE.none);
  }
});
