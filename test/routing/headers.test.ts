// Do conditions on headers hold for what is sent on, whoever asks in whichever version of HTTP?

import test from 'ava';
import type { RouteConfig } from '../../src/config/index.js';
import { Authority } from '../support/certificates.js';
import { httpOrigin, request } from '../support/http.js';
import { ask, http2Connect } from '../support/http2.js';
import { startSidecar, web } from '../support/sidecar.js';
import { connect } from '../support/tcp.js';

/** A route that answers with its name. */
function says(name: string, headers?: NonNullable<RouteConfig['match']>['headers']): RouteConfig {
  return { ...(headers && { match: { headers } }), respond: { status: 200, body: name } };
}

const CLAIMS = {
  'x-forwarded-proto': 'https',
  'x-forwarded-for': '10.9.9.9',
  'x-forwarded-host': 'claimed.test',
  'x-request-id': 'claimed',
  'x-mesh-peer': 'spiffe://mesh.local/ns/default/sa/claimed',
  forwarded: 'for=10.9.9.9',
};

test('no route goes by what a client that is not trusted says of its way here', async (t) => {
  for (const [name, value] of Object.entries(CLAIMS)) {
    for (const condition of [value, true] as const) {
      // Of the proxy's own word there is always some.
      if (condition === true && /-(proto|for)$/.test(name)) continue;
      const proxy = await startSidecar(
        t,
        web({ routes: [says('claimed', { [name]: condition }), says('other')] }),
      );
      const answer = await request(proxy.port(), { headers: CLAIMS });
      t.is(answer.text, 'other', `${name}: ${condition}`);
      const session = await http2Connect(t, `http://127.0.0.1:${proxy.port()}`);
      t.is((await ask(session, CLAIMS)).text, 'other', `${name}: ${condition}, HTTP/2`);
    }
  }
});

test('one that is trusted is believed, except in who called', async (t) => {
  for (const [name, value] of Object.entries(CLAIMS)) {
    const routes = [says('claimed', { [name]: value }), says('other')];
    const proxy = await startSidecar(t, web({ routes, trustedNetworks: ['127.0.0.0/8'] }));
    const believed = name === 'x-mesh-peer' ? 'other' : 'claimed';
    t.is((await request(proxy.port(), { headers: CLAIMS })).text, believed, name);
    // What `connection` takes away is not sent on, and nothing goes by it.
    const hop = await request(proxy.port(), { headers: { ...CLAIMS, connection: `close, ${name}` } });
    t.is(hop.text, 'other', name);
  }
});

test('servers that take _ for - are not told who called, even by one that is trusted', async (t) => {
  const origin = await httpOrigin(t);
  const proxy = await startSidecar(
    t,
    web({ routes: [{ to: origin.address }], trustedNetworks: ['127.0.0.0/8'] }),
  );
  const session = await http2Connect(t, `http://127.0.0.1:${proxy.port()}`);
  for (const name of ['X-Mesh-Peer', 'X_Mesh_Peer', 'x_mesh-peer', 'X-MESH_PEER']) {
    const { text } = await request(proxy.port(), { headers: { [name]: 'claimed' } });
    t.notRegex(text, /claimed/, name);
    const inside = await ask(session, { [name.toLowerCase()]: 'claimed' });
    t.is(inside.status, 200);
    t.notRegex(inside.text, /claimed/, name);
  }
});

test('`x-forwarded-proto` and `x-forwarded-for` are what the server will read', async (t) => {
  const authority = await Authority.create(t);
  const tls = await authority.sign({ names: ['a.test'] });
  const routes = [
    says('secure', { 'x-forwarded-proto': 'https', 'x-forwarded-for': '127.0.0.1' }),
    says('plain', { 'x-forwarded-proto': 'http', 'x-forwarded-for': '127.0.0.1' }),
    says('neither'),
  ];
  const proxy = await startSidecar(t, {
    listeners: [
      { name: 'plain', address: '127.0.0.1:0', routes },
      { name: 'tls', address: '127.0.0.1:0', routes, tls: { certificate: tls.certificate, key: tls.key } },
    ],
  });
  t.is((await request(proxy.port('plain'), { headers: CLAIMS })).text, 'plain');
  const session = await http2Connect(t, `https://127.0.0.1:${proxy.port('tls')}`, {
    rejectUnauthorized: false,
    servername: 'a.test',
  });
  t.is((await ask(session, CLAIMS)).text, 'secure');
});

test('`host` is the authority, without case, port and final dot, in every version', async (t) => {
  const routes: RouteConfig[] = [
    { match: { headers: { host: 'Admin.test:8080' } }, respond: { status: 403 } },
    says('of a team', { host: { suffix: '.Team.test' } }),
    says('any'),
  ];
  const proxy = await startSidecar(t, web({ routes }));
  for (const [host, outcome] of [
    ['admin.test', 403],
    ['ADMIN.test', 403],
    ['admin.test:80', 403],
    ['admin.test.', 403],
    ['Admin.Test.:1', 403],
    ['a.team.test:9', 'of a team'],
    ['A.TEAM.TEST', 'of a team'],
    ['admin.test.other', 'any'],
  ] as const) {
    const session = await http2Connect(t, `http://127.0.0.1:${proxy.port()}`);
    const absolute = await connect(t, proxy.port());
    await absolute.send(`GET http://${host}/ HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    const { status, body } = await absolute.response();
    for (const answer of [
      await request(proxy.port(), { headers: { host } }),
      await ask(session, { ':authority': host }),
      { status, text: body },
    ])
      t.is(answer.status === 200 ? answer.text : answer.status, outcome, host);
  }
});

test('cookies are one value, whole or in crumbs', async (t) => {
  const routes = [
    says('beta', { cookie: { regex: '(.*; )?beta=1(; .*)?' } }),
    says('not beta', { cookie: { regex: '(.*; )?beta=0(; .*)?' } }),
    says('all', { cookie: 'a=1; b=2' }),
    says('other'),
  ];
  const proxy = await startSidecar(t, web({ routes }));
  const session = await http2Connect(t, `http://127.0.0.1:${proxy.port()}`);
  for (const [crumbs, name] of [
    [['a=1', 'beta=1'], 'beta'],
    [['beta=0', 'a=1', 'c=3'], 'not beta'],
    [['a=1', 'b=2'], 'all'],
    [['b=2', 'a=1'], 'other'],
  ] as const) {
    t.is((await request(proxy.port(), { headers: { cookie: crumbs.join('; ') } })).text, name);
    t.is((await ask(session, { cookie: crumbs.join('; ') })).text, name);
    t.is((await ask(session, { cookie: [...crumbs] })).text, name);
  }
  // HTTP/1 knows no crumbs, and servers differ in which of several lines they read.
  const peer = await connect(t, proxy.port());
  await peer.send('GET / HTTP/1.1\r\nHost: a\r\nCookie: a=1\r\nCookie: beta=1\r\n\r\n');
  t.is((await peer.response()).body, 'other');
});
