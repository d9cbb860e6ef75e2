/**
 * Which requests over HTTP/2 could a server behind, over HTTP/1, read differently? Row 20: each must be reset, or refused.
 */

import { FLAG, type Fields, TYPE, frame, request } from './frames.js';
import { HIDDEN } from './payloads.js';

/** A request that no server behind may see. */
interface Downgrade {
  readonly name: string;
  /** Its head; `site` are the pseudo-fields of an ordinary request. */
  readonly fields: (site: Fields) => Fields;
  /** What comes behind its head; absent: the head is all. */
  readonly body?: string;
}

function pseudo(site: Fields, name: string, value: string): Fields {
  return site.map((field) => (field[0] === name ? [name, value] : field));
}

function path(site: Fields, value: string): Fields {
  return pseudo(site, ':path', value);
}

function authority(site: Fields): string {
  return site.find(([name]) => name === ':authority')?.[1] ?? '';
}

/** The frames of such a request, on the first stream. */
export function downgrade({ fields, body }: Downgrade, site: Fields): Buffer[] {
  if (body === undefined) return [request(1, fields(site))];
  return [request(1, fields(site), FLAG.endHeaders), frame(TYPE.data, FLAG.endStream, 1, body)];
}

/** All of them. */
export const DOWNGRADES: readonly Downgrade[] = [
  { name: 'CRLF in a value', fields: (site) => [...site, ['x', `y\r\n\r\n${HIDDEN}`]] },
  { name: 'LF in a value', fields: (site) => [...site, ['x', 'y\nz: a']] },
  { name: 'NUL in a value', fields: (site) => [...site, ['x', 'y\0z']] },
  { name: 'CRLF in a name', fields: (site) => [...site, [`x: y\r\n\r\n${HIDDEN}z`, 'a']] },
  { name: 'a colon in a name', fields: (site) => [...site, ['transfer-encoding: chunked\r\nx', 'y']] },
  { name: 'a space in a name', fields: (site) => [...site, ['x y', 'z']] },
  { name: 'upper case in a name', fields: (site) => [...site, ['X', 'y']] },
  { name: 'an empty name', fields: (site) => [...site, ['', 'y']] },
  { name: 'space around a value', fields: (site) => [...site, ['x', ' y']] },
  { name: 'CRLF in the path', fields: (site) => path(site, `/ HTTP/1.1\r\nHost: a.test\r\n\r\n${HIDDEN}`) },
  { name: 'a space in the path', fields: (site) => path(site, '/a HTTP/1.1') },
  { name: 'a high byte in the path', fields: (site) => path(site, '/a\xff') },
  { name: 'a high byte in the query', fields: (site) => path(site, '/a?b=\xff') },
  { name: 'a control byte in the query', fields: (site) => path(site, '/a?b=\x01') },
  { name: 'a path without a slash', fields: (site) => path(site, 'a') },
  { name: 'an absolute URL as path', fields: (site) => path(site, 'http://b.test/') },
  { name: 'an empty path', fields: (site) => path(site, '') },
  { name: 'a star for GET', fields: (site) => path(site, '*') },
  {
    name: 'CRLF in the method',
    fields: (site) => pseudo(site, ':method', `GET / HTTP/1.1\r\nHost: a.test\r\n\r\n${HIDDEN}`),
  },
  { name: 'a space in the method', fields: (site) => pseudo(site, ':method', 'GET /hidden') },
  { name: 'an empty method', fields: (site) => pseudo(site, ':method', '') },
  {
    name: 'CRLF in the authority',
    fields: (site) => pseudo(site, ':authority', `${authority(site)}\r\nx: y`),
  },
  { name: 'userinfo in the authority', fields: (site) => pseudo(site, ':authority', `u@${authority(site)}`) },
  { name: 'a path in the authority', fields: (site) => pseudo(site, ':authority', `${authority(site)}/x`) },
  { name: 'a port beyond the last', fields: (site) => pseudo(site, ':authority', 'a.test:65536') },
  { name: 'another host', fields: (site) => [...site, ['host', 'b.test']] },
  { name: 'two hosts', fields: (site) => [...site, ['host', authority(site)], ['host', 'b.test']] },
  { name: 'no authority at all', fields: (site) => site.filter(([name]) => name !== ':authority') },
  { name: 'the authority twice', fields: (site) => [[':authority', authority(site)], ...site] },
  { name: 'the path twice', fields: (site) => [[':path', '/'], ...site] },
  { name: 'no method', fields: (site) => site.slice(1) },
  { name: 'no scheme', fields: (site) => site.filter(([name]) => name !== ':scheme') },
  {
    name: 'a scheme that is none',
    fields: (site) => pseudo(site, ':scheme', `http://a.test/ HTTP/1.1\r\nx: y`),
  },
  { name: 'an unknown pseudo-field', fields: (site) => [...site, [':hidden', 'x']] },
  { name: 'a pseudo-field of responses', fields: (site) => [...site, [':status', '200']] },
  { name: 'a pseudo-field behind a field', fields: (site) => [['x', 'y'], ...site] },
  { name: 'transfer-encoding', fields: (site) => [...site, ['transfer-encoding', 'chunked']] },
  { name: 'connection', fields: (site) => [...site, ['connection', 'keep-alive']] },
  { name: 'upgrade', fields: (site) => [...site, ['upgrade', 'h2c']] },
  { name: 'keep-alive', fields: (site) => [...site, ['keep-alive', 'timeout=5']] },
  { name: 'proxy-connection', fields: (site) => [...site, ['proxy-connection', 'close']] },
  { name: 'te other than trailers', fields: (site) => [...site, ['te', 'gzip']] },
  { name: 'a length that is none', fields: (site) => [...site, ['content-length', 'x']] },
  { name: 'a negative length', fields: (site) => [...site, ['content-length', '-1']], body: 'x' },
  { name: 'a signed length', fields: (site) => [...site, ['content-length', '+1']], body: 'x' },
  {
    name: 'two lengths',
    fields: (site) => [...site, ['content-length', '1'], ['content-length', '2']],
    body: 'x',
  },
  {
    name: 'a body longer than its length',
    fields: (site) => [...site, ['content-length', '1']],
    body: `x${HIDDEN}`,
  },
  { name: 'a body shorter than its length', fields: (site) => [...site, ['content-length', '9']], body: 'x' },
  { name: 'a length and no body', fields: (site) => [...site, ['content-length', '9']] },
];
