// How does a test speak bytes? A client that sends exactly what it is told, and servers that follow a script.

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';
import type { ExecutionContext } from 'ava';
import { until, within } from './wait.js';

type Bytes = string | Uint8Array;

/** One TCP connection, either side. What arrives is kept until it is taken. Text is latin1: a character is a byte. */
export class Peer {
  #received: Buffer[] = [];
  #length = 0;
  /** The other side has said that it sends nothing more. */
  ended = false;
  /** The connection is gone. */
  closed = false;
  /** Why, when it did not end in order: `ECONNRESET`, ... */
  error: NodeJS.ErrnoException | undefined;

  constructor(readonly socket: net.Socket) {
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => {
      this.#received.push(chunk);
      this.#length += chunk.length;
    });
    socket.on('end', () => {
      this.ended = true;
    });
    socket.on('error', (error) => {
      this.error = error;
    });
    socket.on('close', () => {
      this.closed = true;
    });
  }

  /** Bytes that arrived and were not taken. */
  get pending(): number {
    return this.#length;
  }

  /** What arrived and was not taken, left where it is. */
  peek(): Buffer {
    const whole = Buffer.concat(this.#received);
    this.#received = whole.length > 0 ? [whole] : [];
    return whole;
  }

  /** The same as text. */
  text(): string {
    return this.peek().toString('latin1');
  }

  /** Takes the first `length` bytes, or all. */
  take(length = this.#length): Buffer {
    const whole = this.peek();
    const taken = whole.subarray(0, length);
    const rest = whole.subarray(taken.length);
    this.#received = rest.length > 0 ? [rest] : [];
    this.#length = rest.length;
    return taken;
  }

  /** Sends the pieces one by one; each leaves in a write of its own. */
  async send(...pieces: Bytes[]): Promise<void> {
    for (const piece of pieces) {
      await new Promise<void>((sent, failed) => {
        this.socket.write(asBuffer(piece), (error) => (error ? failed(error) : sent()));
      });
      if (pieces.length > 1) await new Promise(setImmediate);
    }
  }

  /** Says that it sends nothing more. */
  end(last?: Bytes): void {
    if (last === undefined) this.socket.end();
    else this.socket.end(asBuffer(last));
  }

  /** Breaks the connection with a reset. */
  reset(): void {
    this.socket.resetAndDestroy();
  }

  /** Takes everything up to and with `mark`. */
  async readUntil(mark: string): Promise<string> {
    const end = await until(`\`${printable(mark)}\` arrives`, () => {
      const at = this.text().indexOf(mark);
      if (at >= 0) return at + mark.length;
      this.#mustLive(`\`${printable(mark)}\``);
      return undefined;
    });
    return this.take(end).toString('latin1');
  }

  /** Takes this many bytes. */
  async read(length: number): Promise<Buffer> {
    await until(`${length} bytes arrive`, () => {
      if (this.#length >= length) return true;
      this.#mustLive(`${length} bytes`);
      return false;
    });
    return this.take(length);
  }

  /** Waits for the other side's end and takes all that came before it. A reset is an end as well: see `error`. */
  async readToEnd(): Promise<string> {
    await until('the connection ends', () => this.ended || this.closed);
    return this.take().toString('latin1');
  }

  /** Waits until the other side has ended or broken the connection; see `error`. */
  async gone(): Promise<void> {
    await until('the connection is gone', () => this.ended || this.closed);
  }

  /** Takes one HTTP/1 response with its body, and leaves what comes after it. */
  async response(method = 'GET'): Promise<RawResponse> {
    const head = await this.readUntil('\r\n\r\n');
    const [statusLine = '', ...lines] = head.slice(0, -4).split('\r\n');
    const headers = new Map<string, string>();
    for (const line of lines) {
      const colon = line.indexOf(':');
      const name = line.slice(0, colon).toLowerCase();
      const value = line.slice(colon + 1).trim();
      headers.set(name, headers.has(name) ? `${headers.get(name)}, ${value}` : value);
    }
    const status = Number(statusLine.split(' ')[1]);
    const response: RawResponse = { statusLine, status, headers, lines, body: '', trailers: '' };
    if (method === 'HEAD' || status < 200 || status === 204 || status === 304) return response;
    if (headers.get('transfer-encoding') === 'chunked') {
      for (;;) {
        const size = Number.parseInt(await this.readUntil('\r\n'), 16);
        if (size === 0) break;
        response.body += (await this.read(size + 2)).subarray(0, size).toString('latin1');
      }
      for (let line = await this.readUntil('\r\n'); line !== '\r\n'; line = await this.readUntil('\r\n')) {
        response.trailers += line;
      }
    } else if (headers.has('content-length')) {
      response.body = (await this.read(Number(headers.get('content-length')))).toString('latin1');
    } else {
      response.body = await this.readToEnd();
    }
    return response;
  }

  #mustLive(awaited: string): void {
    if (!this.ended && !this.closed) return;
    const end = this.error?.code ?? 'end';
    throw new Error(
      `the connection ended (${end}) before ${awaited}; it holds ${printable(this.text().slice(0, 2000))}`,
    );
  }
}

