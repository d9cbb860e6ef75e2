/** Has a target had enough of what a client did over HTTP/2? */

import { TLSSocket } from 'node:tls';
import { type Deadline, ORDINARY_MS, VERDICT_MS } from './bounds.js';
import type { Connection } from './connection.js';
import {
  CODE,
  FLAG,
  type Fields,
  type Frame,
  TYPE,
  code,
  frame,
  framesIn,
  opening,
  request,
} from './frames.js';
import type { Demand } from './http2-attacks.js';
import type { Target } from './target.js';
import { type Answered, type Verdict, failed, held, isRefusal, taken } from './verdict.js';

/** The pseudo-fields of an ordinary request of a target's URL. */
export function siteOf({ url, isTls }: Target): Fields {
  return [
    [':method', 'GET'],
    [':scheme', isTls ? 'https' : 'http'],
    [':authority', url.host],
    [':path', `${url.pathname}${url.search}`],
  ];
}

/** Statuses that HPACK has an entry for, from 8 on (RFC 7541 appendix A). */
const INDEXED = [200, 204, 206, 304, 400, 404, 500];
/** The digits in HPACK's Huffman code (RFC 7541 appendix B). */
const DIGITS = [
  '00000',
  '00001',
  '00010',
  '011001',
  '011010',
  '011011',
  '011100',
  '011101',
  '011110',
  '011111',
];

/** The status of a connection's first response; 0 when it is written in a way that is not known here. */
function statusOf({ flags, payload }: Frame): number {
  let at = (flags & FLAG.padded ? 1 : 0) + (flags & FLAG.priority ? 5 : 0);
  // Changes of the table's size come first; they are small.
  while (((payload[at] ?? 0) & 0xe0) === 0x20) {
    const isLong = (payload[at] ?? 0) === 0x3f;
    at += 1;
    if (isLong) while ((payload[at++] ?? 0) & 0x80);
  }
  const first = payload[at] ?? 0;
  if (first & 0x80) return INDEXED[(first & 0x7f) - 8] ?? 0;
  // A literal, to be indexed or not, whose name is an entry of `:status`.
  const name = first & 0x40 ? first & 0x3f : first & 0x0f;
  if (name < 8 || name > 14) return 0;
  const length = payload[at + 1] ?? 0;
  const value = payload.subarray(at + 2, at + 2 + (length & 0x7f));
  return Number(length & 0x80 ? digitsOf(value) : value.toString('latin1')) || 0;
}

function digitsOf(value: Uint8Array): string {
  let bits = Array.from(value, (byte) => byte.toString(2).padStart(8, '0')).join('');
  let digits = '';
  for (;;) {
    const digit = DIGITS.findIndex((one) => bits.startsWith(one));
    if (digit < 0) return digits;
    digits += digit;
    bits = bits.slice(DIGITS[digit]?.length);
  }
}

const isH2 = ({ socket }: Connection): boolean =>
  !(socket instanceof TLSSocket) || socket.alpnProtocol === 'h2';

/** What comes of an ordinary request, on a connection of its own. */
export async function askHttp2(target: Target): Promise<Answered> {
  const connection = await target.dial('h2');
  try {
    if (!isH2(connection)) return 'foreign';
    connection.send(opening(), request(1, siteOf(target)));
    const seen = (): Answered | undefined => {
      const frames = framesIn(connection.bytes);
      const answer = frames[0]?.type === TYPE.settings && frames.find(({ type }) => type === TYPE.headers);
      if (answer) return statusOf(answer);
      const isHttp1 = connection.bytes.subarray(0, 5).toString('latin1') === 'HTTP/';
      return isHttp1 || connection.isOver ? 'foreign' : undefined;
    };
    return (await connection.until(seen, target.deadline.within(ORDINARY_MS))) ?? 'silent';
  } finally {
    connection.close();
  }
}

/** Two that no target sends by itself. */
const PINGS = ['attack-1', 'attack-2'];

