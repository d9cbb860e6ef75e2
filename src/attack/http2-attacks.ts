/**
 * What do hostile clients send over HTTP/2? Rows 1 to 7, 11 and 28 of the conformance list, each with what must come of it.
 *
 * A flood is twice what a good proxy bears, and no more: who has a bound shows it, who has none is not brought down.
 */

import { CODE, FLAG, type Fields, TYPE, block, cancel, frame, request, u32 } from './frames.js';

/** What must come of an attack. */
export type Demand =
  /** The connection ends. */
  | 'ends'
  /** The connection ends, or the stream is reset. */
  | 'resets'
  /** The same, or the request is answered by a refusal. */
  | 'refuses'
  /** Whatever the target does, as long as it goes on to serve. */
  | 'survives';

/** One attack over HTTP/2. */
interface Http2Attack {
  readonly row: number;
  readonly name: string;
  readonly demand: Demand;
  /** What a client sends behind its opening; `site` are the pseudo-fields of an ordinary request. */
  readonly bytes: (site: Fields) => Buffer;
  /** By which codes our own proxies end it. */
  readonly codes: readonly number[];
  /** Which limit of theirs counts it, where it is a flood. */
  readonly limit?: string;
}

/** How many times as much as a good proxy bears a flood is. */
const TWICE = 2;

/**
 * What a good proxy bears: in a window of time, or on a connection. Sozu's and Envoy's defaults, which are ours.
 */
export const BEARS = {
  resets: 100,
  ownResets: 500,
  continuations: 20,
  /** Four times the largest head: whoever sends that is not mistaken. */
  headBytes: 256 * 1024,
  emptyData: 100,
  pings: 100,
  settings: 50,
  windowUpdates: 100,
  priorities: 100,
} as const;

/** Twice as many as are borne. */
const flood = (borne: number, make: (n: number) => Uint8Array): Buffer =>
  Buffer.concat(Array.from({ length: TWICE * borne }, (_, n) => make(n)));

/** A head's last piece: from here on another frame may come. */
const last = frame(TYPE.continuation, FLAG.endHeaders, 1);

/** A field of one byte as HPACK counts it: `cookie: a=b` and 32. */
const CRUMB_BYTES = 6 + 3 + 32;
/** As much of a head as a frame of CONTINUATION has. */
const PIECE_BYTES = 16_000;

/** A request whose body is to come. */
export function open(site: Fields): Buffer {
  return request(1, [[':method', 'POST'], ...site.slice(1)], FLAG.endHeaders);
}

const calm = [CODE.calm];
const protocol = [CODE.protocol];
const compression = [CODE.compression, CODE.protocol];
const closed = [CODE.streamClosed, CODE.protocol];

const row1: Http2Attack[] = [
  {
    row: 1,
    name: 'rapid reset',
    demand: 'ends',
    bytes: (site) => flood(BEARS.resets, (n) => Buffer.concat([request(2 * n + 1, site), cancel(2 * n + 1)])),
    codes: calm,
    limit: 'http2_resets',
  },
];

const row2: Http2Attack[] = [
  {
    row: 2,
    name: 'requests that depend on themselves make us reset them',
    demand: 'ends',
    bytes: (site) =>
      flood(BEARS.ownResets, (n) =>
        frame(
          TYPE.headers,
          FLAG.endStream | FLAG.endHeaders | FLAG.priority,
          2 * n + 1,
          Buffer.concat([u32(2 * n + 1), Buffer.of(0), block(site)]),
        ),
      ),
    codes: calm,
    limit: 'http2_local_resets',
  },
  {
    row: 2,
    name: 'malformed requests make us reset them',
    demand: 'ends',
    bytes: (site) => flood(BEARS.ownResets, (n) => request(2 * n + 1, [...site, ['host', 'b.test']])),
    codes: calm,
    limit: 'http2_local_resets',
  },
];

const row3: Http2Attack[] = [
  {
    row: 3,
    name: 'CONTINUATION on CONTINUATION',
    demand: 'refuses',
    bytes: (site) =>
      Buffer.concat([
        frame(TYPE.headers, FLAG.endStream, 1, block(site)),
        flood(BEARS.continuations, () => frame(TYPE.continuation, 0, 1)),
        last,
      ]),
    codes: calm,
    limit: 'http2_continuations',
  },
  {
    row: 3,
    name: 'a header block that grows and grows',
    demand: 'refuses',
    bytes: (site) =>
      Buffer.concat([
        frame(TYPE.headers, FLAG.endStream, 1, block(site)),
        flood(Math.ceil(BEARS.headBytes / PIECE_BYTES), () =>
          frame(TYPE.continuation, 0, 1, block([['x', 'y'.repeat(PIECE_BYTES)]])),
        ),
        last,
      ]),
    codes: calm,
  },
];

const row4: Http2Attack[] = [
  {
    row: 4,
    name: 'one indexed field, referred to by a byte, thousands of times',
    demand: 'refuses',
    bytes: (site) =>
      frame(
        TYPE.headers,
        FLAG.endStream | FLAG.endHeaders,
        1,
        Buffer.concat([
          block(site),
          Buffer.from('\x40\x06cookie\x03a=b', 'latin1'),
          Buffer.alloc(Math.ceil((TWICE * BEARS.headBytes) / CRUMB_BYTES), 0xbe),
        ]),
      ),
    codes: calm,
    limit: 'header_bytes',
  },
];

