// What do hostile servers answer? Row 21; nothing here knows a test.

/** What a hostile server answers, and what must come of it. */
export interface Answer {
  name: string;
  method?: string;
  bytes: string;
  /** 502 with this detail; or the body that a client is given while the rest is dropped. */
  outcome: { detail: string } | { body: string };
}

const OK = 'HTTP/1.1 200 OK\r\n';
const FORGED = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged';
const bad = (name: string, bytes: string, detail: string): Answer => ({ name, bytes, outcome: { detail } });
const sifted = (name: string, bytes: string, body: string, method = 'GET'): Answer => ({
  name,
  method,
  bytes,
  outcome: { body },
});

/** Row 21. None of these connections may carry another request. */
export const ANSWERS: readonly Answer[] = [
  bad(
    'two lengths',
    `${OK}Content-Length: 2\r\nContent-Length: 8\r\n\r\nok${FORGED}`,
    'duplicate_content_length',
  ),
  bad(
    'the same length twice',
    `${OK}Content-Length: 2\r\nContent-Length: 2\r\n\r\nok`,
    'duplicate_content_length',
  ),
  bad('a list of lengths', `${OK}Content-Length: 2, 2\r\n\r\nok`, 'invalid_content_length'),
  bad('a signed length', `${OK}Content-Length: +2\r\n\r\nok`, 'invalid_content_length'),
  bad(
    'a length and a coding',
    `${OK}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    'content_length_and_transfer_encoding',
  ),
  bad(
    'another coding',
    `${OK}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`,
    'invalid_transfer_encoding',
  ),
  bad('a hidden coding', `${OK}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n`, 'invalid_field_value'),
  bad(
    'chunked in HTTP/1.0',
    'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'unexpected_transfer_encoding',
  ),
  bad(
    'chunked on 204',
    'HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'unexpected_transfer_encoding',
  ),
  bad(
    'a body on 204',
    `HTTP/1.1 204 No Content\r\nContent-Length: ${FORGED.length}\r\n\r\n${FORGED}`,
    'unexpected_body',
  ),
  bad('lines that end in LF', 'HTTP/1.1 200 OK\nContent-Length: 2\n\nok', 'bare_lf'),
  bad('a bare CR', `${OK}X: a\rContent-Length: 2\r\n\r\nok`, 'bare_cr'),
  bad('a folded field', `${OK}X: a\r\n b\r\nContent-Length: 2\r\n\r\nok`, 'obsolete_line_folding'),
  bad('space before a colon', `${OK}Content-Length : 2\r\n\r\nok`, 'space_before_colon'),
  bad('NUL in a value', `${OK}X: \0\r\nContent-Length: 2\r\n\r\nok`, 'invalid_field_value'),
  bad('no colon', `${OK}X\r\nContent-Length: 2\r\n\r\nok`, 'missing_colon'),
  bad('another protocol', 'SSH-2.0-OpenSSH_9.2\r\n', 'unsupported_version'),
  bad('HTTP/0.9', '<html>hello</html>', 'unsupported_version'),
  bad('HTTP/2.0', 'HTTP/2.0 200 OK\r\n\r\n', 'unsupported_version'),
  bad('a status of two digits', 'HTTP/1.1 20 OK\r\n\r\n', 'invalid_status'),
  bad('a status below 100', 'HTTP/1.1 099 OK\r\n\r\n', 'invalid_status'),
  bad(
    '101 that nobody asked for',
    'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n',
    'unasked_switch',
  ),
  bad('an endless head', `${OK}X: ${'y'.repeat(100_000)}`, 'head_too_large'),
  bad('200 fields', `${OK}${'X: y\r\n'.repeat(200)}\r\n`, 'too_many_fields'),
  bad('1xx without end', 'HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(20), 'informational_flood'),
  sifted('a response behind the response', `${OK}Content-Length: 2\r\n\r\nok${FORGED}`, 'ok'),
  sifted(
    'a response behind the last chunk',
    `${OK}Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n${FORGED}`,
    'ok',
  ),
  sifted(
    'bytes behind 304',
    `HTTP/1.1 304 Not Modified\r\nContent-Length: ${FORGED.length}\r\n\r\n${FORGED}`,
    '',
  ),
  sifted('bytes behind 204', `HTTP/1.1 204 No Content\r\n\r\n${FORGED}`, ''),
  sifted('a body to HEAD', `${OK}Content-Length: ${FORGED.length}\r\n\r\n${FORGED}`, '', 'HEAD'),
  sifted('one byte too many', `${OK}Content-Length: 2\r\n\r\nok\n`, 'ok'),
  sifted('close in another case', `${OK}Content-Length: 2\r\nCONNECTION: CLOSE\r\n\r\nok`, 'ok'),
];
