// What do the attacks share? A server that writes down every byte, and a front that stands before it in several ways.

import { once } from 'node:events';
import tls from 'node:tls';
import type { ExecutionContext } from 'ava';
import type { Config, ListenerConfig } from '../../src/config/index.js';
import { Authority } from '../support/certificates.js';
import { request } from '../support/http.js';
import { Exposition } from '../support/prometheus.js';
import { type Sidecar, startSidecar } from '../support/sidecar.js';
import { Peer, connect, tcpServer } from '../support/tcp.js';
import { until, within } from '../support/wait.js';

type Test = Pick<ExecutionContext, 'teardown'>;

/** A request as a simple server reads it. */
export interface Seen {
  head: string;
  body: string;
}

/** A server that reads requests the simple way, answers each with `ok`, and keeps all that came. */
export interface Recorder {
  address: string;
  /** Every byte that came, over all connections, in latin1. */
  bytes(): string;
  /** Whole requests, in the order they were complete. */
  requests: Seen[];
  forget(): void;
}

/** Starts a server that records. */
export async function recorder(t: Test): Promise<Recorder> {
  let came = '';
  const requests: Seen[] = [];
  const server = await tcpServer(t, async (peer) => {
    peer.socket.on('data', (chunk: Buffer) => {
      came += chunk.toString('latin1');
    });
    for (;;) {
      const head = await peer.readUntil('\r\n\r\n').catch(() => undefined);
      if (head === undefined) return peer.end();
      requests.push({ head, body: await readBody(peer, head) });
      await peer.send('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    }
  });
  return {
    address: server.address,
    bytes: () => came,
    requests,
    forget() {
      came = '';
      requests.length = 0;
    },
  };
}

async function readBody(peer: Peer, head: string): Promise<string> {
  const length = /^content-length: (\d+)\r$/im.exec(head)?.[1];
  if (length !== undefined) return (await peer.read(Number(length))).toString('latin1');
  if (!/^transfer-encoding: chunked\r$/im.test(head)) return '';
  let body = '';
  for (;;) {
    const size = Number.parseInt(await peer.readUntil('\r\n'), 16);
    if (size === 0) break;
    body += (await peer.read(size + 2)).subarray(0, size).toString('latin1');
  }
  while ((await peer.readUntil('\r\n')) !== '\r\n');
  return body;
}

/** A proxy under attack: the same routes behind a plain listener (`plain`) and behind TLS (`tls`). */
export interface Front {
  proxy: Sidecar;
  /** Connects to a listener, TLS included. */
  connect(t: Test, listener: Listener, alpn?: string): Promise<Peer>;
  /** What a metric counts, over all that has these labels. */
  count(name: string, labels: Record<string, string>): Promise<number>;
  /** Waits until a metric counts `more` than it did. Fails when it counts beyond that. */
  counted(before: number, more: number, name: string, labels: Record<string, string>): Promise<void>;
}

export const LISTENERS = ['plain', 'tls'] as const;
export type Listener = (typeof LISTENERS)[number];

/** Starts a front before a server. `listener` is what both listeners have besides. */
export async function front(
  t: Test,
  to: string,
  listener: Partial<ListenerConfig> = {},
  rest: Omit<Config, 'listeners'> = {},
): Promise<Front> {
  const authority = await Authority.create(t);
  const { certificate, key } = await authority.sign({ names: ['a.test'] });
  const common = { address: '127.0.0.1:0', routes: [{ to }], ...listener };
  const proxy = await startSidecar(
    t,
    {
      listeners: [
        { ...common, name: 'plain' },
        { ...common, name: 'tls', tls: { certificate, key } },
      ],
      ...rest,
    },
    { admin: '127.0.0.1:0' },
  );
  const admin = Number((await proxy.said(/admin listens on 127\.0\.0\.1:(\d+)/))[1]);
  const count: Front['count'] = async (name, labels) => {
    const { text } = await request(admin, { path: '/metrics' });
    return new Exposition(text).sum(name, labels);
  };
  return {
    proxy,
    count,
    async counted(before, more, name, labels) {
      const what = `${name} ${JSON.stringify(labels)}`;
      const now = await until(`${what} counts ${more} more`, async () => {
        const value = await count(name, labels);
        return value >= before + more && value;
      });
      if (now !== before + more) throw new Error(`${what} counts ${now - before} more, not ${more}`);
    },
    async connect(test, name, alpn = 'http/1.1') {
      if (name === 'plain') return connect(test, proxy.port(name));
      const { socket: below } = await connect(test, proxy.port(name));
      const socket = tls.connect({
        socket: below,
        servername: 'a.test',
        rejectUnauthorized: false,
        ALPNProtocols: [alpn],
      });
      test.teardown(() => socket.destroy());
      const peer = new Peer(socket);
      await within('a TLS handshake', once(socket, 'secureConnect'));
      return peer;
    },
  };
}