/** Sends one attack and judges what comes of it. */
export async function attackHttp2(
  target: Target,
  pieces: readonly Buffer[],
  demand: Demand,
): Promise<Verdict> {
  const connection = await target.dial('h2');
  try {
    connection.send(opening(), ...pieces);
    const seen = (): Verdict | undefined => verdictOf(connection, demand);
    if (demand !== 'refuses') {
      const early = await untilPassed(connection, seen, target.deadline);
      if (early) return early;
      // It is behind all that was sent, and is either on its way out or was not moved.
      if (demand === 'survives') return held('goes on');
      if (goawayOf(connection) === undefined) return failed('takes it all, and goes on');
    }
    return (await connection.until(seen, target.deadline.within(VERDICT_MS))) ?? late(connection);
  } finally {
    connection.close();
  }
}

/**
 * Waits until the target is behind what was sent, which it shows by an answer to a PING: to the second, since the answer to
 * the first may overtake what else it says. Gives what is seen before.
 */
async function untilPassed(
  connection: Connection,
  seen: () => Verdict | undefined,
  deadline: Deadline,
): Promise<Verdict | undefined> {
  for (const ping of PINGS) {
    connection.send(frame(TYPE.ping, 0, 0, ping));
    const isAnswered = (): boolean =>
      framesIn(connection.bytes).some(
        ({ type, flags, payload }) =>
          type === TYPE.ping && (flags & FLAG.ack) !== 0 && payload.toString('latin1') === ping,
      );
    const verdict = await connection.until(
      () => seen() ?? (isAnswered() ? 'passed' : undefined),
      deadline.within(VERDICT_MS),
    );
    if (verdict === undefined) return late(connection);
    if (verdict !== 'passed') return verdict;
  }
  return undefined;
}

/** What is seen so far; undefined when more may come. */
function verdictOf(connection: Connection, demand: Demand): Verdict | undefined {
  const goaway = goawayOf(connection);
  if (connection.isOver) return held(goaway ? `${goaway} and close` : 'close');
  if (demand === 'ends' || demand === 'survives' || goaway) return undefined;
  const frames = framesIn(connection.bytes);
  // Who has answered before the request was whole may take the rest back without a reproach.
  const reset = frames.find((each) => each.type === TYPE.reset && code(each) !== CODE.none);
  if (reset) return held(`RST_STREAM ${nameOf(code(reset))}`);
  const answer = demand === 'refuses' && frames.find(({ type }) => type === TYPE.headers);
  if (!answer) return undefined;
  const status = statusOf(answer);
  return isRefusal(status) ? held(String(status)) : failed(taken(status));
}

/** The word of farewell that blames us, if there was one. */
function goawayOf(connection: Connection): string | undefined {
  const goaway = framesIn(connection.bytes).find(
    (each) => each.type === TYPE.goaway && code(each) !== CODE.none,
  );
  return goaway && `GOAWAY ${nameOf(code(goaway))}`;
}

function late(connection: Connection): Verdict {
  const goaway = goawayOf(connection);
  return failed(goaway ? `${goaway}, but the connection stays open` : 'nothing: it waits for more');
}

const NAMES: Readonly<Record<number, string>> = {
  [CODE.protocol]: 'PROTOCOL_ERROR',
  [CODE.internal]: 'INTERNAL_ERROR',
  [CODE.flowControl]: 'FLOW_CONTROL_ERROR',
  [CODE.settingsTimeout]: 'SETTINGS_TIMEOUT',
  [CODE.streamClosed]: 'STREAM_CLOSED',
  [CODE.frameSize]: 'FRAME_SIZE_ERROR',
  [CODE.refused]: 'REFUSED_STREAM',
  [CODE.cancel]: 'CANCEL',
  [CODE.compression]: 'COMPRESSION_ERROR',
  [CODE.calm]: 'ENHANCE_YOUR_CALM',
};

const nameOf = (value: number): string => NAMES[value] ?? String(value);
