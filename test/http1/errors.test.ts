// Does every error say what went wrong, in the same three places: status, `proxy-status`, a short text?

import type http from 'node:http';
import test from 'ava';
import { startEmbedded } from '../support/embedded.js';
import { httpOrigin, proxyStatus, request } from '../support/http.js';
import { startSidecar, web } from '../support/sidecar.js';
import { type Peer, type RawResponse, closedPort, connect, tcpServer } from '../support/tcp.js';
import { until } from '../support/wait.js';

/** Sends bytes to a new connection and takes one response. */
async function ask(t: Parameters<typeof connect>[0], port: number, bytes: string): Promise<RawResponse> {
  const peer = await connect(t, port);
  await peer.send(bytes);
  return peer.response();
}

const GET = 'GET / HTTP/1.1\r\nHost: a.test\r\n\r\n';

test('the shape: RFC 9209, a text that ends its line, and the same word in the statistics', async (t) => {
  const port = await closedPort();
  const proxy = await startEmbedded(
    t,
    web(
      { routes: [{ name: 'all', to: 'dead' }] },
      { clusters: { dead: { endpoints: [`127.0.0.1:${port}`] } } },
    ),
  );
  const answer = await ask(t, proxy.port(), GET);
  t.is(answer.statusLine, 'HTTP/1.1 502 Bad Gateway');
  t.is(answer.headers.get('proxy-status'), 'mesh; error=connection_refused; details="connect_refused"');
  t.is(answer.headers.get('content-type'), 'text/plain; charset=utf-8');
  t.is(answer.headers.get('content-length'), String(answer.body.length));
  t.is(answer.body, 'The server refused the connection.\n');
  await proxy.endedBy('connect_refused');
  const [route] = await until('all of it is counted', async () => {
    const routes = await proxy.routes();
    // This is the last.
    return routes[0]?.duration.count === 1 && routes;
  });
  t.like(route, { route: 'all', cluster: 'dead', requests: 1, failures: 1, responses: { '5xx': 1 } });
});

const cases: [
  what: string,
  server: (peer: Peer) => unknown,
  status: number,
  error: string,
  details: string,
][] = [
  ['closes without a word', (peer) => peer.end(), 502, 'connection_terminated', 'upstream_closed'],
  ['resets', (peer) => peer.reset(), 502, 'connection_terminated', 'upstream_closed'],
  [
    'speaks no HTTP',
    (peer) => peer.send('SSH-2.0-OpenSSH\r\n\r\n'),
    502,
    'http_protocol_error',
    'upstream_protocol',
  ],
  [
    'closes amid its head',
    (peer) => peer.end('HTTP/1.1 200 OK\r\nContent-Le'),
    502,
    'http_response_incomplete',
    'upstream_incomplete',
  ],
  [
    'sends two lengths',
    (peer) => peer.send('HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab'),
    502,
    'http_protocol_error',
    'upstream_protocol',
  ],
  [
    'sends a head without end',
    (peer) => peer.send(`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(100_000)}`),
    502,
    'http_response_header_section_size',
    'upstream_head_too_large',
  ],
  [
    'sends 1xx for ever',
    (peer) => peer.send('HTTP/1.1 102 Processing\r\n\r\n'.repeat(50)),
    502,
    'http_protocol_error',
    'upstream_protocol',
  ],
];
for (const [what, server, status, error, details] of cases) {
  test(`a server that ${what}`, async (t) => {
    const origin = await tcpServer(t, async (peer) => {
      await peer.readUntil('\r\n\r\n');
      await server(peer);
    });
    const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
    const peer = await connect(t, proxy.port());
    await peer.send(GET);
    let answer = await peer.response();
    while (answer.status < 200) answer = await peer.response();
    t.is(answer.status, status);
    t.is(proxyStatus(answer.headers).error, error);
    t.is(proxyStatus(answer.headers).details.split(':')[0], details);
    t.regex(answer.body, /^[A-Z][^\n]+\n$/);
    // The client's connection is good for more.
    await peer.send(GET);
    let next = await peer.response();
    while (next.status < 200) next = await peer.response();
    t.is(next.status, status);
  });
}

test('what clients do wrong: 400 and close, with the detail', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  for (const [bytes, detail] of [
    ['GET / HTTP/1.1\r\n\r\n', /host/],
    ['GET / HTTP/1.1\r\nHost: a b\r\n\r\n', /host/],
    [
      'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
      /length|transfer/,
    ],
    ['GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n', /./],
  ] as const) {
    const peer = await connect(t, proxy.port());
    await peer.send(bytes);
    const answer = await peer.response();
    t.is(answer.status, 400, bytes);
    const { error, details } = proxyStatus(answer.headers);
    t.is(error, 'http_request_error');
    t.regex(details, /^bad_request: /);
    t.regex(details, detail);
    if (!bytes.includes('%00')) t.is(await peer.readToEnd(), '');
  }
  t.is(origin.requests, 0);
});

test('no route, no cluster, no endpoints', async (t) => {
  const proxy = await startSidecar(
    t,
    web({ routes: [{ match: { path: '/empty' }, to: 'empty' }] }, { clusters: { empty: { endpoints: [] } } }),
  );
  const none = await request(proxy.port(), { path: '/other' });
  t.is(none.status, 404);
  t.deepEqual(proxyStatus(none.headers), { error: 'destination_not_found', details: 'no_route' });
  const empty = await request(proxy.port(), { path: '/empty' });
  t.is(empty.status, 503);
  t.deepEqual(proxyStatus(empty.headers), { error: 'destination_unavailable', details: 'no_endpoints' });
});

test('a HEAD request gets the error without its text', async (t) => {
  const proxy = await startSidecar(t, web({ routes: [{ match: { path: '/x' }, respond: 200 }] }));
  const peer = await connect(t, proxy.port());
  await peer.send('HEAD /none HTTP/1.1\r\nHost: a\r\n\r\nGET /none HTTP/1.1\r\nHost: a\r\n\r\n');
  const head = await peer.response('HEAD');
  const get = await peer.response();
  t.is(head.status, 404);
  t.is(head.headers.get('content-length'), String(get.body.length));
  t.is(get.status, 404);
});

test('a gRPC caller over HTTP/1 gets a status of its own', async (t) => {
  const port = await closedPort();
  const proxy = await startSidecar(
    t,
    web(
      { routes: [{ to: 'dead' }] },
      { clusters: { dead: { endpoints: [`127.0.0.1:${port}`], protocol: 'http1' } } },
    ),
  );
  const { status, headers } = await request(proxy.port(), {
    method: 'POST',
    headers: { 'content-type': 'application/grpc' },
    body: '',
  });
  t.is(status, 200);
  t.is(headers['grpc-status'], '14');
  t.is(headers['grpc-message'], 'The server refused the connection.');
  t.is(proxyStatus(headers).details, 'connect_refused');
});

test('the proxy invents nothing in a response that passes', async (t) => {
  const origin = await httpOrigin(t, (_, outgoing: http.ServerResponse) => {
    outgoing.sendDate = false;
    outgoing.writeHead(503, 'Closed for lunch', { 'content-length': 0 });
    outgoing.end();
  });
  const proxy = await startSidecar(t, web({ routes: [{ to: origin.address }] }));
  const answer = await ask(t, proxy.port(), GET);
  t.is(answer.statusLine, 'HTTP/1.1 503 Closed for lunch');
  t.false(answer.headers.has('proxy-status'));
  t.false(answer.headers.has('server'));
});
