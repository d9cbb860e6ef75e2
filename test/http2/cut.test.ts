// Does an answer that was cut look cut to the clients that people use, whoever cut it, and one that is whole look whole?
//
// Node's HTTP/2 takes a stream that is reset with NO_ERROR or CANCEL for an answer that has ended, whatever length was
// announced: it says `end`, and `fetch` of undici resolves.

import { readFileSync } from 'node:fs';
import http2 from 'node:http2';
import test, { type ExecutionContext } from 'ava';
import { Agent, fetch } from 'undici';
import { CODE, FLAG, PREFACE, TYPE, block, frame, u32 } from '../../src/attack/frames.js';
import { arrives } from '../attacks/arrives.js';
import { Authority } from '../support/certificates.js';
import { httpOrigin } from '../support/http.js';
import { http2Connect } from '../support/http2.js';
import { type Sidecar, startSidecar, web } from '../support/sidecar.js';
import { tcpServer } from '../support/tcp.js';
import { within } from '../support/wait.js';

type Listener = Omit<Parameters<typeof web>[0], 'tls'>;

const { NGHTTP2_INTERNAL_ERROR, NGHTTP2_NO_ERROR } = http2.constants;

/** An answer that stands still before its end, with and without a length. */
const LENGTHS: Record<string, Record<string, string>> = {
  '/length': { 'content-length': '1000' },
  '/no-length': {},
};

/** A server of HTTP/1 whose answers never end, but for one. */
async function stuck(t: ExecutionContext): Promise<string> {
  const { address } = await httpOrigin(t, ({ url = '' }, outgoing) => {
    outgoing.writeHead(200, LENGTHS[url] ?? {});
    if (url in LENGTHS) outgoing.write('some');
    else outgoing.end('whole');
  });
  return address;
}

/** How an answer looks to Node. */
async function seenByNode(session: http2.ClientHttp2Session, path: string): Promise<[string, number]> {
  const stream = session.request({ ':path': path });
  const seen = new Promise<string>((resolve) => {
    stream.on('error', () => resolve('error'));
    stream.on('end', () => resolve('end'));
  });
  const closed = new Promise((resolve) => {
    stream.on('close', resolve);
  });
  stream.resume();
  const how = await within('an end of it', seen);
  await within('its stream is closed', closed);
  return [how, stream.rstCode];
}

/** Both clients take `/` for whole, and the others for cut. */
async function looksCut(t: ExecutionContext, listener: Listener, clusters = {}): Promise<Sidecar> {
  const authority = await Authority.create(t);
  const tls = await authority.sign({ names: ['a.test'] });
  const proxy = await startSidecar(t, web({ ...listener, tls }, { clusters }));
  const ca = readFileSync(authority.root);
  const url = `https://127.0.0.1:${proxy.port()}`;
  const session = await http2Connect(t, url, { ca, servername: 'a.test' });
  const dispatcher = new Agent({ allowH2: true, connect: { ca, servername: 'a.test' } });
  t.teardown(() => dispatcher.destroy());
  t.deepEqual(await seenByNode(session, '/'), ['end', NGHTTP2_NO_ERROR]);
  t.is(await (await fetch(`${url}/`, { dispatcher })).text(), 'whole');
  await Promise.all(
    Object.keys(LENGTHS).map(async (path) => {
      t.deepEqual(await seenByNode(session, path), ['error', NGHTTP2_INTERNAL_ERROR], path);
    }),
  );
  await Promise.all(
    Object.keys(LENGTHS).map(async (path) => {
      const answer = await fetch(url + path, { dispatcher });
      t.is(answer.status, 200);
      await t.throwsAsync(within('the end of a fetch', answer.text()), { name: 'TypeError' }, path);
    }),
  );
  return proxy;
}

test('a client sees an answer cut when its route has no time left', async (t) => {
  // The server, which is in this process, may stand still for seconds before it begins.
  await looksCut(t, { routes: [{ to: await stuck(t), timeout: '6s' }] });
});

test('a client sees an answer cut when the server says nothing more', async (t) => {
  // It has its own time to begin.
  await looksCut(t, { timeouts: { streamIdle: '300ms', request: '20s' }, to: await stuck(t) });
});

/** A server of HTTP/2 that begins its answers, and takes them back with CANCEL. No library is between: Node's ends them first. */
async function cancelling(t: ExecutionContext, fields: Record<string, string>): Promise<string> {
  const { address } = await tcpServer(t, async (peer) => {
    await peer.read(PREFACE.length);
    await peer.send(frame(TYPE.settings, 0, 0));
    const begun = new Set<number>();
    for (;;) {
      const { stream } = await arrives(
        'a request',
        peer,
        (each) => each.type === TYPE.headers && !begun.has(each.stream),
      );
      begun.add(stream);
      await peer.send(
        frame(TYPE.headers, FLAG.endHeaders, stream, block([[':status', '200'], ...Object.entries(fields)])),
        frame(TYPE.data, 0, stream, 'some'),
        frame(TYPE.reset, 0, stream, u32(CODE.cancel)),
      );
    }
  });
  return address;
}

test('a client sees an answer cut when the server takes it back with CANCEL', async (t) => {
  const clusters = await Promise.all(
    Object.entries(LENGTHS).map(async ([path, fields]) => [
      path.slice(1),
      { endpoints: [await cancelling(t, fields)], protocol: 'http2' },
    ]),
  );
  const routes = Object.keys(LENGTHS).map((path) => ({ match: { path }, to: path.slice(1) }));
  await looksCut(t, { routes: [...routes, { to: await stuck(t) }] }, Object.fromEntries(clusters));
});

test('a client sees an answer cut when a drain waits no longer', async (t) => {
  const proxy = await startSidecar(t, web({ timeouts: { drain: '300ms' }, to: await stuck(t) }));
  const session = await http2Connect(t, proxy.url());
  const stream = session.request({ ':path': '/length' });
  const failed = new Promise((resolve) => {
    stream.on('error', resolve);
    stream.on('end', () => resolve('an end in order'));
  });
  await within(
    'the answer begins',
    new Promise((resolve) => {
      stream.once('data', resolve);
    }),
  );
  proxy.process.signal('SIGTERM');
  t.true((await within('the end of the stream', failed)) instanceof Error);
  t.is(stream.rstCode, NGHTTP2_INTERNAL_ERROR);
});
