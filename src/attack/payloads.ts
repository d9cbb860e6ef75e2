/**
 * What do hostile peers send over HTTP/1? The rows are those of the conformance list: 12 to 16 and 19 are requests that two
 * parsers could read differently, each with what must come of it. One line is one attack.
 */

/** What must come of a request. */
export type Outcome =
  /** Answered with this status, by our own proxies with this detail, then closed; nothing of it reaches a server. */
  | { refused: number; detail: string }
  /** Sent on, with these lines and without those. Text of the request as a server reads it. */
  | { passes: string[]; without?: string[] };

/** One attack: what a client sends, in latin1. */
export interface Payload {
  row: number;
  name: string;
  bytes: string;
  outcome: Outcome;
  /** Standards, and the list, leave it open; our own proxies refuse it all the same. */
  strict: boolean;
}

/** The request that is hidden in another. No server may ever see it. */
export const HIDDEN = 'GET /hidden HTTP/1.1\r\nHost: a.test\r\n\r\n';

const HOST = 'Host: a.test\r\n';
const refused = (detail: string, status = 400): Outcome => ({ refused: status, detail });
const passes = (...lines: string[]): Outcome => ({ passes: lines });

/** A POST with these field lines, and what follows its head. */
const post = (fields: string, rest = HIDDEN): string =>
  `POST /attack HTTP/1.1\r\n${HOST}${fields}\r\n\r\n${rest}`;
/** A GET with these field lines. */
const get = (fields: string): string => `GET /attack HTTP/1.1\r\n${HOST}${fields}\r\n\r\n${HIDDEN}`;
/** A chunked POST with this body. */
const chunked = (body: string): string => post('Transfer-Encoding: chunked', body);
/** A request that begins with this line. */
const line = (text: string): string => `${text}\r\n${HOST}\r\n${HIDDEN}`;

type Row = [name: string, bytes: string, outcome: Outcome, strict?: 'strict'];
const row = (number: number, rows: Row[]): Payload[] =>
  rows.map(([name, bytes, outcome, strict]) => ({
    row: number,
    name,
    bytes,
    outcome,
    strict: strict !== undefined,
  }));

const BOTH = refused('content_length_and_transfer_encoding');
const CODING = refused('invalid_transfer_encoding');
const CODINGS = refused('duplicate_transfer_encoding');
const LENGTH = refused('invalid_content_length');
const LENGTHS = refused('duplicate_content_length');
const SIZE = refused('invalid_chunk_size');
const LINE_END = refused('invalid_chunk_line_end');
const TRAILER = refused('invalid_trailer');
const VALUE = refused('invalid_field_value');
const NAME = refused('invalid_field_name');
const TARGET = refused('invalid_target');
const VERSION = refused('unsupported_version');
const INVALID_HOST = refused('invalid_host');
const EXPECT = refused('invalid_expect');

