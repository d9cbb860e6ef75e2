// Is a decision that is shown the decision that is taken?
//
// A real proxy serves requests that meet every route or miss them, many ways each. Each must end as `routeRequest` says:
// at that cluster with that path and host, or with that status and reason.

import test from 'ava';
import { type Config, type DescribedRequest, parseConfig, routeRequest } from '../../src/index.js';
import { type Echo, echoed, httpOrigin, keepAliveAgent, proxyStatus, request } from '../support/http.js';
import { startSidecar } from '../support/sidecar.js';
import { connect } from '../support/tcp.js';

const configOf = (one: string, two: string): Config => ({
  listeners: [
    {
      name: 'web',
      address: '127.0.0.1:0',
      routes: [
        { match: { host: 'shop.test', path: '/api/*' }, to: 'one', rewritePath: '/v2/*' },
        { match: { host: 'shop.test', path: '/api/*', method: ['PUT', 'DELETE'] }, to: 'two' },
        { match: { host: 'shop.test', path: '/api/items' }, to: 'two', host: 'upstream.test' },
        { match: { host: 'shop.test', path: '/users/{id}' }, to: 'one' },
        { match: { host: 'shop.test', path: '/users/{id}/{rest*}', headers: { 'x-beta': '1' } }, to: 'two' },
        { match: { host: 'shop.test', path: '~/r[0-9]+' }, to: 'one' },
        { match: { host: 'shop.test', path: '/old/*' }, redirect: { path: '/new', status: 308 } },
        { match: { host: '*.shop.test', query: { page: '2' } }, to: 'two' },
        { match: { host: '*.shop.test' }, respond: { status: 418, body: 'no' } },
        { match: { host: 'calls.test', grpc: 'shop.v1.Basket' }, respond: { status: 200, body: 'called' } },
      ],
    },
  ],
  clusters: { one: { endpoints: [one] }, two: { endpoints: [two] } },
});

const HOSTS = ['shop.test', 'SHOP.test', 'a.shop.test:81', 'b.a.shop.test', 'calls.test', 'else.test'];
const PATHS = [
  '/',
  '/api',
  '/api/',
  '/api/items',
  '/api/items?',
  '/api/items?page=2',
  '/api//x/../items',
  '/%61pi/x',
  '/api%2fx',
  '/apis',
  '/users/7',
  '/users//7',
  '/users/7/a/b',
  '/users/7/..;/b',
  '/r12?page=%32',
  '/r12/x',
  '/old/a?b=c',
  '/shop.v1.Basket/Get',
  '/../x',
];
const VARIANTS: { method?: string; headers?: Record<string, string | string[]> }[] = [
  {},
  { method: 'PUT' },
  { headers: { 'x-beta': '1' } },
  { headers: { 'x-beta': ['1', '2'] } },
];
/** A call. Servers are called over HTTP/2, and those here speak HTTP/1: only for hosts whose routes answer themselves. */
const CALL = { method: 'POST', headers: { 'content-type': 'application/grpc+proto' } };
const CALLED = new Set(['calls.test', 'else.test']);

test('requests end as the decision says', async (t) => {
  const [one, two] = [await httpOrigin(t), await httpOrigin(t)];
  const config = configOf(one.address, two.address);
  const { resources } = parseConfig(JSON.stringify(config)).compiled;
  const proxy = await startSidecar(t, config);
  const agent = keepAliveAgent(t);
  const kinds = new Set<string>();
  const requests: DescribedRequest[] = HOSTS.flatMap((host) =>
    PATHS.flatMap((path) =>
      [...VARIANTS, ...(CALLED.has(host) ? [CALL] : [])].map((variant) => ({ ...variant, host, path })),
    ),
  );
  for (const asked of requests) {
    const { outcome } = routeRequest(resources, asked);
    const { method = 'GET', path = '', host = '', headers = {} } = asked;
    const before = one.requests;
    const sent = { ...(headers as Record<string, string | string[]>), host };
    const answer = await request(proxy.port(), { agent, method, path, headers: sent });
    const { status, headers: fields, text } = answer;
    const about = JSON.stringify({ asked, outcome, status, fields, text });
    kinds.add(outcome.kind);
    switch (outcome.kind) {
      case 'forward': {
        t.true(answer.text.startsWith('{'), about);
        const seen: Echo = echoed(answer);
        t.deepEqual([seen.method, seen.url, seen.headers.host], [method, outcome.path, outcome.host], about);
        const reached: string = one.requests > before ? 'one' : 'two';
        t.deepEqual(
          [reached],
          outcome.clusters.map(({ cluster }) => cluster),
          about,
        );
        break;
      }
      case 'redirect':
        t.deepEqual([answer.status, answer.headers.location], [outcome.status, outcome.location], about);
        break;
      case 'respond':
        t.deepEqual([answer.status, answer.text], [outcome.status, outcome.body], about);
        break;
      case 'refused':
        if (outcome.grpcStatus === undefined) t.is(answer.status, outcome.status, about);
        else t.is(answer.headers['grpc-status'], String(outcome.grpcStatus), about);
        t.is(proxyStatus(answer.headers).details.replace(/: .*/, ''), outcome.reason, about);
        break;
      default:
        t.fail(about);
    }
  }
  t.deepEqual([...kinds].toSorted(), ['forward', 'redirect', 'refused', 'respond']);
});