const row5: Http2Attack[] = [
  {
    row: 5,
    name: 'a reference to an entry of the table that is not there',
    demand: 'ends',
    bytes: () => frame(TYPE.headers, FLAG.endStream | FLAG.endHeaders, 1, Buffer.of(0x82, 0xff, 0xff, 0x7f)),
    codes: compression,
  },
  {
    row: 5,
    name: 'a table larger than was allowed',
    demand: 'ends',
    bytes: (site) =>
      frame(
        TYPE.headers,
        FLAG.endStream | FLAG.endHeaders,
        1,
        Buffer.concat([Buffer.of(0x3f, 0xff, 0xff, 0x7f), block(site)]),
      ),
    codes: compression,
  },
];

const row6: Http2Attack[] = [
  {
    row: 6,
    name: 'DATA without payload',
    demand: 'ends',
    bytes: (site) => Buffer.concat([open(site), flood(BEARS.emptyData, () => frame(TYPE.data, 0, 1))]),
    codes: calm,
    limit: 'http2_small_data',
  },
  {
    row: 6,
    name: 'DATA of padding alone',
    demand: 'ends',
    bytes: (site) =>
      Buffer.concat([open(site), flood(BEARS.emptyData, () => frame(TYPE.data, FLAG.padded, 1, '\x01\0'))]),
    codes: calm,
    limit: 'http2_small_data',
  },
];

/** A flood of frames that belong to no request. */
const row7 = (name: string, borne: number, limit: string, ...of: Parameters<typeof frame>): Http2Attack => ({
  row: 7,
  name,
  demand: 'ends',
  bytes: () => flood(borne, () => frame(...of)),
  codes: calm,
  limit,
});

const rows7: Http2Attack[] = [
  row7('PING', BEARS.pings, 'http2_pings', TYPE.ping, 0, 0, '12345678'),
  row7('SETTINGS', BEARS.settings, 'http2_settings', TYPE.settings, 0, 0),
  row7(
    'SETTINGS with six values each',
    BEARS.settings,
    'http2_settings',
    TYPE.settings,
    0,
    0,
    '\0\x04\0\0\xff\xff'.repeat(6),
  ),
  row7(
    'WINDOW_UPDATE of the connection',
    BEARS.windowUpdates,
    'http2_window_updates',
    TYPE.windowUpdate,
    0,
    0,
    u32(1),
  ),
  row7('PRIORITY', BEARS.priorities, 'http2_priorities', TYPE.priority, 0, 1, '\0\0\0\0\0'),
  row7('frames of an unknown type', BEARS.priorities, 'http2_priorities', 99, 0, 0),
  row7('answers to pings that nobody sent', BEARS.pings, 'http2_pings', TYPE.ping, FLAG.ack, 0, '12345678'),
];

/** What RFC 9113 forbids. */
const row11 = (name: string, codes: readonly number[], bytes: Http2Attack['bytes']): Http2Attack => ({
  row: 11,
  name,
  demand: 'resets',
  bytes,
  codes,
});

const rows11: Http2Attack[] = [
  row11('a stream of an even number', protocol, (site) => request(2, site)),
  row11('a stream below the last', closed, (site) => Buffer.concat([request(5, site), request(3, site)])),
  row11('DATA on a stream that was never opened', protocol, () => frame(TYPE.data, FLAG.endStream, 1, 'x')),
  row11('a stream of number 0', protocol, (site) => request(0, site)),
  row11('PUSH_PROMISE from a client', protocol, (site) =>
    frame(TYPE.push, FLAG.endHeaders, 1, Buffer.concat([u32(2), block(site)])),
  ),
  row11('HEADERS amid a header block', protocol, (site) =>
    Buffer.concat([frame(TYPE.headers, FLAG.endStream, 1, block(site)), request(3, site)]),
  ),
  row11('a frame above the size that we allow', [CODE.frameSize], (site) =>
    Buffer.concat([open(site), frame(TYPE.data, 0, 1, Buffer.alloc(20_000))]),
  ),
  row11('a window beyond its bound', [CODE.flowControl], () => {
    const most = frame(TYPE.windowUpdate, 0, 0, u32(0x7fff_ffff));
    return Buffer.concat([most, most]);
  }),
];

/** Frames behind the end of a stream. */
const row28: Http2Attack[] = [
  {
    row: 28,
    name: 'DATA behind END_STREAM',
    demand: 'resets',
    bytes: (site) => Buffer.concat([request(1, site), frame(TYPE.data, 0, 1, 'GET /hidden')]),
    codes: closed,
  },
  {
    row: 28,
    name: 'HEADERS behind END_STREAM',
    demand: 'resets',
    bytes: (site) => Buffer.concat([request(1, site), request(1, site)]),
    codes: closed,
  },
  {
    row: 28,
    name: 'trailers without END_STREAM',
    demand: 'resets',
    bytes: (site) =>
      Buffer.concat([open(site), frame(TYPE.headers, FLAG.endHeaders, 1, block([['x', 'y']]))]),
    codes: protocol,
  },
  {
    row: 28,
    name: 'DATA behind a reset',
    demand: 'survives',
    bytes: (site) =>
      Buffer.concat([open(site), cancel(1), frame(TYPE.data, FLAG.endStream, 1, 'GET /hidden')]),
    codes: [],
  },
];

/** Attacks over HTTP/2, but for those that a server behind, over HTTP/1, could read differently. */
export const HTTP2_ATTACKS: readonly Http2Attack[] = [
  ...row1,
  ...row2,
  ...row3,
  ...row4,
  ...row5,
  ...row6,
  ...rows7,
  ...rows11,
  ...row28,
];