const row12 = row(12, [
  ['CL.TE', post('Content-Length: 4\r\nTransfer-Encoding: chunked', `0\r\n\r\n${HIDDEN}`), BOTH],
  ['TE.CL', post('Transfer-Encoding: chunked\r\nContent-Length: 4', `0\r\n\r\n${HIDDEN}`), BOTH],
  ['CL.TE with a length of none', post('Content-Length: 0\r\nTransfer-Encoding: chunked'), BOTH],
  ['a length and an unknown coding', post('Content-Length: 4\r\nTransfer-Encoding: cow'), BOTH],
  ['vertical tab before chunked', post('Transfer-Encoding: \x0bchunked'), VALUE],
  ['vertical tab behind chunked', post('Transfer-Encoding: chunked\x0b'), VALUE],
  ['form feed before chunked', post('Transfer-Encoding: \x0cchunked'), VALUE],
  ['NUL behind chunked', post('Transfer-Encoding: chunked\0'), VALUE],
  ['no-break space before chunked', post('Transfer-Encoding: \xa0chunked'), CODING],
  ['empty element before chunked', post('Transfer-Encoding: ,chunked'), CODING],
  ['empty element behind chunked', post('Transfer-Encoding: chunked,'), CODING],
  ['chunked is not last', post('Transfer-Encoding: chunked, gzip'), CODING],
  ['chunked behind another coding', post('Transfer-Encoding: gzip, chunked'), CODING, 'strict'],
  ['chunked behind identity', post('Transfer-Encoding: identity, chunked'), CODING],
  ['identity', post('Transfer-Encoding: identity'), CODING],
  ['chunked twice in one field', post('Transfer-Encoding: chunked, chunked'), CODING],
  ['chunked twice in two fields', post('Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked'), CODINGS],
  ['another coding behind', post('Transfer-Encoding: chunked\r\nTransfer-Encoding: cow'), CODINGS],
  ['another coding before', post('Transfer-Encoding: cow\r\nTransfer-Encoding: chunked'), CODING],
  ['with a parameter', post('Transfer-Encoding: chunked;q=1'), CODING],
  ['in quotes', post('Transfer-Encoding: "chunked"'), CODING],
  ['in single quotes', post("Transfer-Encoding: 'chunked'"), CODING],
  ['misspelt', post('Transfer-Encoding: xchunked'), CODING],
  ['empty', post('Transfer-Encoding:'), CODING],
  ['space before the colon', post('Transfer-Encoding : chunked'), refused('space_before_colon')],
  ['folded', post('Transfer-Encoding:\r\n chunked'), CODING],
  ['behind a bare LF', post('X: y\nTransfer-Encoding: chunked'), refused('bare_lf')],
  ['behind a bare CR', post('X: y\rTransfer-Encoding: chunked'), refused('bare_cr')],
  ['a name cut by CRLF', post('Transfer-\r\nEncoding: chunked'), refused('missing_colon')],
  ['a name that ends in NUL', post('Transfer-Encoding\0: chunked'), NAME],
  [
    'HTTP/1.0',
    `POST /attack HTTP/1.0\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n${HIDDEN}`,
    refused('unexpected_transfer_encoding'),
  ],
  [
    'on CONNECT',
    `CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${HIDDEN}`,
    refused('unexpected_body'),
  ],
  [
    'in any case, behind a tab',
    chunked('0\r\n\r\n').replace('Encoding: chunked', 'ENCODING:\tChunked'),
    passes('Transfer-Encoding: chunked'),
  ],
]);

const row13 = row(13, [
  ['twice, the same', post('Content-Length: 5\r\nContent-Length: 5', `hello${HIDDEN}`), LENGTHS],
  ['twice, not the same', post('Content-Length: 5\r\nContent-Length: 6', `hello${HIDDEN}`), LENGTHS],
  ['a list of the same', post('Content-Length: 5, 5', `hello${HIDDEN}`), LENGTH],
  ['a list', post('Content-Length: 5,6', `hello${HIDDEN}`), LENGTH],
  ['plus', post('Content-Length: +5', `hello${HIDDEN}`), LENGTH],
  ['minus', post('Content-Length: -1'), LENGTH],
  ['minus nothing', post('Content-Length: -0'), LENGTH],
  ['hexadecimal', post('Content-Length: 0x5', `hello${HIDDEN}`), LENGTH],
  ['underscore', post('Content-Length: 1_0', `0123456789${HIDDEN}`), LENGTH],
  ['letters behind', post('Content-Length: 5Z', `hello${HIDDEN}`), LENGTH],
  ['a fraction', post('Content-Length: 5.0', `hello${HIDDEN}`), LENGTH],
  ['an exponent', post('Content-Length: 5e0', `hello${HIDDEN}`), LENGTH],
  ['in quotes', post('Content-Length: "5"', `hello${HIDDEN}`), LENGTH],
  ['two words', post('Content-Length: 5 5', `hello${HIDDEN}`), LENGTH],
  ['empty', post('Content-Length:'), LENGTH],
  ['blank', post('Content-Length:  \t '), LENGTH],
  ['2^63', post('Content-Length: 9223372036854775808'), LENGTH],
  ['2^64 and five', post('Content-Length: 18446744073709551621', `hello${HIDDEN}`), LENGTH],
  ['forty digits', post(`Content-Length: ${'9'.repeat(40)}`), LENGTH],
  ['NUL behind', post('Content-Length: 5\0', `hello${HIDDEN}`), VALUE],
  ['vertical tab before', post('Content-Length: \x0b5', `hello${HIDDEN}`), VALUE],
  ['digits of another script', post('Content-Length: \xd9\xa5', `hello${HIDDEN}`), LENGTH],
  ['space before the colon', post('Content-Length : 5', `hello${HIDDEN}`), refused('space_before_colon')],
  ['folded', post('Content-Length:\r\n 5', `hello${HIDDEN}`), LENGTH],
  [
    'leading zeros are decimal',
    post('Content-Length: 010', '0123456789'),
    passes('Content-Length: 10', '0123456789'),
  ],
]);

