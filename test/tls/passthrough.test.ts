// Does TLS pass through unopened, by the name that the client asks for?

import { once } from 'node:events';
import test from 'ava';
import { Authority } from '../support/certificates.js';
import { startEmbedded } from '../support/embedded.js';
import { must } from '../support/processes.js';
import { startSidecar, web } from '../support/sidecar.js';
import { connect } from '../support/tcp.js';
import { httpsOrigin, tlsConnect } from '../support/tls.js';
import { until } from '../support/wait.js';

type Test = Parameters<typeof startSidecar>[0];

/** Servers with authorities of their own: what a client sees of them can't come from the proxy. */
async function origin(t: Test, name: string, names: string[]) {
  const authority = await Authority.create(t, `authority of ${name}`);
  const server = await httpsOrigin(t, await authority.sign({ names }), { name });
  return { authority, server };
}

test('each name goes to its server, and the certificate is the server’s', async (t) => {
  const a = await origin(t, 'a', ['a.test']);
  const b = await origin(t, 'b', ['x.b.test']);
  const rest = await origin(t, 'rest', ['c.test']);
  const proxy = await startEmbedded(
    t,
    web({
      protocol: 'tlsPassthrough',
      sni: [
        { hosts: 'a.test', to: a.server.address },
        { hosts: ['*.b.test'], to: b.server.address },
        { hosts: '*', to: rest.server.address },
      ],
    }),
  );
  for (const [name, { authority }, answer] of [
    ['a.test', a, 'a'],
    ['x.b.test', b, 'b'],
    ['c.test', rest, 'rest'],
  ] as const) {
    const { issuer } = await tlsConnect(t, proxy.port(), { ca: authority.root, servername: name });
    t.is(issuer, authority.name);
    const url = `https://${name}:${proxy.port()}/`;
    t.is(
      await must('curl', [
        '-sS',
        '--cacert',
        authority.root,
        '--resolve',
        `${name}:${proxy.port()}:127.0.0.1`,
        url,
      ]),
      answer,
    );
  }
  // Without a name.
  const { issuer } = await tlsConnect(t, proxy.port(), {
    ca: rest.authority.root,
    checkServerIdentity: () => undefined,
  });
  t.is(issuer, rest.authority.name);
  t.is((await proxy.listener()).tlsHandshakes, 0);
});

test('a name that no route takes is refused', async (t) => {
  const a = await origin(t, 'a', ['a.test']);
  const proxy = await startEmbedded(
    t,
    web({ protocol: 'tlsPassthrough', sni: [{ hosts: 'a.test', to: a.server.address }] }),
  );
  await t.throwsAsync(tlsConnect(t, proxy.port(), { servername: 'b.test' }));
  await proxy.closedBy('sni_unknown');
  t.is(a.server.handshakes, 0);
});

test('bytes that are no TLS are refused', async (t) => {
  const a = await origin(t, 'a', ['a.test']);
  const proxy = await startEmbedded(
    t,
    web({ protocol: 'tlsPassthrough', sni: [{ hosts: '*', to: a.server.address }] }),
  );
  const peer = await connect(t, proxy.port());
  await peer.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await peer.gone();
  t.truthy(await proxy.closedBy('tls_handshake_failed'));
});

test('on one port: some names pass through, the others are terminated here', async (t) => {
  const a = await origin(t, 'a', ['a.test']);
  const authority = await Authority.create(t, 'authority of the proxy');
  const tls = await authority.sign({ names: ['own.test'] });
  const proxy = await startSidecar(
    t,
    web({
      tls,
      routes: [{ respond: { status: 200, body: 'own' } }],
      sni: [{ hosts: 'a.test', to: a.server.address }],
    }),
  );
  const ask = (name: string, root: string): Promise<string> =>
    must('curl', [
      '-sS',
      '--cacert',
      root,
      '--resolve',
      `${name}:${proxy.port()}:127.0.0.1`,
      `https://${name}:${proxy.port()}/`,
    ]);
  t.is(await ask('a.test', a.authority.root), 'a');
  t.is(await ask('own.test', authority.root), 'own');
});

test('a listener with `to` alone passes TLS through beside everything else', async (t) => {
  const a = await origin(t, 'a', ['a.test']);
  const proxy = await startSidecar(t, web({ to: a.server.address }));
  const { socket, issuer } = await tlsConnect(t, proxy.port(), {
    ca: a.authority.root,
    servername: 'a.test',
  });
  t.is(issuer, a.authority.name);
  socket.write('GET / HTTP/1.1\r\nHost: a.test\r\n\r\n');
  const [said] = (await once(socket, 'data')) as [Buffer];
  t.regex(said.toString(), /^HTTP\/1\.1 200 /);
});

test('names are as odd as they like where all go to one place, and need no final dot where they do not', async (t) => {
  const a = await origin(t, 'a', ['a.test']);
  const b = await origin(t, 'b', ['b.test']);
  const unseen = { checkServerIdentity: () => undefined };
  const one = await startEmbedded(t, web({ to: a.server.address }));
  const names = ['a.test.', '-x.test', 'a..b', 'a b.test'];
  for (const servername of names) {
    const { issuer } = await tlsConnect(t, one.port(), { ca: a.authority.root, servername, ...unseen });
    t.is(issuer, a.authority.name, servername);
  }
  await until('the last handshake is over at the server too', () => a.server.names.length === names.length);
  t.deepEqual(a.server.names, names, 'they go on as they came');

  const sni = [
    { hosts: 'a.test', to: a.server.address },
    { hosts: '*', to: b.server.address },
  ];
  const some = await startEmbedded(t, web({ protocol: 'tlsPassthrough', sni }));
  const ask = async (servername: string, ca: string) =>
    await tlsConnect(t, some.port(), { ca, servername, ...unseen });
  t.is((await ask('a.test.', a.authority.root)).issuer, a.authority.name);
  t.is((await ask('c.test.', b.authority.root)).issuer, b.authority.name);
  await t.throwsAsync(ask('a..test', b.authority.root));
  t.truthy(await some.closedBy('tls_handshake_failed'));
});
