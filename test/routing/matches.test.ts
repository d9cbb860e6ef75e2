// Does each kind of match choose its route through a real proxy, and the most specific one win?

import test from 'ava';
import type { RouteConfig } from '../../src/config/index.js';
import { request } from '../support/http.js';
import { startSidecar, web } from '../support/sidecar.js';

/** Routes that answer with their names. They stand from vague to specific, so that order would choose wrongly. */
function named(matches: Record<string, RouteConfig['match']>): RouteConfig[] {
  return Object.entries(matches).map(([name, match]) => ({
    ...(match && { match }),
    respond: { status: 200, body: name },
  }));
}

const routes = named({
  any: undefined,
  'any host of shop': { host: '*.shop.test' },
  'any host of eu.shop': { host: '*.eu.shop.test' },
  'the shop': { host: 'shop.test' },
  'shop, prefix': { host: 'shop.test', path: '/a/*' },
  'shop, longer prefix': { host: 'shop.test', path: '/a/b/*' },
  'shop, template': { host: 'shop.test', path: '/users/{id}' },
  'shop, template with rest': { host: 'shop.test', path: '/files/{path*}' },
  'shop, regex': { host: 'shop.test', path: '~/v[0-9]+/x' },
  'shop, exact': { host: 'shop.test', path: '/a/b/c' },
  'shop, exact, POST': { host: 'shop.test', path: '/a/b/c', method: 'POST' },
  'shop, exact, PUT or PATCH': { host: 'shop.test', path: '/a/b/c', method: ['PUT', 'PATCH'] },
  'shop, header': { host: 'shop.test', path: '/a/b/c', headers: { 'x-beta': true } },
  'shop, header exact': { host: 'shop.test', path: '/h', headers: { 'x-kind': 'tea' } },
  'shop, header absent': { host: 'shop.test', path: '/absent', headers: { 'x-kind': false } },
  'shop, header prefix': { host: 'shop.test', path: '/prefix', headers: { 'x-kind': { prefix: 'te' } } },
  'shop, header regex': { host: 'shop.test', path: '/regex', headers: { 'x-kind': { regex: '[a-z]{3}' } } },
  'shop, header suffix, not': {
    host: 'shop.test',
    path: '/not',
    headers: { 'x-kind': { suffix: 'a', not: true } },
  },
  'shop, query': { host: 'shop.test', path: '/q', query: { page: { regex: '[0-9]+' } } },
  'shop, two queries': { host: 'shop.test', path: '/q', query: { page: { regex: '[0-9]+' }, sort: 'up' } },
  'a service': { host: 'shop.test', grpc: 'shop.Basket' },
  'a method': { host: 'shop.test', grpc: 'shop.Basket/Add' },
});