const row14 = row(14, [
  ['bare LF behind the size', chunked(`5\nhello\r\n0\r\n\r\n${HIDDEN}`), LINE_END],
  ['bare CR behind the size', chunked(`5\rhello\r\n0\r\n\r\n${HIDDEN}`), LINE_END],
  ['underscore', chunked(`0_2e\r\nhello\r\n0\r\n\r\n${HIDDEN}`), SIZE],
  ['0x', chunked(`0x5\r\nhello\r\n0\r\n\r\n${HIDDEN}`), SIZE],
  ['plus', chunked(`+5\r\nhello\r\n0\r\n\r\n${HIDDEN}`), SIZE],
  ['minus', chunked(`-5\r\nhello\r\n0\r\n\r\n${HIDDEN}`), SIZE],
  ['space before', chunked(` 5\r\nhello\r\n0\r\n\r\n${HIDDEN}`), SIZE],
  ['space behind', chunked(`5 \r\nhello\r\n0\r\n\r\n${HIDDEN}`), SIZE],
  ['tab behind', chunked(`5\t\r\nhello\r\n0\r\n\r\n${HIDDEN}`), SIZE],
  ['NUL behind', chunked(`5\0\r\nhello\r\n0\r\n\r\n${HIDDEN}`), SIZE],
  ['no size', chunked(`\r\nhello\r\n0\r\n\r\n${HIDDEN}`), SIZE],
  ['only an extension', chunked(`;a=b\r\nhello\r\n0\r\n\r\n${HIDDEN}`), SIZE],
  ['letters', chunked(`5g\r\nhello\r\n0\r\n\r\n${HIDDEN}`), SIZE],
  ['two CRs', chunked(`5\r\r\nhello\r\n0\r\n\r\n${HIDDEN}`), LINE_END],
  ['CR CR semicolon', chunked(`5\r\r;\nhello\r\n0\r\n\r\n${HIDDEN}`), LINE_END],
  ['17 digits', chunked(`10000000000000005\r\nhello\r\n0\r\n\r\n${HIDDEN}`), refused('chunk_size_overflow')],
  [
    'leading zeros without end',
    chunked(`${'0'.repeat(40)}5\r\nhello\r\n0\r\n\r\n${HIDDEN}`),
    refused('chunk_size_overflow'),
    'strict',
  ],
  ['2^63', chunked(`8000000000000000\r\nhello\r\n0\r\n\r\n${HIDDEN}`), refused('chunk_size_overflow')],
  ['TERM.EXT: an extension with LF', chunked(`5;\nhello\r\n0\r\n\r\n${HIDDEN}`), LINE_END],
  ['EXT.TERM: LF amid an extension', chunked(`5;a\nb\r\nhello\r\n0\r\n\r\n${HIDDEN}`), LINE_END],
  [
    'an extension with NUL',
    chunked(`5;\0\r\nhello\r\n0\r\n\r\n${HIDDEN}`),
    refused('invalid_chunk_extension'),
  ],
  [
    'a huge extension',
    chunked(`5;${'x'.repeat(20_000)}\r\nhello\r\n0\r\n\r\n${HIDDEN}`),
    refused('chunk_extension_too_large'),
  ],
  [
    'many extensions',
    chunked(`${`1;${'x'.repeat(500)}\r\na\r\n`.repeat(100)}0\r\n\r\n${HIDDEN}`),
    refused('chunk_extension_too_large'),
  ],
  ['data longer than its size', chunked(`5\r\nhello!\r\n0\r\n\r\n${HIDDEN}`), LINE_END],
  ['data shorter than its size', chunked(`7\r\nhello\r\n0\r\n\r\n${HIDDEN}`), LINE_END],
  ['two bytes instead of CRLF', chunked(`5\r\nhelloXX0\r\n\r\n${HIDDEN}`), LINE_END],
  ['bare LF behind data', chunked(`5\r\nhello\n0\r\n\r\n${HIDDEN}`), LINE_END],
  ['bare LF at the end', chunked(`0\r\n\n${HIDDEN}`), TRAILER],
  ['bare LF behind the last chunk', chunked(`0\n\r\n${HIDDEN}`), LINE_END],
  ['no last CRLF', chunked(`0\r\n${HIDDEN}`), TRAILER],
  ['a folded trailer', chunked(`0\r\nX: y\r\n z\r\n\r\n${HIDDEN}`), TRAILER],
  ['a trailer without a colon', chunked(`0\r\nX\r\n\r\n${HIDDEN}`), TRAILER],
  ['a trailer with NUL', chunked(`0\r\nX: \0\r\n\r\n${HIDDEN}`), TRAILER],
  [
    'too many trailers',
    chunked(`0\r\n${'X: y\r\n'.repeat(300)}\r\n${HIDDEN}`),
    refused('trailers_too_large'),
  ],
  [
    'an extension is taken off',
    chunked('5;a="b"\r\nhello\r\n0\r\n\r\n'),
    { passes: ['\r\n5\r\nhello\r\n'], without: ['a="b"'] },
  ],
  [
    'a trailer that says where a message ends',
    chunked('0\r\nContent-Length: 9\r\nX: y\r\n\r\n'),
    { passes: ['0\r\nX: y\r\n\r\n'], without: ['Content-Length'] },
  ],
]);

