// Is what a route changes changed, on the way there and back, and nothing else?

import test from 'ava';
import { echo, echoed, httpOrigin, proxyStatus, request } from '../support/http.js';
import { ask, http2Connect } from '../support/http2.js';
import { startSidecar, web } from '../support/sidecar.js';
import { closedPort } from '../support/tcp.js';

test('headers of the request: set, added, removed', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(
    t,
    web({
      routes: [
        {
          to: origin.address,
          setHeaders: { 'x-set': 'new', 'X-Fresh': 'yes' },
          addHeaders: { 'x-add': ['two', 'three'] },
          removeHeaders: ['x-gone', 'X-Gone-Too', 'x-not-there'],
        },
      ],
    }),
  );
  const { rawHeaders } = echoed(
    await request(proxy.port(), {
      headers: {
        'X-Set': ['old', 'older'],
        'x-add': 'one',
        'x-gone': '1',
        'x-gone-too': '2',
        'x-stays': '3',
      },
    }),
  );
  const all = (name: string): string[] =>
    rawHeaders.filter((_, n) => n % 2 === 1 && rawHeaders[n - 1]?.toLowerCase() === name);
  t.deepEqual(all('x-set'), ['new']);
  t.deepEqual(all('x-fresh'), ['yes']);
  t.deepEqual(all('x-add'), ['one', 'two', 'three']);
  t.deepEqual(all('x-gone'), []);
  t.deepEqual(all('x-gone-too'), []);
  t.deepEqual(all('x-stays'), ['3']);
});

test('headers of the response: set, added, removed', async (t) => {
  const origin = await httpOrigin(t, (_, outgoing) => {
    outgoing.setHeader('x-set', ['old', 'older']);
    outgoing.setHeader('x-add', 'one');
    outgoing.setHeader('server', 'secret/1.0');
    outgoing.setHeader('set-cookie', ['a=1', 'b=2']);
    outgoing.end('body');
  });
  const proxy = await startSidecar(
    t,
    web({
      routes: [
        {
          to: origin.address,
          response: {
            setHeaders: { 'x-set': 'new' },
            addHeaders: { 'x-add': 'two', 'set-cookie': 'c=3' },
            removeHeaders: ['server'],
          },
        },
      ],
    }),
  );
  const { headers, text } = await request(proxy.port());
  t.is(headers['x-set'], 'new');
  t.is(headers['x-add'], 'one, two');
  t.deepEqual(headers['set-cookie'], ['a=1', 'b=2', 'c=3']);
  t.false('server' in headers);
  t.is(text, 'body');
});

test('the path that is sent on', async (t) => {
  const origin = await httpOrigin(t);
  const to = origin.address;
  const proxy = await startSidecar(
    t,
    web({
      routes: [
        { match: { path: '/full' }, to, rewritePath: '/whole' },
        { match: { path: '/api/*' }, to, rewritePath: '/v2/*' },
        { match: { path: '/strip/*' }, to, rewritePath: '/*' },
        { match: { path: '/keep/*' }, to },
      ],
    }),
  );
  for (const [asked, sent] of [
    ['/full?a=b', '/whole?a=b'],
    ['/api', '/v2'],
    ['/api/', '/v2/'],
    ['/api/x/y?z', '/v2/x/y?z'],
    ['/strip', '/'],
    ['/strip/x', '/x'],
    ['/keep/x%20y?q=%2f', '/keep/x%20y?q=%2f'],
  ] as const) {
    t.is(echoed(await request(proxy.port(), { path: asked })).url, sent, asked);
  }
});

test('redirects', async (t) => {
  const proxy = await startSidecar(
    t,
    web({
      routes: [
        { match: { path: '/https' }, redirect: { scheme: 'https', status: 301 } },
        { match: { path: '/host' }, redirect: { host: 'other.test:8443' } },
        { match: { path: '/old/*' }, redirect: { path: '/new/*', status: 308 } },
        { match: { path: '/one' }, redirect: { path: '/two', scheme: 'https', host: 'x.test', status: 307 } },
      ],
    }),
  );
  for (const [path, status, location] of [
    ['/https?a=b', 301, 'https://shop.test/https?a=b'],
    ['/host', 302, 'http://other.test:8443/host'],
    ['/old/a/b?c', 308, 'http://shop.test/new/a/b?c'],
    ['/one', 307, 'https://x.test/two'],
  ] as const) {
    const answer = await request(proxy.port(), { path, headers: { host: 'shop.test' } });
    t.is(answer.status, status, path);
    t.is(answer.headers.location, location, path);
    t.is(answer.text, '');
  }
});

test('redirects keep the scheme that a trusted proxy in front says', async (t) => {
  const routes = [
    { match: { path: '/old' }, redirect: { path: '/new' } },
    // As one would write it to bring everybody to https.
    {
      match: { path: '/up', headers: { 'x-forwarded-proto': 'http' } },
      redirect: { scheme: 'https' as const },
    },
    { respond: 200 },
  ];
  const trusting = await startSidecar(t, web({ trustedNetworks: ['127.0.0.1'], routes }));
  const open = await startSidecar(t, web({ routes }));
  for (const [proxy, path, proto, location] of [
    [trusting, '/old', 'https', 'https://shop.test:8443/new'],
    [trusting, '/old', 'http', 'http://shop.test:8443/new'],
    [trusting, '/old', 'gopher', 'http://shop.test:8443/new'],
    [trusting, '/up', 'https', undefined],
    [trusting, '/up', 'http', 'https://shop.test/up'],
    [open, '/old', 'https', 'http://shop.test:8443/new'],
  ] as const) {
    const headers = { host: 'shop.test:8443', 'x-forwarded-proto': proto };
    const http1 = await request(proxy.port(), { path, headers });
    t.is(http1.headers.location, location, `${path} ${proto}`);
    const session = await http2Connect(t, proxy.url());
    const http2 = await ask(session, {
      ':path': path,
      ':authority': 'shop.test:8443',
      'x-forwarded-proto': proto,
    });
    t.is(http2.headers.location, location, `${path} ${proto}`);
  }
});