/** An HTTP/1 response as it came. */
export interface RawResponse {
  statusLine: string;
  status: number;
  /** By lower-case name; values of repeated fields joined. */
  headers: Map<string, string>;
  /** The field lines as they came. */
  lines: string[];
  /** latin1. */
  body: string;
  trailers: string;
}

/** Connects, from an address of this machine if one is given; the connection ends with the test. */
export async function connect(
  t: Pick<ExecutionContext, 'teardown'>,
  port: number,
  host = '127.0.0.1',
  localAddress?: string,
): Promise<Peer> {
  const socket = net.connect({ port, host, allowHalfOpen: true, ...(localAddress && { localAddress }) });
  t.teardown(() => socket.destroy());
  const peer = new Peer(socket);
  // Who was let in and cut off while this process stood still hears of the reset alone: it was connected all the same.
  const connected = once(socket, 'connect').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ECONNRESET') throw error;
  });
  await within(`a connection to ${host}:${port}`, connected);
  return peer;
}

/** A server of bytes. */
export interface TcpServer {
  port: number;
  address: string;
  /** Every connection that was accepted, in order. */
  peers: Peer[];
  /** Waits for the connection of this number, the first being 0. */
  accepted(number?: number): Promise<Peer>;
  /** Stops to accept; open connections stay. */
  close(): void;
}

/** Listens; `script` plays the server's part on each connection. A script that throws breaks its connection. */
export async function tcpServer(
  t: Pick<ExecutionContext, 'teardown'>,
  script: (peer: Peer, number: number) => unknown = () => {},
  port = 0,
): Promise<TcpServer> {
  const peers: Peer[] = [];
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    const peer = new Peer(socket);
    const number = peers.push(peer) - 1;
    Promise.resolve(script(peer, number)).catch(() => socket.destroy());
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    for (const { socket } of peers) socket.destroy();
  });
  const bound = (server.address() as net.AddressInfo).port;
  return {
    port: bound,
    address: `127.0.0.1:${bound}`,
    peers,
    accepted: (number = 0) => until(`connection ${number} is accepted`, () => peers[number]),
    close: () => server.close(),
  };
}

/** An address of this machine at which nothing else is: a socket there marks a port as one of this process. */
const MARKS = '127.77.0.1';
/**
 * Where ports are looked for: below those that the system gives to outgoing connections, and below those that `mesh up`
 * gives to copies, since it knows no marks. All have five digits, which texts can be searched for.
 */
const [FIRST_PORT, END_PORT] = [10_000, 12_000];
/** A machine on which that many are taken has none. */
const MOST_TRIES = 10_000;

/**
 * A port on which nobody listens: it was free a moment ago. The system gives it to no outgoing connection, and to no
 * server of another test, which whoever calls it would reach. No other test gets it before this process has ended: it may
 * be listened on much later, and again after a while in which nobody did. The same is true of those above it at the
 * distances `above`.
 */
export async function closedPort(above: readonly number[] = []): Promise<number> {
  const end = END_PORT - Math.max(0, ...above);
  for (let tries = 0; tries < MOST_TRIES; tries += 1) {
    const port = FIRST_PORT + Math.floor(Math.random() * (end - FIRST_PORT));
    const wanted = [port, ...above.map((distance) => port + distance)];
    // Nobody else's is listened on, be it for a moment.
    const mine = await Promise.all(wanted.map(async (each) => (await isMarked(each)) && isFree(each)));
    if (mine.every(Boolean)) return port;
  }
  throw new Error('this machine has no free ports');
}

/** Whether it can be listened on. */
function isFree(port: number): Promise<boolean> {
  const server = net.createServer();
  return new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

/** Those that were marked as ours, or not marked by anybody. */
const marked = new Set<number>();

/** Marks a port as ours, unless it is marked: by us too. */
function isMarked(port: number): Promise<boolean> {
  if (marked.has(port)) return Promise.resolve(false);
  marked.add(port);
  const socket = createSocket('udp4').unref();
  return new Promise((resolve) => {
    socket.once('error', ({ code }: NodeJS.ErrnoException) => {
      socket.close();
      // A system may have no such address: then nobody marks.
      resolve(code !== 'EADDRINUSE');
    });
    socket.bind({ address: MARKS, port, exclusive: true }, () => resolve(true));
  });
}

function asBuffer(bytes: Bytes): Uint8Array {
  return typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes;
}

/** Bytes for a message: what has no shape is escaped. */
export function printable(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}
