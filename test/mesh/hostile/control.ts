// How does a test get a control plane that misbehaves? One that has the right certificate and speaks gRPC by hand, so that
// it can say what no honest one would.

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';
import { type Socket, createServer } from 'node:net';
import type { ExecutionContext } from 'ava';
import type { Certificate } from '../../support/certificates.js';
import { until } from '../../support/wait.js';
import { freePort } from '../support.js';
import { type Field, fields, message, texts } from './protobuf.js';

type Test = Pick<ExecutionContext, 'teardown'>;

const TYPES = {
  cluster: 'envoy.config.cluster.v3.Cluster',
  endpoints: 'envoy.config.endpoint.v3.ClusterLoadAssignment',
  listener: 'envoy.config.listener.v3.Listener',
  routeTable: 'envoy.config.route.v3.RouteConfiguration',
  secret: 'envoy.extensions.transport_sockets.tls.v3.Secret',
};

/** What resources there are. */
export type Kind = keyof typeof TYPES;

const url = (kind: Kind): string => `type.googleapis.com/${TYPES[kind]}`;

/** A resource as it goes out: `bytes` is its message, whatever that is. */
export interface Resource {
  readonly name: string;
  readonly version: string;
  readonly bytes: Uint8Array;
}

/** What a sidecar asked, or answered. */
export interface Asked {
  readonly kind: string;
  readonly subscribe: readonly string[];
  /** The names of what it has, by what it said first on the stream. */
  readonly has: readonly string[];
  readonly nonce: string;
  /** Why it refused. */
  readonly nack: string | undefined;
}

/** What is said on a stream. */
export class Answer {
  constructor(readonly stream: http2.ServerHttp2Stream) {}

  get closed(): boolean {
    return this.stream.destroyed || this.stream.closed;
  }

  /** Sends a message; resolves when it has left, or nobody takes it any more. */
  async send(bytes: Buffer): Promise<void> {
    await this.write(prefix(bytes.length));
    await this.write(bytes);
  }

  /** Sends bytes as they are. */
  async write(bytes: Buffer): Promise<void> {
    if (this.closed || this.stream.write(bytes)) return;
    const done = new AbortController();
    const heard = ['drain', 'close'].map((event) => once(this.stream, event, { signal: done.signal }));
    await Promise.race(heard).catch(() => {});
    await Promise.allSettled([...heard, done.abort()]);
  }
}

/** A sidecar's stream of xDS. */
export class Ads extends Answer {
  readonly asked: Asked[] = [];
  #nonces = 0;

  constructor(stream: http2.ServerHttp2Stream) {
    super(stream);
    let bytes = Buffer.alloc(0);
    stream.on('data', (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      while (bytes.length >= 5 && bytes.length >= 5 + bytes.readUInt32BE(1)) {
        const end = 5 + bytes.readUInt32BE(1);
        this.asked.push(read(bytes.subarray(5, end)));
        bytes = bytes.subarray(end);
      }
    });
    // Who is refused may cut the stream; tests look at `closed`.
    stream.on('error', () => {});
  }

  /** Waits until it has asked for a resource of this kind, as it does for all that it has on a new stream. */
  wants(kind: Kind, name: string): Promise<Asked> {
    return until(`a wish for the ${kind} ${name}`, () =>
      this.asked.find((asked) => asked.kind === url(kind) && asked.subscribe.includes(name)),
    );
  }

  /** Waits for the answer to a response. */
  answered(nonce: string): Promise<Asked> {
    return until(`the answer to ${nonce}`, () => this.asked.find((asked) => asked.nonce === nonce));
  }

  /** Sends a response; gives its nonce. */
  async respond(
    kind: Kind,
    resources: readonly Resource[],
    removed: readonly string[] = [],
  ): Promise<string> {
    const nonce = `n${(this.#nonces += 1)}`;
    await this.send(
      response(kind, nonce, [
        ...resources.map(({ name, version, bytes }): Field => [
          2,
          message([1, version], [2, message([1, url(kind)], [2, bytes])], [3, name]),
        ]),
        ...removed.map((name): Field => [6, name]),
      ]),
    );
    return nonce;
  }
}