const row15 = row(15, [
  ['space before the colon', get('X : y'), refused('space_before_colon')],
  ['tab before the colon', get('X\t: y'), refused('space_before_colon')],
  ['an empty name', get(': y'), refused('empty_field_name')],
  ['no colon', get('X'), refused('missing_colon')],
  ['space amid a name', get('X Y: z'), refused('space_before_colon')],
  ['NUL in a value', get('X: a\0b'), VALUE],
  ['NUL in a name', get('X\0: y'), NAME],
  ['bare CR in a value', get('X: a\rb'), refused('bare_cr')],
  ['bare LF in a value', get('X: a\nY: b'), refused('bare_lf')],
  ['DEL in a value', get('X: a\x7fb'), VALUE, 'strict'],
  ['a control byte in a value', get('X: a\x01b'), VALUE, 'strict'],
  ['folded', get('X: a\r\n b'), refused('obsolete_line_folding')],
  ['folded by a tab', get('X: a\r\n\tb'), refused('obsolete_line_folding')],
  [
    'whitespace before the first field',
    `GET /attack HTTP/1.1\r\n X: y\r\n${HOST}\r\n${HIDDEN}`,
    refused('leading_whitespace'),
  ],
  ['a high byte in a name', get('X\xff: y'), NAME],
  ['UTF-8 in a name', get('H\xc3\xb6st: y'), NAME],
  ['a quote in a name', get('X": y'), NAME],
  ['parentheses in a name', get('X(y): z'), NAME],
  ['a slash in a name', get('X/Y: z'), NAME],
  ['a name cut by CRLF', get('Transfer-\r\nEncoding: chunked'), refused('missing_colon')],
  ['lines that end in LF', `GET /attack HTTP/1.1\nHost: a.test\n\n${HIDDEN}`, refused('bare_lf'), 'strict'],
  [
    'too many fields',
    get(Array.from({ length: 200 }, (_, n) => `X-${n}: y`).join('\r\n')),
    refused('too_many_fields', 431),
  ],
  ['too large a head', get(`X: ${'y'.repeat(80_000)}`), refused('head_too_large', 431)],
  ['an endless line', `GET /${'a'.repeat(80_000)}`, refused('head_too_large', 431)],
  [
    'too many connection options',
    get(`Connection: ${Array.from({ length: 50 }, (_, n) => `x${n}`).join(',')}`),
    refused('too_many_connection_options', 431),
    'strict',
  ],
  ['connection is no list of tokens', get('Connection: "close"'), refused('invalid_connection'), 'strict'],
  ['high bytes in a value', `GET /attack HTTP/1.1\r\n${HOST}X: a\xffb\r\n\r\n`, passes('X: a\xffb')],
  ['an empty value', `GET /attack HTTP/1.1\r\n${HOST}X:\r\n\r\n`, passes('X: \r\n')],
]);

