// Is a server that was found by its name verified by the roots that the system trusts, when nothing else is said?

import test, { type ExecutionContext } from 'ava';
import { NameServer } from '../support/name-server.js';
import { Authority } from '../support/certificates.js';
import { proxyStatus, request } from '../support/http.js';
import { type Sidecar, startSidecar, web } from '../support/sidecar.js';
import { type TlsOrigin, httpsOrigin } from '../support/tls.js';

/** A server whose certificate this authority signed, and a sidecar on a system that trusts `trusted`. */
async function before(
  t: ExecutionContext,
  authority: Authority,
  trusted: Authority,
): Promise<{ origin: TlsOrigin; proxy: Sidecar }> {
  const names = await NameServer.start(t);
  names.host('app.test', ['127.0.0.1']);
  const origin = await httpsOrigin(t, await authority.sign({ names: ['app.test'] }));
  // The server is of this process, which may stand still amid a handshake.
  const timeouts = { connect: '20s' };
  const proxy = await startSidecar(
    t,
    web(
      { routes: [{ to: 'app' }] },
      { clusters: { app: { dns: `app.test:${origin.port}`, protocol: 'http1', tls: true, timeouts } } },
    ),
    { env: { MESH_DNS_SERVER: names.address, SSL_CERT_FILE: trusted.root } },
  );
  return { origin, proxy };
}

test('a server of an authority that the system trusts is used, and asked for by its name', async (t) => {
  const authority = await Authority.create(t);
  const { origin, proxy } = await before(t, authority, authority);
  const { status, text } = await request(proxy.port());
  t.deepEqual([status, text], [200, 'origin']);
  t.deepEqual(origin.names, ['app.test']);
});

test('a server of any other authority: 502 with its reason, and nothing is sent', async (t) => {
  const { origin, proxy } = await before(t, await Authority.create(t), await Authority.create(t, 'another'));
  const answer = await request(proxy.port());
  t.is(answer.status, 502);
  t.deepEqual(proxyStatus(answer.headers), {
    error: 'tls_certificate_error',
    details: 'upstream_certificate',
  });
  t.is(origin.handshakes, 0);
});
