// Who is let in where client certificates are asked for?

import { readFileSync } from 'node:fs';
import { once } from 'node:events';
import test from 'ava';
import { Authority, type Certificate } from '../support/certificates.js';
import { startEmbedded } from '../support/embedded.js';
import { web } from '../support/sidecar.js';
import { tlsConnect } from '../support/tls.js';
import { until } from '../support/wait.js';

type Test = Parameters<typeof startEmbedded>[0];

async function world(t: Test, optional: boolean) {
  const authority = await Authority.create(t, 'clients and servers');
  const strangers = await Authority.create(t, 'strangers');
  const server = await authority.sign({ names: ['a.test'] });
  const proxy = await startEmbedded(
    t,
    web({
      tls: { ...server, clientCertificates: { roots: authority.root, optional } },
      routes: [{ respond: { status: 200, body: 'in' } }],
    }),
  );
  /** The status line, or undefined when the connection was refused. TLS 1.3 clients learn that after the handshake. */
  const ask = async (
    shown: Certificate | undefined,
    maxVersion: 'TLSv1.2' | 'TLSv1.3',
  ): Promise<string | undefined> => {
    try {
      const { socket } = await tlsConnect(t, proxy.port(), {
        ca: authority.root,
        servername: 'a.test',
        maxVersion,
        ...(shown && { cert: readFileSync(shown.certificate), key: readFileSync(shown.key) }),
      });
      socket.write('GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n');
      let said = '';
      socket.on('data', (chunk: Buffer) => {
        said += chunk.toString();
      });
      await once(socket, 'close');
      return said.split('\r\n')[0] || undefined;
    } catch {
      return undefined;
    }
  };
  return { authority, strangers, proxy, ask };
}

for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
  test(`required, over ${version}: a good one is let in; none, a stranger's, an expired one and a server's are not`, async (t) => {
    const { authority, strangers, proxy, ask } = await world(t, false);
    t.is(await ask(await authority.sign({ names: ['me'], client: true }), version), 'HTTP/1.1 200 OK');
    t.is(await ask(undefined, version), undefined);
    t.is(await ask(await strangers.sign({ names: ['me'], client: true }), version), undefined);
    t.is(await ask(await authority.sign({ names: ['me'], client: true, expired: true }), version), undefined);
    t.is(await ask(await authority.sign({ names: ['me'] }), version), undefined);
    // What a client has seen is counted a moment later.
    const { closedBy, tlsFailures } = await until('all are counted', async () => {
      const listener = await proxy.listener();
      return (listener.closedBy['client_certificate'] ?? 0) >= 4 && listener;
    });
    t.is(closedBy['client_certificate'], 4, JSON.stringify(closedBy));
    t.is(tlsFailures, 4);
  });

  test(`optional, over ${version}: none is let in; a bad one is not`, async (t) => {
    const { authority, strangers, ask } = await world(t, true);
    t.is(await ask(await authority.sign({ names: ['me'], client: true }), version), 'HTTP/1.1 200 OK');
    t.is(await ask(undefined, version), 'HTTP/1.1 200 OK');
    t.is(await ask(await strangers.sign({ names: ['me'], client: true }), version), undefined);
  });
}