const row16 = row(16, [
  ['a control byte in the target', line('GET /a\x01b HTTP/1.1'), TARGET],
  ['NUL in the target', line('GET /a\0b HTTP/1.1'), TARGET],
  ['a high byte in the target', line('GET /a\xffb HTTP/1.1'), TARGET],
  ['a tab in the target', line('GET /a\tb HTTP/1.1'), TARGET],
  ['a fragment', line('GET /a#b HTTP/1.1'), TARGET],
  ['a tab behind the method', line('GET\t/ HTTP/1.1'), refused('invalid_method'), 'strict'],
  ['two spaces behind the method', line('GET  / HTTP/1.1'), TARGET, 'strict'],
  ['two spaces before the version', line('GET /  HTTP/1.1'), VERSION, 'strict'],
  ['space behind the version', line('GET / HTTP/1.1 '), refused('invalid_start_line'), 'strict'],
  ['space amid the target', line('GET /a b HTTP/1.1'), VERSION],
  ['no method', line(' / HTTP/1.1'), refused('invalid_method')],
  ['a method that is no token', line('G(T / HTTP/1.1'), refused('invalid_method')],
  ['no target', line('GET HTTP/1.1'), VERSION],
  ['an empty target', line('GET  HTTP/1.1'), TARGET],
  ['HTTP/1.32', line('GET / HTTP/1.32'), VERSION],
  ['HTTP/1.2', line('GET / HTTP/1.2'), VERSION, 'strict'],
  ['HTTP/2.0', line('GET / HTTP/2.0'), VERSION],
  ['HTTP/0.9 by name', line('GET / HTTP/0.9'), VERSION],
  ['http/1.1', line('GET / http/1.1'), VERSION],
  ['HTTP/01.1', line('GET / HTTP/01.1'), VERSION],
  ['HTTP/1,1', line('GET / HTTP/1,1'), VERSION],
  ['HTTP/0.9', 'GET /\r\n', VERSION],
  ['LF behind the version', `GET / HTTP/1.1\n${HOST}\r\n${HIDDEN}`, refused('bare_lf'), 'strict'],
  ['CR behind the version', `GET / HTTP/1.1\r${HOST}\r\n${HIDDEN}`, refused('bare_cr')],
  [
    'two empty lines before it',
    `\r\n\r\n${line('GET / HTTP/1.1')}`,
    refused('leading_empty_lines'),
    'strict',
  ],
  ['a bare LF before it', `\n${line('GET / HTTP/1.1')}`, refused('bare_lf'), 'strict'],
  ['a relative target', line('GET attack HTTP/1.1'), refused('invalid_target_form')],
  ['a star for GET', line('GET * HTTP/1.1'), refused('invalid_target_form')],
  ['an authority for GET', line('GET a.test:80 HTTP/1.1'), refused('invalid_target_form')],
  ['another scheme', line('GET file:///etc/passwd HTTP/1.1'), refused('invalid_target_form')],
  ['absolute form with another host', line('GET http://b.test/ HTTP/1.1'), refused('host_mismatch')],
  ['absolute form with another port', line('GET http://a.test:81/ HTTP/1.1'), refused('host_mismatch')],
  ['absolute form with userinfo', line('GET http://u:p@a.test/ HTTP/1.1'), refused('invalid_authority')],
  ['absolute form without a host', line('GET http:/// HTTP/1.1'), refused('invalid_authority')],
  ['CONNECT without a port', line('CONNECT a.test HTTP/1.1'), refused('invalid_authority')],
  ['CONNECT with a path', line('CONNECT a.test:443/x HTTP/1.1'), refused('invalid_authority')],
  ['CONNECT with another host', line('CONNECT b.test:443 HTTP/1.1'), refused('host_mismatch')],
  ['no host', `GET / HTTP/1.1\r\n\r\n${HIDDEN}`, refused('missing_host')],
  ['two hosts', `GET / HTTP/1.1\r\n${HOST}Host: b.test\r\n\r\n${HIDDEN}`, refused('duplicate_host')],
  ['the same host twice', `GET / HTTP/1.1\r\n${HOST}${HOST}\r\n${HIDDEN}`, refused('duplicate_host')],
  ['an empty host', `GET / HTTP/1.1\r\nHost:\r\n\r\n${HIDDEN}`, INVALID_HOST],
  ['a host with userinfo', `GET / HTTP/1.1\r\nHost: u@a.test\r\n\r\n${HIDDEN}`, INVALID_HOST],
  ['a host with a path', `GET / HTTP/1.1\r\nHost: a.test/x\r\n\r\n${HIDDEN}`, INVALID_HOST],
  ['a host with a query', `GET / HTTP/1.1\r\nHost: a.test?x\r\n\r\n${HIDDEN}`, INVALID_HOST],
  ['a list of hosts', `GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n${HIDDEN}`, INVALID_HOST],
  ['a host with a space', `GET / HTTP/1.1\r\nHost: a test\r\n\r\n${HIDDEN}`, INVALID_HOST],
  ['a host with an escape', `GET / HTTP/1.1\r\nHost: %61.test\r\n\r\n${HIDDEN}`, INVALID_HOST, 'strict'],
  ['a host with high bytes', `GET / HTTP/1.1\r\nHost: \xe4.test\r\n\r\n${HIDDEN}`, INVALID_HOST],
  ['port 65536', `GET / HTTP/1.1\r\nHost: a.test:65536\r\n\r\n${HIDDEN}`, INVALID_HOST],
  ['port 2^32 and 80', `GET / HTTP/1.1\r\nHost: a.test:4294967376\r\n\r\n${HIDDEN}`, INVALID_HOST],
  ['port -1', `GET / HTTP/1.1\r\nHost: a.test:-1\r\n\r\n${HIDDEN}`, INVALID_HOST],
  ['port of letters', `GET / HTTP/1.1\r\nHost: a.test:8o\r\n\r\n${HIDDEN}`, INVALID_HOST],
  ['IPv6 without brackets', `GET / HTTP/1.1\r\nHost: ::1\r\n\r\n${HIDDEN}`, INVALID_HOST],
  ['IPv6 that does not close', `GET / HTTP/1.1\r\nHost: [::1\r\n\r\n${HIDDEN}`, INVALID_HOST],
  ['a schemeless URL', `GET / HTTP/1.1\r\nHost: http://a.test\r\n\r\n${HIDDEN}`, INVALID_HOST],
  ['one empty line before it', `\r\nGET /attack HTTP/1.1\r\n${HOST}\r\n`, passes('GET /attack HTTP/1.1')],
  [
    'absolute form of the same host',
    `GET http://A.test/attack HTTP/1.1\r\nHost: a.test\r\n\r\n`,
    passes('GET /attack HTTP/1.1', 'Host: A.test'),
  ],
  ['an unknown method', `BREW /attack HTTP/1.1\r\n${HOST}\r\n`, passes('BREW /attack HTTP/1.1')],
]);

