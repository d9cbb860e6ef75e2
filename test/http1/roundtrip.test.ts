// Does what we forward mean to another parser what it meant to us? Random requests and responses pass a real proxy; Node's
// parser reads the other end. `ROUNDTRIP_SEED=n` runs the cases of one seed again.

import { createHash } from 'node:crypto';
import http from 'node:http';
import test from 'ava';
import { event, httpOrigin, keepAliveAgent } from '../support/http.js';
import { startSidecar } from '../support/sidecar.js';
import { connect, tcpServer } from '../support/tcp.js';

const SEED = Number(process.env['ROUNDTRIP_SEED'] ?? Date.now() % 1_000_000);
const CASES = 400;

/** A small seeded generator (mulberry32). */
class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  below(bound: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let bits = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) % bound;
  }

  one<T>(of: readonly T[]): T {
    return of[this.below(of.length)] as T;
  }

  text(alphabet: string, most: number, least = 0): string {
    const length = least + this.below(most - least + 1);
    return Array.from({ length }, () => this.one([...alphabet])).join('');
  }
}

type Field = [name: string, value: string];

interface Message {
  fields: Field[];
  body: string;
  framing: 'none' | 'length' | 'chunked';
  trailers: Field[];
}

interface Asked extends Message {
  method: string;
  path: string;
}

interface Answered extends Message {
  status: number;
  reason: string;
}

const LETTERS = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789';
const TOKEN = `${LETTERS}!#$%&'*+-.^_\`|~`;
const VALUE = `${LETTERS} \t!"#$%&'()*+,-./:;<=>?@[\\]^_{|}~\x80\xa0\xe9\xff`;
const PATH = `${LETTERS}-._~!$&'()*+,=:@`;
/** Names that have a meaning to a proxy or to Node. */
const MEANS =
  /^(x-.*|.*(host|connection|length|encoding|te|trailer|upgrade|expect|forwarded|keep|date|settings|authenticate|authorization|via|server|status).*)$/i;

function fieldsOf(random: Random): Field[] {
  return Array.from({ length: random.below(12) }, (): Field => {
    let name: string;
    do name = random.text(TOKEN, 16, 1);
    while (MEANS.test(name));
    return [name, random.text(VALUE, 40).replace(/^[ \t]+|[ \t]+$/g, '')];
  });
}

function messageOf(random: Random, bodies: Message['framing'][]): Message {
  const framing = random.one(bodies);
  const size = random.one([0, 1, 100, 5_000, 70_000]);
  const body =
    framing === 'none' ? '' : Buffer.alloc(size, random.text(VALUE, 50, 1), 'latin1').toString('latin1');
  const trailers = framing === 'chunked' && random.below(3) === 0 ? fieldsOf(random).slice(0, 3) : [];
  return { fields: fieldsOf(random), body, framing, trailers };
}

function askedOf(random: Random): Asked {
  const method = random.one([
    'GET',
    'HEAD',
    'POST',
    'PUT',
    'PATCH',
    'DELETE',
    'OPTIONS',
    'PROPFIND',
    'REPORT',
  ]);
  const segments = Array.from({ length: 1 + random.below(4) }, () => random.text(PATH, 8, 1));
  // Not a dot segment, which has another normal form.
  const path = segments.map((segment) => `/${segment.replace(/^\.+/, 'a')}`).join('');
  const escapes = random.below(4) === 0 ? '/%C3%A9%20' : '';
  const query = random.below(3) === 0 ? `?${random.text(`${PATH}/?%[]{}"|`, 20)}` : '';
  const message = messageOf(
    random,
    method === 'GET' || method === 'HEAD' ? ['none'] : ['none', 'length', 'chunked'],
  );
  return { ...message, method, path: path + escapes + query };
}

function answeredOf(random: Random, method: string): Answered {
  const status = random.one([200, 200, 201, 206, 404, 418, 500, 204, 304]);
  const bodiless = status === 204 || status === 304 || method === 'HEAD';
  const reason = random.text(`${LETTERS} !`, 12);
  return { ...messageOf(random, bodiless ? ['none'] : ['length', 'chunked']), status, reason };
}

/** A message as bytes in latin1: whitespace around values, chunks and extensions as they fall. */
function bytesOf(random: Random, start: string, message: Message): string {
  const white = (): string => random.one(['', ' ', ' ', ' ', '\t', '  ']);
  const lines = message.fields.map(
    ([name, value]) => `${name}:${white()}${value}${random.one(['', '', ' '])}`,
  );
  let body = message.body;
  if (message.framing === 'length')
    lines.splice(random.below(lines.length + 1), 0, `Content-Length:${white()}${body.length}`);
  if (message.framing === 'chunked') {
    lines.splice(
      random.below(lines.length + 1),
      0,
      `${random.one(['Transfer-Encoding', 'TRANSFER-encoding'])}:${white()}chunked`,
    );
    body = '';
    for (let rest = message.body; rest !== '';) {
      const size = 1 + random.below(random.one([10, rest.length]));
      const chunk = rest.slice(0, size);
      body += `${random.one(['', '0', '00'])}${chunk.length.toString(16)}${random.one(['', '', ';a', ';a="b;c"'])}\r\n${chunk}\r\n`;
      rest = rest.slice(size);
    }
    body += `0\r\n${message.trailers.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`;
  }
  return `${start}\r\n${lines.join('\r\n')}${lines.length > 0 ? '\r\n' : ''}\r\n${body}`;
}