const GRPC = { 'content-type': 'application/grpc' };
const cases: [
  what: string,
  asked: { host?: string; path?: string; method?: string; headers?: Record<string, string> },
  route: string,
][] = [
  ['nothing fits', { host: 'other.test' }, 'any'],
  ['wildcard host', { host: 'x.shop.test' }, 'any host of shop'],
  ['wildcard host, several labels', { host: 'x.y.shop.test' }, 'any host of shop'],
  ['the longer wildcard', { host: 'x.eu.shop.test' }, 'any host of eu.shop'],
  ['exact host', { host: 'shop.test' }, 'the shop'],
  ['a host in other letters, with a port', { host: 'SHOP.test:8080' }, 'the shop'],
  ['a suffix of a label is no match', { host: 'myshop.test' }, 'any'],
  ['prefix', { host: 'shop.test', path: '/a/x' }, 'shop, prefix'],
  ['prefix, the very one', { host: 'shop.test', path: '/a' }, 'shop, prefix'],
  ['prefix, on segment borders only', { host: 'shop.test', path: '/ab' }, 'the shop'],
  ['the longer prefix', { host: 'shop.test', path: '/a/b/x/y' }, 'shop, longer prefix'],
  ['template', { host: 'shop.test', path: '/users/7' }, 'shop, template'],
  ['template takes one segment', { host: 'shop.test', path: '/users/7/x' }, 'the shop'],
  ['template with the rest', { host: 'shop.test', path: '/files/x/y/z' }, 'shop, template with rest'],
  ['regex', { host: 'shop.test', path: '/v12/x' }, 'shop, regex'],
  ['regex takes the whole path', { host: 'shop.test', path: '/v12/x/y' }, 'the shop'],
  ['exact', { host: 'shop.test', path: '/a/b/c' }, 'shop, exact'],
  ['exact, whatever the query', { host: 'shop.test', path: '/a/b/c?x=/d' }, 'shop, exact'],
  ['a path in its normal form', { host: 'shop.test', path: '/a/./x/../b//c' }, 'shop, exact'],
  ['escapes of plain letters are undone', { host: 'shop.test', path: '/%61/b/%63' }, 'shop, exact'],
  ['method', { host: 'shop.test', path: '/a/b/c', method: 'POST' }, 'shop, exact, POST'],
  ['one of the methods', { host: 'shop.test', path: '/a/b/c', method: 'PATCH' }, 'shop, exact, PUT or PATCH'],
  ['header present', { host: 'shop.test', path: '/a/b/c', headers: { 'X-Beta': '' } }, 'shop, header'],
  ['header exact', { host: 'shop.test', path: '/h', headers: { 'x-kind': 'tea' } }, 'shop, header exact'],
  ['header is another', { host: 'shop.test', path: '/h', headers: { 'x-kind': 'coffee' } }, 'the shop'],
  ['header absent', { host: 'shop.test', path: '/absent' }, 'shop, header absent'],
  ['header not absent', { host: 'shop.test', path: '/absent', headers: { 'x-kind': 'x' } }, 'the shop'],
  [
    'header prefix',
    { host: 'shop.test', path: '/prefix', headers: { 'x-kind': 'tee' } },
    'shop, header prefix',
  ],
  ['header regex', { host: 'shop.test', path: '/regex', headers: { 'x-kind': 'tea' } }, 'shop, header regex'],
  [
    'header regex takes the whole value',
    { host: 'shop.test', path: '/regex', headers: { 'x-kind': 'teas' } },
    'the shop',
  ],
  [
    'header turned round',
    { host: 'shop.test', path: '/not', headers: { 'x-kind': 'tee' } },
    'shop, header suffix, not',
  ],
  ['query', { host: 'shop.test', path: '/q?page=3' }, 'shop, query'],
  ['query, decoded', { host: 'shop.test', path: '/q?p%61ge=%33' }, 'shop, query'],
  ['query is no number', { host: 'shop.test', path: '/q?page=x' }, 'the shop'],
  ['more conditions win', { host: 'shop.test', path: '/q?sort=up&page=3' }, 'shop, two queries'],
  [
    'gRPC service',
    { host: 'shop.test', path: '/shop.Basket/Remove', method: 'POST', headers: GRPC },
    'a service',
  ],
  ['gRPC method', { host: 'shop.test', path: '/shop.Basket/Add', method: 'POST', headers: GRPC }, 'a method'],
  ['the same path, no gRPC', { host: 'shop.test', path: '/shop.Basket/Add', method: 'POST' }, 'the shop'],
];

test('one request for each kind of match', async (t) => {
  const proxy = await startSidecar(t, web({ routes }));
  for (const [what, { host = 'a.test', headers, ...asked }, route] of cases) {
    const answer = await request(proxy.port(), { ...asked, headers: { host, ...headers } });
    t.is(answer.text, route, what);
  }
});

test('the order in which routes are written means nothing', async (t) => {
  const proxy = await startSidecar(t, web({ routes: routes.toReversed() }));
  for (const [what, { host = 'a.test', headers, ...asked }, route] of cases) {
    const answer = await request(proxy.port(), { ...asked, headers: { host, ...headers } });
    t.is(answer.text, route, what);
  }
});

test('a path is forwarded as it was routed', async (t) => {
  const proxy = await startSidecar(t, {
    listeners: [
      { name: 'strict', address: '127.0.0.1:0', routes: [{ match: { path: '/a/*' }, respond: 200 }] },
      {
        name: 'keeps',
        address: '127.0.0.1:0',
        escapedSlashes: 'keep',
        routes: [{ match: { path: '/a/*' }, respond: 200 }],
      },
    ],
  });
  for (const path of ['/a/%2f', '/a/%5c', '/a/%00', '/a/%2F..%2fb']) {
    t.is((await request(proxy.port('strict'), { path })).status, 400, path);
  }
  t.is((await request(proxy.port('keeps'), { path: '/a/x%2fy' })).status, 200);
  t.is((await request(proxy.port('keeps'), { path: '/a/x%00' })).status, 400);
  t.is((await request(proxy.port('strict'), { path: '/a/../b' })).status, 404);
});
