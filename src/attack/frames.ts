/**
 * How are HTTP/2 frames written by hand, and what came back?
 *
 * No library is between an attack and the bytes, since none would send what is forbidden.
 */

/** How a client's side begins (RFC 9113 section 3.4). */
export const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';

/** Types of frames (RFC 9113 section 6). */
export const TYPE = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  push: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

/** Flags of frames. */
export const FLAG = { endStream: 1, ack: 1, endHeaders: 4, padded: 8, priority: 0x20 } as const;

/** Error codes (RFC 9113 section 7). */
export const CODE = {
  none: 0,
  protocol: 1,
  internal: 2,
  flowControl: 3,
  settingsTimeout: 4,
  streamClosed: 5,
  frameSize: 6,
  refused: 7,
  cancel: 8,
  compression: 9,
  calm: 11,
} as const;

/** A frame: type, flags, stream, payload. */
export function frame(
  type: number,
  flags: number,
  stream: number,
  payload: Uint8Array | string = '',
): Buffer {
  const body = typeof payload === 'string' ? Buffer.from(payload, 'latin1') : payload;
  const head = Buffer.alloc(9);
  head.writeUIntBE(body.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, body]);
}

/** 32 bits, as RST_STREAM and WINDOW_UPDATE carry. */
export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** A string of HPACK, not Huffman coded (RFC 7541 section 5.2). */
function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'latin1');
  if (bytes.length < 127) return Buffer.concat([Buffer.of(bytes.length), bytes]);
  const length = [0x7f];
  let rest = bytes.length - 127;
  for (; rest >= 128; rest = Math.floor(rest / 128)) length.push((rest % 128) | 0x80);
  length.push(rest);
  return Buffer.concat([Buffer.from(length), bytes]);
}

/** Fields of a head, in their order. */
export type Fields = readonly (readonly [name: string, value: string])[];

/** Fields as HPACK literals without indexing (RFC 7541 section 6.2.2): any bytes, in this order. */
export function block(fields: Fields): Buffer {
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.of(0), text(name), text(value)]));
}

/** The pseudo-fields of an ordinary request. */
export const REQUEST = [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':authority', 'a.test'],
  [':path', '/'],
] as const;

/** A request's HEADERS on a stream. */
export function request(
  stream: number,
  fields: Fields = REQUEST,
  flags: number = FLAG.endStream | FLAG.endHeaders,
): Buffer {
  return frame(TYPE.headers, flags, stream, block(fields));
}

/** A stream is taken back. */
export function cancel(stream: number): Buffer {
  return frame(TYPE.reset, 0, stream, u32(CODE.cancel));
}

/** A client's start: the preface and its settings. */
export function opening(settings: Uint8Array | string = ''): Buffer {
  return Buffer.concat([Buffer.from(PREFACE), frame(TYPE.settings, 0, 0, settings)]);
}

/** A frame that came. */
export interface Frame {
  type: number;
  flags: number;
  stream: number;
  payload: Buffer;
}

/** The code of RST_STREAM or GOAWAY; one that is too short to have any blames nobody. */
export function code({ type, payload }: Frame): number {
  const at = type === TYPE.goaway ? 4 : 0;
  return payload.length < at + 4 ? CODE.none : payload.readUInt32BE(at);
}

/** Every whole frame of what has come so far. */
export function framesIn(bytes: Buffer): Frame[] {
  const frames: Frame[] = [];
  for (let at = 0; at + 9 <= bytes.length;) {
    const end = at + 9 + bytes.readUIntBE(at, 3);
    if (end > bytes.length) break;
    frames.push({
      type: bytes.readUInt8(at + 3),
      flags: bytes.readUInt8(at + 4),
      stream: bytes.readUInt32BE(at + 5),
      payload: bytes.subarray(at + 9, end),
    });
    at = end;
  }
  return frames;
}