/** What stands before a message of so many bytes. */
export function prefix(length: number): Buffer {
  const bytes = Buffer.alloc(5);
  bytes.writeUInt32BE(length, 1);
  return bytes;
}

/** A response with these fields. */
export const response = (kind: Kind, nonce: string, content: readonly Field[]): Buffer =>
  message([4, url(kind)], [5, nonce], ...content);

function read(bytes: Buffer): Asked {
  const request = fields(bytes);
  const nack = request.get(7)?.[0];
  return {
    kind: texts(request, 2)[0] ?? '',
    subscribe: texts(request, 3),
    has: (request.get(5) ?? []).map((entry) => texts(fields(entry as Buffer), 1)[0] ?? ''),
    nonce: texts(request, 6)[0] ?? '',
    nack: nack === undefined ? undefined : texts(fields(nack as Buffer), 2)[0],
  };
}

/** What it does with a stream of xDS. */
export type Behaviour = (ads: Ads) => void | Promise<void>;

/** A control plane that has a control plane's certificate, and nothing else of one. */
export class HostileControl {
  /** When each connection came, in milliseconds. */
  readonly connections: number[] = [];
  readonly streams: Ads[] = [];
  behaviour: Behaviour = () => {};
  /** What it answers to a request for a certificate, of which it has heard nothing. */
  signs: (answer: Answer) => void | Promise<void> = () => {};
  /** What it says on a stream of reports, of which it has heard nothing. */
  tells: (answer: Answer) => void | Promise<void> = () => {};
  /** It accepts connections, and says not even what TLS begins with. */
  mute = false;
  port = 0;
  readonly #door = createServer();
  readonly #sockets = new Set<Socket>();

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** Has a place, where it is not yet. */
  static async start(t: Test, { certificate, key }: Certificate, root: string): Promise<HostileControl> {
    const control = new HostileControl();
    const server = http2.createSecureServer({
      cert: readFileSync(certificate),
      key: readFileSync(key),
      ca: readFileSync(root),
      requestCert: true,
      // Who asks for a certificate has none yet.
      rejectUnauthorized: false,
      minVersion: 'TLSv1.3',
    });
    server.on('stream', (stream, head) => {
      stream.on('error', () => {});
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
      const path = String(head[':path']);
      if (path.endsWith('/Sign')) return void control.signs(new Answer(stream.resume()));
      if (!path.endsWith('/DeltaAggregatedResources')) return void control.tells(new Answer(stream.resume()));
      const ads = new Ads(stream);
      control.streams.push(ads);
      void control.behaviour(ads);
    });
    server.on('session', (session) => void session.on('error', () => {}));
    server.on('sessionError', () => {});
    server.on('tlsClientError', () => {});
    control.#door.on('connection', (socket) => {
      control.connections.push(performance.now());
      control.#sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => control.#sockets.delete(socket));
      if (!control.mute) server.emit('connection', socket);
    });
    control.port = await freePort();
    t.teardown(() => {
      control.#door.close();
      control.dismiss();
    });
    return control;
  }

  /** Takes connections from now on. */
  async open(): Promise<void> {
    this.#door.listen(this.port, '127.0.0.1');
    await once(this.#door, 'listening');
  }

  /** Cuts every connection. */
  dismiss(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Waits for the stream of this number, counted from 1. */
  stream(number = this.streams.length + 1): Promise<Ads> {
    return until(`stream ${number} of xDS`, () => this.streams[number - 1]);
  }
}

/** Who is revoked, or a part of it. */
export const denied = (identities: readonly string[], more = false): Buffer =>
  message([3, message(...identities.map((id): Field => [1, id]), [3, Number(more)])]);

/** The endpoints of a cluster: one, or none. */
export function endpoints(cluster: string, address?: string, identity = '', weight = 1): Buffer {
  if (address === undefined) return message([1, cluster]);
  const [, host = '', port = ''] = /^(.*):(\d+)$/.exec(address) ?? [];
  const socket = message([2, host], [3, Number(port)]);
  const ours = message([1, 'identity'], [2, message([3, identity])]);
  const metadata = message([1, message([1, 'mesh'], [2, message([1, ours])])]);
  const endpoint = message([1, message([1, message([1, socket])])], [3, metadata], [4, message([1, weight])]);
  return message([1, cluster], [2, message([2, endpoint])]);
}
