// Is TLS towards servers verified, and does every way to fail have its own name?

import { readFileSync } from 'node:fs';
import test from 'ava';
import type { ClusterConfig } from '../../src/config/index.js';
import { Authority } from '../support/certificates.js';
import { startEmbedded } from '../support/embedded.js';
import { httpOrigin, keepAliveAgent, proxyStatus, request } from '../support/http.js';
import { startSidecar, web } from '../support/sidecar.js';
import { httpsOrigin } from '../support/tls.js';

/** The servers are of this process, which may stand still amid a handshake. */
const timeouts = { connect: '20s' };

const to = (app: ClusterConfig) =>
  web({ routes: [{ to: 'app' }] }, { clusters: { app: { timeouts, ...app } } });

test('a server with a good certificate is used, its name sent and verified, its connection kept', async (t) => {
  const authority = await Authority.create(t);
  const origin = await httpsOrigin(t, await authority.sign({ names: ['app.test'] }));
  const proxy = await startEmbedded(
    t,
    to({
      endpoints: [origin.address],
      protocol: 'http1',
      tls: { serverName: 'app.test', roots: authority.root },
    }),
  );
  const agent = keepAliveAgent(t);
  for (let n = 0; n < 20; n += 1) t.is((await request(proxy.port(), { agent })).text, 'origin');
  t.deepEqual(origin.names, ['app.test']);
  t.deepEqual(origin.protocols, ['http/1.1']);
  t.is((await proxy.cluster('app')).poolHits, 19);
});

for (const [what, names, options, details] of [
  ['for another name', ['other.test'], {}, 'upstream_name'],
  ['of an unknown authority', ['app.test'], { stranger: true }, 'upstream_certificate'],
  ['that is expired', ['app.test'], { expired: true }, 'upstream_certificate'],
  ['for clients only', ['app.test'], { client: true }, 'upstream_certificate'],
] as const) {
  test(`a certificate ${what}: 502 with its reason, and nothing is sent`, async (t) => {
    const authority = await Authority.create(t);
    const {
      stranger = false,
      expired = false,
      client = false,
    } = options as Record<string, boolean | undefined>;
    const signer = stranger ? await Authority.create(t) : authority;
    const origin = await httpsOrigin(t, await signer.sign({ names: [...names], expired, client }));
    const proxy = await startEmbedded(
      t,
      to({
        endpoints: [origin.address],
        protocol: 'http1',
        tls: { serverName: 'app.test', roots: authority.root },
      }),
    );
    const answer = await request(proxy.port());
    t.is(answer.status, 502);
    t.deepEqual(proxyStatus(answer.headers), { error: 'tls_certificate_error', details });
    t.is(origin.handshakes, 0);
    t.is((await proxy.cluster('app')).connectFailures[details], 1);
  });
}

test('a server that speaks no TLS: 502 with its reason', async (t) => {
  const origin = await httpOrigin(t);
  const authority = await Authority.create(t);
  const proxy = await startSidecar(
    t,
    to({ endpoints: [origin.address], tls: { serverName: 'app.test', roots: authority.root } }),
  );
  const answer = await request(proxy.port());
  t.is(answer.status, 502);
  t.deepEqual(proxyStatus(answer.headers), { error: 'tls_protocol_error', details: 'upstream_tls' });
  t.is(origin.requests, 0);
});

test('an IP address as the name to verify: sent as no SNI', async (t) => {
  const authority = await Authority.create(t);
  const origin = await httpsOrigin(t, await authority.sign({ names: ['IP:127.0.0.1'] }));
  const proxy = await startSidecar(
    t,
    to({
      endpoints: [origin.address],
      protocol: 'http1',
      tls: { serverName: '127.0.0.1', roots: authority.root },
    }),
  );
  t.is((await request(proxy.port())).text, 'origin');
  t.deepEqual(origin.names, [false]);
});

test('a client certificate: shown to a server that asks, 502 where it is missing', async (t) => {
  const authority = await Authority.create(t);
  const origin = await httpsOrigin(t, await authority.sign({ names: ['app.test'] }), {
    ca: readFileSync(authority.root),
    requestCert: true,
    rejectUnauthorized: true,
  });
  const mine = await authority.sign({ names: ['proxy.test'], client: true });
  const tls = { serverName: 'app.test', roots: authority.root };
  const proxy = await startSidecar(t, {
    listeners: [
      { name: 'with', address: '127.0.0.1:0', routes: [{ to: 'with' }] },
      { name: 'without', address: '127.0.0.1:0', routes: [{ to: 'without' }] },
    ],
    clusters: {
      with: { endpoints: [origin.address], protocol: 'http1', tls: { ...tls, ...mine }, timeouts },
      without: { endpoints: [origin.address], protocol: 'http1', tls, timeouts },
    },
  });
  t.is((await request(proxy.port('with'))).text, 'origin');
  t.deepEqual(origin.clients, ['proxy.test']);
  const answer = await request(proxy.port('without'));
  t.is(answer.status, 502);
});

test('TLS on both sides, and the way between in one piece', async (t) => {
  const authority = await Authority.create(t);
  const origin = await httpsOrigin(t, await authority.sign({ names: ['app.test'] }));
  const front = await authority.sign({ names: ['front.test'] });
  const proxy = await startSidecar(
    t,
    web(
      { tls: front, routes: [{ to: 'app' }] },
      {
        clusters: {
          app: {
            endpoints: [origin.address],
            protocol: 'http1',
            tls: { serverName: 'app.test', roots: authority.root },
            timeouts,
          },
        },
      },
    ),
  );
  const { must } = await import('../support/processes.js');
  const out = await must('curl', [
    '-sS',
    '--http1.1',
    '--cacert',
    authority.root,
    '--resolve',
    `front.test:${proxy.port()}:127.0.0.1`,
    `https://front.test:${proxy.port()}/`,
  ]);
  t.is(out, 'origin');
});

test('a TCP stream may be carried over TLS to its server', async (t) => {
  const authority = await Authority.create(t);
  const origin = await httpsOrigin(t, await authority.sign({ names: ['app.test'] }));
  const proxy = await startSidecar(
    t,
    web(
      { protocol: 'tcp', tcp: 'app' },
      {
        clusters: {
          app: {
            endpoints: [origin.address],
            tls: { serverName: 'app.test', roots: authority.root },
            timeouts,
          },
        },
      },
    ),
  );
  // To the proxy these are bytes.
  t.is((await request(proxy.port())).text, 'origin');
});