/** Heads at the border of what is read, most of them beyond it. */
const ODD: { method?: string; host?: string; path?: string; headers?: Record<string, string | string[]> }[] =
  [
    ...'user@shop.test user:word@shop.test shop.test:99999 shop.test:8x shop.test: shop.test:0 a,b a"b 1.2.3 -a A_b'
      .split(' ')
      .map((host) => ({ host })),
    ...'[::1%25lo] [::1 ::1 [v1.a] [::1]:80 xn--é %61.test shop.test\\x'.split(' ').map((host) => ({ host })),
    { host: 'a b' },
    { host: '' },
    ...['G T', 'GÉT', 'get', 'M-SEARCH', 'TRACE'].map((method) => ({ method })),
    ...['/a b', '/é', '/?é', '/#a', '/?a b', '/?%zz', '*', '/a\\b', '/%00'].map((path) => ({ path })),
    ...['x y', 'x(', 'é', '', ' x'].map((name) => ({ headers: { [name]: '1' } })),
    ...['\u0000', 'a\u0001', 'é', ' a ', '\u007F'].map((value) => ({ headers: { x: value } })),
    { headers: { host: ['a.test', 'a.test'] } },
    { headers: { 'content-length': 'x' } },
    { headers: { 'content-length': ['0', '0'] } },
    { headers: { 'transfer-encoding': 'gzip' } },
    { headers: { connection: 'a b' } },
    { headers: { expect: 'wonders' } },
    { headers: { x: Array.from({ length: 200 }, String) } },
    { headers: { x: 'x'.repeat(100_000) } },
    { method: 'CONNECT', host: 'shop.test' },
    { method: 'CONNECT', host: 'shop.test:0' },
    { method: 'CONNECT', host: 'user@shop.test:1' },
  ];

test('what the proxy does not read is refused in the same words', async (t) => {
  const config: Config = {
    listeners: [{ name: 'web', address: '127.0.0.1:0', routes: [{ respond: { status: 204 } }] }],
  };
  const { resources } = parseConfig(JSON.stringify(config)).compiled;
  const proxy = await startSidecar(t, config);
  let unread = 0;
  for (const asked of ODD) {
    const { method = 'GET', host = 'shop.test', path = '/', headers = {} } = asked;
    const fields = Object.entries(headers).flatMap(([name, values]) =>
      [values].flat().map((value) => `${name}: ${value}\r\n`),
    );
    const hosts = 'host' in headers ? '' : `host: ${host}\r\n`;
    const client = await connect(t, proxy.port());
    const target = method === 'CONNECT' ? host : path;
    client.send(Buffer.from(`${method} ${target} HTTP/1.1\r\n${hosts}${fields.join('')}\r\n`));
    const answer = await client.response(method);
    client.socket.destroy();
    const said = 'host' in headers ? { path } : { host, path };
    const described: DescribedRequest[] = [{ method, headers, ...said }];
    if (host !== '' && !('host' in headers))
      described.push({ method, headers, url: `http://${host}/`, path });
    for (const one of described) {
      const { outcome } = routeRequest(resources, one);
      const about = JSON.stringify({ one, outcome, answer }).slice(0, 2000);
      if (outcome.kind !== 'refused') {
        t.deepEqual([outcome.kind, answer.status], ['respond', 204], about);
        continue;
      }
      unread += 1;
      t.is(answer.status, outcome.status, about);
      const [reason = '', rule] = proxyStatus(answer.headers).details.split(': ');
      t.is(outcome.reason, reason, about);
      if (rule !== undefined) t.is(outcome.message, rule, about);
    }
  }
  t.true(unread > ODD.length, `${unread} were refused`);
});
