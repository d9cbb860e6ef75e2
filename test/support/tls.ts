// How does a test see both ends of a TLS connection? With Node's, and with `openssl s_client` for what Node doesn't tell.

import { once } from 'node:events';
import https from 'node:https';
import { readFileSync } from 'node:fs';
import tls from 'node:tls';
import type { ExecutionContext } from 'ava';
import type { Certificate } from './certificates.js';
import { serve } from './http.js';
import { run } from './processes.js';
import { tcpServer } from './tcp.js';
import { until, within } from './wait.js';

type Test = Pick<ExecutionContext, 'teardown'>;

/** What a server saw of its last client. */
export interface TlsOrigin {
  port: number;
  address: string;
  /** The names that clients asked for, in order; false for none. */
  names: (string | false)[];
  /** What was agreed by ALPN, in order. */
  protocols: (string | false | null)[];
  /** The subjects of the certificates that clients showed. */
  clients: (string | undefined)[];
  handshakes: number;
}

/** An HTTPS server that answers with its name, and closes no connection by itself; it ends with the test. */
export async function httpsOrigin(
  t: Test,
  { certificate, key }: Certificate,
  { name = 'origin', ...options }: https.ServerOptions & { name?: string } = {},
): Promise<TlsOrigin> {
  const server = https.createServer(
    { cert: readFileSync(certificate), key: readFileSync(key), keepAliveTimeout: 0, ...options },
    (_, outgoing) => outgoing.end(name),
  );
  const origin: TlsOrigin = { port: 0, address: '', names: [], protocols: [], clients: [], handshakes: 0 };
  server.on('secureConnection', (socket: tls.TLSSocket & { servername?: string | false }) => {
    origin.handshakes += 1;
    origin.names.push(socket.servername ?? false);
    origin.protocols.push(socket.alpnProtocol);
    const { subject } = socket.getPeerCertificate() as Partial<tls.PeerCertificate>;
    origin.clients.push(subject?.CN as string | undefined);
  });
  server.on('tlsClientError', () => {});
  return Object.assign(origin, await serve(t, server));
}

/** A finished handshake, as a client saw it. */
export interface Handshake {
  socket: tls.TLSSocket;
  /** The names in the certificate, as Node prints them. */
  names: string;
  issuer: string;
  protocol: string | null;
  alpn: string | false | null;
}

/** Connects with TLS, trusting `ca`; fails as Node does. The connection ends with the test. */
export async function tlsConnect(
  t: Test,
  port: number,
  options: tls.ConnectionOptions & { ca?: string },
): Promise<Handshake> {
  const { ca, ...rest } = options;
  const socket = tls.connect({
    port,
    host: '127.0.0.1',
    ...(ca !== undefined && { ca: readFileSync(ca) }),
    ...rest,
  });
  t.teardown(() => socket.destroy());
  await within('a TLS handshake', once(socket, 'secureConnect'));
  socket.on('error', () => {});
  const { subjectaltname = '', issuer } = socket.getPeerCertificate();
  return {
    socket,
    names: subjectaltname,
    issuer: String(issuer?.CN ?? ''),
    protocol: socket.getProtocol(),
    alpn: socket.alpnProtocol,
  };
}

/** What `openssl s_client` says of a handshake: its report, and whether it was made. */
export async function sClient(
  address: string,
  ...args: string[]
): Promise<{ made: boolean; report: string }> {
  const { stdout, stderr } = await run('openssl', ['s_client', '-connect', address, ...args]);
  const report = `${stdout.toString('latin1')}\n${stderr}`;
  return { made: /^New, TLSv1\.[23], Cipher is (?!\(NONE\))/m.test(report), report };
}

/** A whole ClientHello for this name as latin1, as openssl sends it. */
export async function clientHello(t: Test, name: string): Promise<string> {
  const capture = await tcpServer(t);
  const opened = run('openssl', ['s_client', '-connect', capture.address, '-servername', name]);
  const peer = await capture.accepted();
  const hello = await until('a ClientHello', () => {
    const text = peer.text();
    return text.length > 5 && text.length >= 5 + text.charCodeAt(3) * 256 + text.charCodeAt(4) && text;
  });
  peer.socket.destroy();
  await opened;
  return hello;
}