const row19 = row(19, [
  [
    'something else',
    post('Expect: 200-ok\r\nContent-Length: 5', `hello${HIDDEN}`),
    refused('expectation_failed', 417),
  ],
  [
    'twice',
    post('Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5', `hello${HIDDEN}`),
    EXPECT,
  ],
  ['a list', post('Expect: 100-continue, x\r\nContent-Length: 5', `hello${HIDDEN}`), EXPECT],
  ['with letters before', post('Expect: y 100-continue\r\nContent-Length: 5', `hello${HIDDEN}`), EXPECT],
  ['in quotes', post('Expect: "100-continue"\r\nContent-Length: 5', `hello${HIDDEN}`), EXPECT],
  ['empty', post('Expect:\r\nContent-Length: 5', `hello${HIDDEN}`), EXPECT],
  ['folded', post('Expect:\r\n 100-continue\r\nContent-Length: 5', `hello${HIDDEN}`), EXPECT],
  [
    '0.CL: without a body',
    `GET /attack HTTP/1.1\r\n${HOST}Expect: 100-continue\r\n\r\n`,
    { passes: ['GET /attack HTTP/1.1'], without: ['100-continue', 'Expect'] },
  ],
  [
    '0.CL: with a length of none',
    `POST /attack HTTP/1.1\r\n${HOST}Expect: 100-continue\r\nContent-Length: 0\r\n\r\n`,
    { passes: ['POST /attack HTTP/1.1', 'Content-Length: 0'], without: ['100-continue'] },
  ],
  [
    'of HTTP/1.0',
    `POST /attack HTTP/1.0\r\n${HOST}Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello`,
    { passes: ['hello'], without: ['100-continue'] },
  ],
  [
    'in any case',
    post('eXpect: 100-CONTINUE\r\nContent-Length: 5', 'hello'),
    passes('hello', '100-CONTINUE'),
  ],
]);

/** Requests over HTTP/1. */
export const REQUESTS: readonly Payload[] = [...row12, ...row13, ...row14, ...row15, ...row16, ...row19];