/** Names and values without what a proxy adds or makes anew. */
function own(rawHeaders: readonly string[]): Field[] {
  const fields: Field[] = [];
  for (let at = 0; at < rawHeaders.length; at += 2)
    fields.push([rawHeaders[at] ?? '', rawHeaders[at + 1] ?? '']);
  return fields.filter(
    ([name]) =>
      !/^(host|content-length|transfer-encoding|connection|x-forwarded-(for|proto)|x-request-id)$/i.test(
        name,
      ),
  );
}

const hash = (body: string | Buffer): string =>
  createHash('sha256')
    .update(typeof body === 'string' ? Buffer.from(body, 'latin1') : body)
    .digest('hex');

interface Read {
  fields: Field[];
  body: string;
  trailers: Field[];
}

async function read(incoming: http.IncomingMessage): Promise<Read> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  return {
    fields: own(incoming.rawHeaders),
    body: hash(Buffer.concat(chunks)),
    trailers: own(incoming.rawTrailers),
  };
}

const want = ({ fields, body, trailers }: Message): Read => ({ fields, body: hash(body), trailers });

test(`requests mean to Node what they meant to us (seed ${SEED})`, async (t) => {
  const random = new Random(SEED);
  const seen: (Read & { method: string | undefined; url: string | undefined; host: string | undefined })[] =
    [];
  const origin = await httpOrigin(t, async (incoming, outgoing) => {
    const { method, url, headers } = incoming;
    seen.push({ method, url, host: headers.host, ...(await read(incoming)) });
    outgoing.end('ok');
  });
  const proxy = await startSidecar(t, {
    listeners: [{ name: 'web', address: '127.0.0.1:0', routes: [{ to: origin.address }] }],
  });
  let peer = await connect(t, proxy.port());
  for (let n = 0; n < CASES; n += 1) {
    if (n % 50 === 49) peer = await connect(t, proxy.port());
    const asked = askedOf(random);
    const bytes = bytesOf(random, `${asked.method} ${asked.path} HTTP/1.1\r\nHost: a.test`, asked);
    // In pieces that are cut anywhere.
    const cuts = Array.from({ length: random.below(4) }, () => random.below(bytes.length)).sort(
      (a, b) => a - b,
    );
    const pieces = [...cuts, bytes.length].map((end, at) => bytes.slice(at === 0 ? 0 : cuts[at - 1], end));
    await peer.send(...pieces.filter((piece) => piece !== ''));
    t.is(
      (await peer.response(asked.method)).status,
      200,
      `case ${n}: ${JSON.stringify(bytes.slice(0, 2000))}`,
    );
    const { method, path } = asked;
    t.deepEqual(
      seen.at(-1),
      { method, url: path, host: 'a.test', ...want(asked) },
      `case ${n}: ${JSON.stringify(bytes.slice(0, 2000))}`,
    );
  }
  t.is(seen.length, CASES);
});

test(`responses mean to Node what they meant to us (seed ${SEED})`, async (t) => {
  const random = new Random(SEED + 1);
  let bytes = '';
  const origin = await tcpServer(t, async (peer) => {
    for (;;) {
      await peer.readUntil('\r\n\r\n');
      const cut = random.below(bytes.length);
      await peer.send(...[bytes.slice(0, cut), bytes.slice(cut)].filter((piece) => piece !== ''));
    }
  });
  const proxy = await startSidecar(t, {
    listeners: [{ name: 'web', address: '127.0.0.1:0', routes: [{ to: origin.address }] }],
  });
  const agent = keepAliveAgent(t, { maxSockets: 1 });
  for (let n = 0; n < CASES; n += 1) {
    const method = random.one(['GET', 'GET', 'HEAD']);
    const answered = answeredOf(random, method);
    bytes = bytesOf(random, `HTTP/1.1 ${answered.status} ${answered.reason}`.trimEnd(), answered);
    const sent = http.request({ port: proxy.port(), host: '127.0.0.1', path: `/${n}`, method, agent });
    sent.end();
    const [incoming] = await event<[http.IncomingMessage]>(sent, 'response');
    const came = await read(incoming);
    t.is(incoming.statusCode, answered.status);
    t.deepEqual(came, want(answered), `case ${n}: ${JSON.stringify(bytes.slice(0, 2000))}`);
  }
  t.is(origin.peers.length, 1, 'one connection carries them all');
});
