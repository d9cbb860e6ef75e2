/** Has a target taken an ambiguous request over HTTP/1 for a good one? */

import { BEHIND_MS, ORDINARY_MS, VERDICT_MS } from './bounds.js';
import type { Connection } from './connection.js';
import type { Payload } from './payloads.js';
import type { Target } from './target.js';
import { type Answered, type Verdict, failed, held, isRefusal, taken } from './verdict.js';

/** The answers in what came. */
interface Answers {
  /** Final ones, in their order. */
  readonly statuses: readonly number[];
  /** What came begins as no response does. */
  readonly isForeign: boolean;
}

const BEGINS = 'HTTP/1.';

/** Reads responses as a client does; the last may be there in part. */
export function answersIn(bytes: Buffer): Answers {
  const statuses: number[] = [];
  let rest = bytes.toString('latin1');
  while (rest !== '') {
    if (rest.slice(0, BEGINS.length) !== BEGINS.slice(0, rest.length)) return { statuses, isForeign: true };
    const end = rest.indexOf('\r\n\r\n');
    if (end < 0) break;
    const head = rest.slice(0, end + 2);
    const status = Number(/^HTTP\/1\.\d (\d{3})\b/.exec(head)?.[1] ?? 0);
    rest = rest.slice(end + 4);
    if (status === 0) return { statuses, isForeign: true };
    if (status < 200 && status !== 101) continue;
    statuses.push(status);
    const after = status === 204 || status === 304 ? rest : behindBody(head, rest);
    if (after === undefined) break;
    rest = after;
  }
  return { statuses, isForeign: false };
}

/** What follows a body; undefined when it is not whole, or ends with the connection. */
function behindBody(head: string, rest: string): string | undefined {
  if (/^transfer-encoding:.*chunked/im.test(head)) {
    let at = 0;
    for (;;) {
      const end = rest.indexOf('\r\n', at);
      if (end < 0) return undefined;
      const size = Number.parseInt(rest.slice(at, end), 16);
      if (!(size >= 0)) return undefined;
      if (size === 0) {
        const last = rest.indexOf('\r\n\r\n', end - 2);
        return last < 0 ? undefined : rest.slice(last + 4);
      }
      at = end + 2 + size + 2;
    }
  }
  const length = /^content-length: *(\d+)\r$/im.exec(head)?.[1];
  return length === undefined || rest.length < Number(length) ? undefined : rest.slice(Number(length));
}

/** An ordinary request of a target's URL. */
function ordinary({ url }: Target): string {
  return `GET ${url.pathname}${url.search} HTTP/1.1\r\nHost: ${url.host}\r\nConnection: close\r\n\r\n`;
}

/** What comes of an ordinary request, on a connection of its own. */
export async function askHttp1(target: Target): Promise<Answered> {
  const connection = await target.dial('http/1.1');
  try {
    connection.send(ordinary(target));
    const seen = (): Answered | undefined => {
      const { statuses, isForeign } = answersIn(connection.bytes);
      return statuses[0] ?? (isForeign || connection.isOver ? 'foreign' : undefined);
    };
    return (await connection.until(seen, target.deadline.within(ORDINARY_MS))) ?? 'silent';
  } finally {
    connection.close();
  }
}

/** A payload for a target: its name, and its path. */
function addressed(payload: Payload, { url }: Target): string {
  return payload.bytes
    .replaceAll('a.test', () => url.hostname)
    .replaceAll('A.test', () => url.hostname.toUpperCase())
    .replaceAll('/attack', () => `${url.pathname}${url.search}`);
}

/** Sends one payload and judges what comes of it. */
export async function attackHttp1(target: Target, payload: Payload): Promise<Verdict> {
  const connection = await target.dial('http/1.1');
  try {
    connection.send(addressed(payload, target));
    return 'refused' in payload.outcome
      ? await judgeRefused(target, connection)
      : await judgePassed(target, connection);
  } finally {
    connection.close();
  }
}

/** It must be refused, once, and the connection must close. */
async function judgeRefused({ deadline }: Target, connection: Connection): Promise<Verdict> {
  const seen = (): Verdict | undefined => {
    const { statuses, isForeign } = answersIn(connection.bytes);
    const [first, second] = statuses;
    if (first === undefined) {
      if (isForeign) return failed('answered by what is no response');
      return connection.isOver ? held('close') : undefined;
    }
    if (second !== undefined) return failed(`${first}, and ${second} to what was hidden behind it`);
    if (!connection.isOver) return undefined;
    return isRefusal(first) ? held(`${first} and close`) : failed(taken(first));
  };
  const answered = (): true | undefined => {
    const [first] = answersIn(connection.bytes).statuses;
    return first !== undefined && !isRefusal(first) ? true : undefined;
  };
  const verdict = await connection.until(() => seen() ?? answered(), deadline.within(VERDICT_MS));
  // What is failed already is waited for no longer than to tell how much.
  const late = verdict === true ? await connection.until(seen, deadline.within(BEHIND_MS)) : verdict;
  if (late) return late;
  const [first] = answersIn(connection.bytes).statuses;
  if (first === undefined) return failed('no answer: it waits for more');
  return failed(isRefusal(first) ? `${first}, but the connection stays open` : taken(first));
}

/** It is legal. It must be one request and no more: the next on the connection is answered as ever. */
async function judgePassed(target: Target, connection: Connection): Promise<Verdict> {
  const answer = (number: number): Promise<number | 'close' | undefined> =>
    connection.until<number | 'close'>(
      () => answersIn(connection.bytes).statuses[number] ?? (connection.isOver ? 'close' : undefined),
      target.deadline.within(VERDICT_MS),
    );
  const first = await answer(0);
  if (first === undefined) return failed('no answer to what is legal');
  connection.send(ordinary(target));
  const second = await answer(1);
  if (second === undefined) return failed(`${first}, and no answer to the next request`);
  if (second !== 'close' && isRefusal(second))
    return failed(`${first}, and ${second} to the next request: it was read otherwise than it was sent`);
  return held(String(first));
}