test('responses made here', async (t) => {
  const proxy = await startSidecar(
    t,
    web({
      routes: [
        { match: { path: '/health' }, respond: 204 },
        { match: { path: '/same' }, respond: 304 },
        { match: { path: '/empty' }, respond: 200 },
        {
          match: { path: '/json' },
          respond: { status: 201, body: '{"a":1}', contentType: 'application/json' },
        },
        { match: { path: '/closed' }, respond: { status: 503, body: 'closed\n' } },
      ],
    }),
  );
  const health = await request(proxy.port(), { path: '/health' });
  t.is(health.status, 204);
  t.is(health.text, '');
  t.false('content-length' in health.headers);
  const same = await request(proxy.port(), { path: '/same' });
  t.is(same.status, 304);
  t.false('content-length' in same.headers);
  for (const method of ['GET', 'HEAD']) {
    const empty = await request(proxy.port(), { path: '/empty', method });
    t.is(empty.headers['content-length'], '0', method);
  }
  const json = await request(proxy.port(), { path: '/json', method: 'POST', body: 'read and thrown away' });
  t.is(json.status, 201);
  t.is(json.headers['content-type'], 'application/json');
  t.is(json.text, '{"a":1}');
  const closed = await request(proxy.port(), { path: '/closed' });
  t.is(closed.status, 503);
  t.is(closed.text, 'closed\n');
  t.is(closed.headers['content-type'], 'text/plain; charset=utf-8');
  t.false('proxy-status' in closed.headers);
});

const HSTS = 'max-age=31536000';
const answersItself = (closed: number) =>
  web({
    routes: [
      {
        match: { path: '/old/*' },
        redirect: { scheme: 'https', path: '/new/*', status: 308 },
        response: { setHeaders: { 'strict-transport-security': HSTS }, addHeaders: { vary: ['a', 'b'] } },
      },
      {
        match: { path: '/preflight' },
        respond: 204,
        response: { setHeaders: { 'access-control-allow-origin': '*' } },
      },
      {
        match: { path: '/typed' },
        respond: { status: 200, body: '{}' },
        response: { setHeaders: { 'Content-Type': 'application/problem+json' } },
      },
      {
        match: { path: '/untyped' },
        respond: { status: 200, body: 'hi' },
        response: { removeHeaders: ['Content-Type', 'not-there'] },
      },
      {
        match: { path: '/broken' },
        to: `127.0.0.1:${closed}`,
        response: { setHeaders: { 'x-mark': 'yes' }, removeHeaders: ['proxy-status'] },
      },
    ],
  });

for (const version of ['HTTP/1', 'HTTP/2'] as const) {
  test(`${version}: responses and redirects made here carry what the route changes; errors do not`, async (t) => {
    const proxy = await startSidecar(t, answersItself(await closedPort()));
    const session = version === 'HTTP/2' && (await http2Connect(t, proxy.url()));
    const get = (path: string, headers: Record<string, string> = {}) =>
      session
        ? ask(session, { ':path': path, ':authority': 'shop.test', ...headers })
        : request(proxy.port(), { path, headers: { host: 'shop.test', ...headers } });

    const moved = await get('/old/a?b');
    t.is(moved.status, 308);
    t.is(moved.headers.location, 'https://shop.test/new/a?b');
    t.is(moved.headers['strict-transport-security'], HSTS);
    t.is(moved.headers.vary, 'a, b');

    const preflight = await get('/preflight');
    t.is(preflight.status, 204);
    t.is(preflight.headers['access-control-allow-origin'], '*');
    t.false('content-length' in preflight.headers);
    t.false('content-type' in preflight.headers);

    // A gRPC caller gets the route's own response too.
    for (const type of ['text/plain', 'application/grpc']) {
      const typed = await get('/typed', { 'content-type': type });
      t.is(typed.status, 200);
      t.is(typed.headers['content-type'], 'application/problem+json');
      t.is(typed.text, '{}');
    }
    const untyped = await get('/untyped');
    t.false('content-type' in untyped.headers);
    t.is(untyped.headers['content-length'], '2');
    t.is(untyped.text, 'hi');

    const broken = await get('/broken');
    t.is(broken.status, 502);
    t.false('x-mark' in broken.headers);
    t.is(proxyStatus(broken.headers).details, 'connect_refused');
  });
}

test('several routes, each with its own changes, on one connection', async (t) => {
  const origin = await httpOrigin(t, echo);
  const proxy = await startSidecar(
    t,
    web({
      routes: Array.from({ length: 20 }, (_, n) => ({
        match: { path: `/${n}` },
        to: origin.address,
        setHeaders: { 'x-route': String(n) },
        response: { setHeaders: { 'x-back': String(n) } },
      })),
    }),
  );
  await Promise.all(
    Array.from({ length: 100 }, async (_, n) => {
      const answer = await request(proxy.port(), { path: `/${n % 20}` });
      t.is(echoed(answer).headers['x-route'], String(n % 20));
      t.is(answer.headers['x-back'], String(n % 20));
    }),
  );
});
