// What the tests of `@mesh/proxy/register` share: a sidecar with two services, and programs that call them.

import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { ExecutionContext } from 'ava';
import type { ListenerConfig } from '../../src/config/index.js';
import { Authority } from '../support/certificates.js';
import { httpOrigin } from '../support/http.js';
import { run } from '../support/processes.js';
import { cleanEnvironment, startSidecar, web } from '../support/sidecar.js';
import { httpsOrigin } from '../support/tls.js';

const REGISTER = pathToFileURL(join(process.cwd(), 'dist', 'register.js')).href;

/** A sidecar in front of `basket` (plain) and `vault` (TLS), and a server that is not of the mesh. */
export async function world(t: ExecutionContext, more: Pick<ListenerConfig, 'trustedNetworks'> = {}) {
  const authority = await Authority.create(t, 'authority');
  const basket = await httpOrigin(t);
  const vault = await httpsOrigin(t, await authority.sign({ names: ['vault', 'vault.default'] }), {
    name: 'vault',
  });
  const outside = await httpOrigin(t);
  const sidecar = await startSidecar(
    t,
    web({
      ...more,
      forwardProxy: true,
      routes: [
        { match: { host: ['basket', 'basket.default'] }, to: basket.address },
        { match: { host: ['vault', 'vault.default'] }, to: vault.address },
      ],
    }),
  );
  const env = {
    ...cleanEnvironment(),
    MESH_OUTBOUND: sidecar.address(),
    MESH_NAMES: 'basket,basket.default,vault,vault.default,closed',
    NODE_OPTIONS: `--import ${REGISTER}`,
    NODE_EXTRA_CA_CERTS: authority.root,
    OUTSIDE: outside.address,
  };
  return { basket, vault, outside, sidecar, env };
}

export type World = Awaited<ReturnType<typeof world>>;

/** Runs a program; gives the JSON that it prints. */
export async function program(
  t: ExecutionContext,
  { env }: Pick<World, 'env'>,
  code: string,
  { kind = 'module', node = process.execPath } = {},
): Promise<unknown> {
  const { stdout, stderr, code: exit } = await run(node, [`--input-type=${kind}`, '-e', code], { env });
  t.is(exit, 0, stderr);
  t.is(stderr, '');
  return JSON.parse(stdout.toString());
}

/** Functions that programs call with. */
export const BODY = `
const text = (response) => new Promise((resolve, reject) => {
  let all = '';
  response.setEncoding('utf8').on('data', (part) => { all += part; });
  response.on('end', () => resolve(all)).on('error', reject);
});
const get = (from, ...args) => new Promise((resolve, reject) => {
  from.request(...args, (response) => text(response).then(resolve, reject)).on('error', reject).end();
});
const seen = (json) => { const { url, headers } = JSON.parse(json); return [url, headers.host]; };
`;

/** What it prints then. */
export const EXPECTED = {
  plain: [
    ['/a?b=c', 'basket'],
    ['/x', 'BASKET.default:3000'],
    ['/own', 'basket'],
    ['/list', 'basket'],
  ],
  secure: ['vault', 'vault'],
  fetched: [
    ['/f?q=1', 'basket'],
    ['/port', 'basket:3000'],
    ['/request', 'basket'],
  ],
  posted: 'POST',
  vault: 'vault',
};

/** Calls that a program makes, as its function `main`, in all the ways it can. */
export const REQUESTS = `
const agent = new http.Agent({ keepAlive: true });
const print = (value) => console.log(JSON.stringify(value));
const main = async () => {
  const plain = [
    seen(await get(http, 'http://basket/a?b=c')),
    seen(await get(http, { host: 'BASKET.default', port: 3000, path: '/x', agent: false, headers: { host: 'basket.default:3000' } })),
    seen(await get(http, { hostname: 'basket', path: '/own', agent })),
    seen(await get(http, { hostname: 'basket', path: '/list', headers: ['host', 'basket', 'x-a', 'b'] })),
  ];
  const secure = [await get(https, 'https://vault/'), await get(https, { host: 'vault.default', agent: new https.Agent() })];
  const json = async (...args) => { const r = await fetch(...args); return r.text(); };
  const fetched = [
    seen(await json('http://basket/f?q=1')),
    seen(await json(new URL('http://basket:3000/port'), { headers: { 'x-a': 'b' } })),
    seen(await json(new Request('http://basket/request'))),
  ];
  const posted = JSON.parse(await json('http://basket/p', { method: 'POST', body: 'hello' })).method;
  const vault = await json('https://vault/');
  agent.destroy();
  print({ plain, secure, fetched, posted, vault });
};
`;

