// Is a decision that is shown the decision that is taken?
//
// A real proxy serves requests that meet every route or miss them, many ways each. Each must end as `routeRequest` says:
// at that cluster with that path and host, or with that status and reason.

import test from 'ava';
import { type Config, type DescribedRequest, parseConfig, routeRequest } from '../../src/index.js';
import { type Echo, echoed, httpOrigin, keepAliveAgent, proxyStatus, request } from '../support/http.js';
import { startSidecar } from '../support/sidecar.js';

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
