// Is a port that is opaque never looked at? Real sidecars, and a real program that speaks first.

import test, { type ExecutionContext } from 'ava';
import { request } from '../support/http.js';
import { start } from '../support/processes.js';
import { type Peer, connect } from '../support/tcp.js';
import { Mesh, type MeshSidecar, freePort } from './support.js';

/** Greets, and then says what it hears. */
const GREETER = `
require('node:net').createServer((socket) => {
  socket.on('error', () => {});
  socket.write('220 ready\\r\\n');
  socket.pipe(socket);
}).listen(Number(process.argv[1]), '127.0.0.1', () => console.error('up'));
`;

async function greeter(t: ExecutionContext): Promise<string> {
  const port = await freePort();
  await start(t, process.execPath, ['-e', GREETER, String(port)]).said(/up/);
  return `127.0.0.1:${port}`;
}

async function tunnel(
  t: ExecutionContext,
  { outbound }: MeshSidecar,
  name: string,
  first = '',
): Promise<Peer> {
  const peer = await connect(t, outbound);
  await peer.send(`CONNECT ${name} HTTP/1.1\r\nhost: ${name}\r\n\r\n${first}`);
  t.regex(await peer.readUntil('\r\n\r\n'), /^HTTP\/1\.1 200 /);
  return peer;
}

/** Nothing, a request, and half of what may become a request of either HTTP or a handshake. */
const BEGINNINGS = [
  '',
  'GET / HTTP/1.1\r\nhost: x\r\n\r\n',
  'G',
  'GET / HTTP/1.1\r\nhost:',
  'PRI * HTTP/2.0\r\n',
  '\u0016\u0003\u0001',
];

async function passes(t: ExecutionContext, peer: Peer, bytes: string): Promise<void> {
  await peer.send(bytes);
  const whole = `220 ready\r\n${bytes}`;
  t.is((await peer.read(whole.length)).toString(), whole);
}

const metric = async ({ admin }: MeshSidecar, name: string): Promise<number> => {
  const { text } = await request(admin, { path: '/metrics' });
  return Number(
    text
      .split('\n')
      .find((line) => line.startsWith(`${name} `))
      ?.slice(name.length + 1) ?? 0,
  );
};

test('an opaque port of a service, by name and by CONNECT', async (t) => {
  const mesh = await Mesh.start(t);
  const mail = await mesh.sidecar(t, 'mail', { ports: `25=${await greeter(t)}/tcp` });
  mesh.serve('mail', [mail.address], 25, 'tcp');
  // That it is opaque is what the control plane says: no `/tcp` stands behind it.
  const plain = await freePort();
  const web = await mesh.sidecar(t, 'web', { flags: { '--forward': `mail:25=127.0.0.1:${plain}` } });
  await web.process.said(/forward:mail:25 listens on/);
  for (const bytes of BEGINNINGS) {
    await passes(t, await connect(t, plain), bytes);
    await passes(t, await tunnel(t, web, 'mail:25'), bytes);
  }
  const handshakes = 'mesh_tls_handshakes_total{listener="inbound",result="success"}';
  t.is(await metric(mail, handshakes), 2 * BEGINNINGS.length, 'between sidecars there is mTLS');
  const detected = 'mesh_connections_detected_total{listener="outbound",protocol="tcp"}';
  t.is(await metric(web, detected), 0);
});

test('an opaque port without TLS: nothing is waited for but the beginning of it', async (t) => {
  const mesh = await Mesh.start(t);
  mesh.protect('mail', [], 'allow');
  const mail = await mesh.sidecar(t, 'mail', { ports: `25=${await greeter(t)}/tcp` });
  const beginnings = BEGINNINGS.filter((bytes) => !bytes.startsWith('\u0016'));
  for (const bytes of beginnings) await passes(t, await connect(t, mail.inbound), bytes);
  t.is(await metric(mail, 'mesh_tls_handshakes_total{listener="inbound",result="success"}'), 0);
});

test('outside the mesh, ports are opaque by a list', async (t) => {
  const mesh = await Mesh.start(t);
  const server = await greeter(t);
  const port = server.slice(server.indexOf(':') + 1);
  const flags = { '--opaque-ports': `25,${port}-${port}` };
  const opaque = await mesh.sidecar(t, 'web', { flags });
  for (const bytes of BEGINNINGS) await passes(t, await tunnel(t, opaque, server), bytes);
  // Elsewhere a request is one, and a greeting no answer to it.
  const looks = await mesh.sidecar(t, 'web', { name: 'looks', flags: { '--opaque-ports': 'none' } });
  // It is there before the tunnel is: who hesitates is one that waits for a greeting.
  const peer = await tunnel(t, looks, server, 'GET / HTTP/1.1\r\nhost: x\r\n\r\n');
  t.regex(await peer.readUntil('\r\n\r\n'), /HTTP\/1\.1 502 /);
});
