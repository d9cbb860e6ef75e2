/** Does a target leave a client that takes its time? Row 10. */

import { DRIP_MS, SLOW_MS } from './bounds.js';
import { answersIn } from './http1.js';
import type { Spoken, Target } from './target.js';
import { type Verdict, failed, held } from './verdict.js';

/** A client that never comes to its end. */
interface SlowClient {
  readonly name: string;
  readonly spoken: Spoken;
  /** What it says first. */
  readonly first: string;
  /** What it says again and again. */
  readonly drip: string;
}

/** Those that can be seen at a target. */
export function slowClients({ url, isTls }: Target): SlowClient[] {
  const head = `GET ${url.pathname} HTTP/1.1\r\nHost: ${url.host}\r\n`;
  return [
    { name: 'a head that never ends', spoken: 'http/1.1', first: head, drip: 'X: y\r\n' },
    { name: 'a line that never ends', spoken: 'http/1.1', first: 'GET /', drip: 'a' },
    isTls
      ? { name: 'a TLS handshake that never starts', spoken: 'bytes', first: '', drip: '' }
      : { name: 'nothing at all', spoken: 'http/1.1', first: '', drip: '' },
  ];
}

/** Goes on until the target has had enough. */
export async function attackSlowly(target: Target, client: SlowClient): Promise<Verdict> {
  const connection = await target.dial(client.spoken);
  const dripping = setInterval(() => client.drip && connection.send(client.drip), DRIP_MS);
  try {
    if (client.first) connection.send(client.first);
    const isOver = await connection.until(
      () => connection.isOver || undefined,
      target.deadline.within(SLOW_MS),
    );
    const [status] = answersIn(connection.bytes).statuses;
    if (!isOver) return failed(`still there after ${SLOW_MS / 1000} s`);
    return held(status === undefined ? 'close' : `${status} and close`);
  } finally {
    clearInterval(dripping);
    connection.close();
  }
}
