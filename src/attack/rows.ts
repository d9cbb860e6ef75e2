/** Which rows has the conformance list, what must come of each, and can a client see it? */

/** By what a row is judged. */
type Check =
  /** Requests of `payloads.ts`. */
  | 'http1'
  /** Attacks of `http2-attacks.ts`. */
  | 'http2'
  /** Requests of `downgrades.ts`. */
  | 'downgrades'
  /** Clients of `slow.ts`, when they are asked for. */
  | 'slow'
  /** Nothing that a client sees: why. */
  | { readonly unseen: string };

/** A row of the list. */
export interface Row {
  readonly number: number;
  readonly attack: string;
  /** What a client must see; of rows that it can't see, what must be so. */
  readonly must: string;
  readonly check: Check;
}

const unseen = (why: string): Check => ({ unseen: why });

const BACKEND = 'needs the server behind it';
const CONFIGURATION = 'needs its configuration';

const ENDS = 'GOAWAY or close';
const REFUSES = '400 and close';

type Line = readonly [attack: string, must: string, check: Check];

const LINES: readonly Line[] = [
  ['rapid reset: HEADERS and RST_STREAM at once', ENDS, 'http2'],
  ['MadeYouReset: requests that it must reset', ENDS, 'http2'],
  ['CONTINUATION flood', `${ENDS}, or a refusal`, 'http2'],
  ['HTTP/2 bomb: a field by references of a byte', `${ENDS}, RST_STREAM or a refusal`, 'http2'],
  ['HPACK: entries that are not there, tables too large', ENDS, 'http2'],
  ['DATA without payload, or of padding alone', ENDS, 'http2'],
  ['floods of PING, SETTINGS, PRIORITY, WINDOW_UPDATE', ENDS, 'http2'],
  [
    'a client that sends and never reads',
    'bounded queue, then close',
    unseen(`${BACKEND}: its memory, and large responses`),
  ],
  ['slow reading, windows of a byte', 'the stream or connection ends', unseen(`${BACKEND}: large responses`)],
  ['slow heads, nothing at all, no TLS handshake', '408 or close', 'slow'],
  ['streams and frames that RFC 9113 forbids', `${ENDS}, or RST_STREAM`, 'http2'],
  ['Content-Length and Transfer-Encoding, obfuscated codings', REFUSES, 'http1'],
  ['Content-Length that is no number, or several', REFUSES, 'http1'],
  ['chunks: sizes, line ends, extensions, trailers', REFUSES, 'http1'],
  ['fields: names, colons, control bytes, folding', REFUSES, 'http1'],
  ['request lines and hosts', REFUSES, 'http1'],
  [
    'bytes behind an upgrade or CONNECT',
    'they wait for 101, or are dropped',
    unseen(`${BACKEND}: when it gets them`),
  ],
  ['a body that is left unread', 'read to its end, or close', unseen(`${BACKEND}: it must answer early`)],
  ['Expect: 100-continue, obfuscated', 'normalised', unseen(`${BACKEND}: what it is asked`)],
  ['HTTP/2 to HTTP/1: injection, lengths, hosts', 'RST_STREAM, GOAWAY or 400', 'downgrades'],
  [
    'responses that are split or ambiguous',
    '502, never reused',
    unseen(`${BACKEND}: it is the one that attacks`),
  ],
  [
    'paths: //, /./, %2e, %2f, ..;',
    'routed, allowed and sent on as one',
    unseen(`${BACKEND}: which path it is asked for`),
  ],
  [
    'policies on fields with several values',
    'all of them are matched',
    unseen(`${CONFIGURATION}: its policies`),
  ],
  [
    'certificates with NUL, wildcards, suffixes',
    'compared byte by byte',
    unseen('needs certificates of its authority'),
  ],
  [
    'forged x-forwarded-* and internal fields',
    'taken off or overwritten',
    unseen(`${BACKEND}: which fields come there`),
  ],
  [
    'Connection: x-forwarded-for',
    'hop-by-hop fields go first',
    unseen(`${BACKEND}: which fields come there`),
  ],
  ['requests without a path at filters', 'every filter takes them', unseen(`${CONFIGURATION}: its filters`)],
  ['frames behind the end of a stream', `${ENDS}, or RST_STREAM`, 'http2'],
  [
    'regular expressions, deep JSON, zip bombs',
    'linear time, bounded depth',
    unseen(`${CONFIGURATION}: its filters`),
  ],
  [
    'connections and descriptors until none is left',
    'a cap; administrators get in',
    unseen('would be load, not a check'),
  ],
  ['storms of retries', 'a budget', unseen(`${BACKEND}: it must fail`)],
  [
    'PROXY protocol: oversize, partial, untrusted',
    'bounded, trusted networks only',
    unseen(`${CONFIGURATION}: who may send it`),
  ],
  ['loops, and names that lead to itself', 'refused', unseen(`${CONFIGURATION}: its clusters`)],
  ['a hostile or broken control plane', 'the last good one stays', unseen('needs its control plane')],
];

/** All rows, by their numbers. */
export const ROWS: readonly Row[] = LINES.map(([attack, must, check], index) => ({
  number: index + 1,
  attack,
  must,
  check,
}));