/** Calls by names that end with a dot, as one ends a name that is whole. */
export const WITH_DOT = `
const fetched = async (...args) => (await fetch(...args)).text();
const agent = new http.Agent({ keepAlive: true });
const plain = [
  await get(http, 'http://basket./a'),
  await get(http, { host: 'BASKET.default.', port: 3000, path: '/port', agent }),
  await get(http, { host: 'basket.', path: 'http://basket/absolute' }),
  await get(http, { host: 'basket', path: 'http://basket.:80/below' }),
  await get(http, 'http://basket./own', { headers: { host: 'basket' } }),
  await get(http, { host: 'basket.', path: '/list', headers: ['host', 'Basket:80', 'x-a', 'b'] }),
  await fetched('http://basket./f'),
  await fetched(new Request('http://basket.default.:3000/request')),
];
const forwarded = plain.filter((json) => JSON.parse(json).headers['x-forwarded-host'] !== undefined).length;
const secure = [
  await get(https, 'https://vault./'),
  await get(https, { host: 'vault.default.', agent: new https.Agent() }),
  await fetched('https://vault./'),
];
agent.destroy();
console.log(JSON.stringify({ plain: plain.map(seen), forwarded, secure }));
`;

/** What it prints then. */
export const WITH_DOT_SEEN = {
  plain: [
    ['/a', 'basket.'],
    ['/port', 'BASKET.default.:3000'],
    ['/absolute', 'basket.'],
    ['/below', 'basket'],
    ['/own', 'basket.'],
    ['/list', 'basket.'],
    ['/f', 'basket.'],
    ['/request', 'basket.default.:3000'],
  ],
  forwarded: 0,
  secure: ['vault', 'vault', 'vault'],
};

/** Calls by a program that stands between others: a caller's Host, paths as they came, and what asks a server itself. */
export const PASSED_ON = `
const host = 'shop.example';
const all = (json) => {
  const { method, url, headers } = JSON.parse(json);
  return [method, url, headers.host, headers['x-forwarded-host'] ?? null, headers['proxy-connection'] ?? null];
};
const passed = async () => {
  const answers = [
    await get(http, { host: 'basket', path: '//x/admin?y' }),
    await get(http, 'http://basket/o', { headers: { host } }),
    await get(http, { host: 'basket', path: '/l', headers: ['a', 'b', 'Host', host] }),
    await get(http, { host: 'basket', path: '/f', headers: { host, 'x-forwarded-host': 'first.example' } }),
    await get(http, { host: 'basket', path: '/80', headers: { host: 'BASKET:80' } }),
    await get(http, { host: 'basket', path: 'http://basket/absolute' }),
    await get(http, { host: 'basket', method: 'OPTIONS', path: '*' }),
    await (await fetch('http://basket/g', { headers: { host } })).text(),
  ];
  const other = await get(http, { host: 'basket', path: 'http://vault/' }).catch((error) => error.code);
  console.log(JSON.stringify([...answers.map(all), other]));
};
`;

/** What it prints then, through a sidecar that believes it, and that makes one slash of several. */
export const PASSED = [
  ['GET', '/x/admin?y', 'basket', null, null],
  ['GET', '/o', 'basket', 'shop.example', null],
  ['GET', '/l', 'basket', 'shop.example', null],
  ['GET', '/f', 'basket', 'first.example', null],
  ['GET', '/80', 'basket', null, null],
  ['GET', '/absolute', 'basket', null, null],
  ['OPTIONS', '*', 'basket', null, null],
  // `fetch` lets nobody name another host.
  ['GET', '/g', 'basket', null, null],
  'ERR_INVALID_ARG_VALUE',
];
