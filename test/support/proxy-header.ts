// How does a test speak for somebody else, as proxies do that speak the PROXY protocol? It says exactly what it is told.

import { once } from 'node:events';
import net from 'node:net';
import { Duplex } from 'node:stream';
import tls from 'node:tls';
import type { ExecutionContext } from 'ava';
import { Peer, connect } from './tcp.js';
import { within } from './wait.js';

/** How a header of version 2 begins. */
export const SIGNATURE = '\r\n\r\n\0\r\nQUIT\n';

/** A header of version 1 for a client: `192.0.2.1:4000` or `[2001:db8::1]:4000`. */
export function line(client: string): string {
  const { host, port } = parts(client);
  return net.isIPv6(host)
    ? `PROXY TCP6 ${host} 2001:db8::2 ${port} 443\r\n`
    : `PROXY TCP4 ${host} 198.51.100.2 ${port} 443\r\n`;
}

/** A header of version 2 for a client, with pieces (a type and a value) behind the addresses. */
export function block(client: string, ...pieces: [type: number, value: Uint8Array][]): Buffer {
  const { host, port } = parts(client);
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(port);
  ports.writeUInt16BE(443, 2);
  const [family, one, other] = net.isIPv6(host)
    ? ([0x21, bytesOf(host), bytesOf('2001:db8::2')] as const)
    : ([0x11, bytesOf(host), bytesOf('198.51.100.2')] as const);
  return raw(0x21, family, Buffer.concat([one, other, ports, ...pieces.map(piece)]));
}

/** A header of version 2 as it is written: command, family, and what stands behind the length. */
export function raw(command: number, family: number, rest: Uint8Array, length = rest.length): Buffer {
  const fixed = Buffer.from(`${SIGNATURE}....`, 'latin1');
  fixed.set([command, family, length >> 8, length & 0xff], SIGNATURE.length);
  return Buffer.concat([fixed, rest]);
}

/** A header of version 2 with a checksum, which is right unless `flipped` bits of it are not. */
export function summed(client: string, flipped = 0): Buffer {
  const header = block(client, [0x04, Buffer.from('padding')], [0x03, Buffer.alloc(4)]);
  header.writeUInt32BE((crc32c(header) ^ flipped) >>> 0, header.length - 4);
  return header;
}

/** What health checks of the sender's own begin with. */
export const LOCAL = raw(0x20, 0, new Uint8Array());

function crc32c(bytes: Uint8Array): number {
  let sum = 0xffff_ffff;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0x82f6_3b78 : 0);
  }
  return ~sum;
}

function piece([type, value]: [number, Uint8Array]): Buffer {
  return Buffer.concat([Buffer.from([type, value.length >> 8, value.length & 0xff]), value]);
}

function parts(client: string): { host: string; port: number } {
  const [, v6, v4, port] = /^(?:\[(.*)\]|([^:]*)):(\d+)$/.exec(client) ?? [];
  return { host: v6 ?? v4 ?? '', port: Number(port) };
}

function bytesOf(host: string): Buffer {
  if (net.isIPv4(host)) return Buffer.from(host.split('.').map(Number));
  const [front = '', back] = host.split('::');
  const groups = (text = '') => (text === '' ? [] : text.split(':'));
  const missing = back === undefined ? 0 : 8 - groups(front).length - groups(back).length;
  const all = [...groups(front), ...Array<string>(missing).fill('0'), ...groups(back)];
  return Buffer.from(all.map((group) => group.padStart(4, '0')).join(''), 'hex');
}

/** A TLS client whose first write is this header and its ClientHello. */
export async function tlsBehind(
  t: Pick<ExecutionContext, 'teardown'>,
  port: number,
  header: string | Buffer,
  options: tls.ConnectionOptions,
): Promise<Peer> {
  const { socket: below } = await connect(t, port);
  below.removeAllListeners('data');
  let first: Buffer | undefined = Buffer.from(header as string, 'latin1');
  const joined = new Duplex({
    read: () => below.resume(),
    write(chunk: Buffer, _, done) {
      below.write(first ? Buffer.concat([first, chunk]) : chunk, done);
      first = undefined;
    },
    final: (done) => below.end(done),
    destroy(error, done) {
      below.destroy();
      done(error);
    },
  });
  below.on('data', (chunk: Buffer) => joined.push(chunk));
  below.on('end', () => joined.push(null));
  below.on('close', () => joined.destroy());
  const socket = tls.connect({ socket: joined, rejectUnauthorized: false, ...options });
  t.teardown(() => socket.destroy());
  const peer = new Peer(socket);
  await within('a TLS handshake', once(socket, 'secureConnect'));
  return peer;
}
