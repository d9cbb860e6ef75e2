// What clients do: is each reason said, counted and written down?

import { CODE, TYPE, code, frame, opening } from '../../src/attack/frames.js';
import { arrives } from '../attacks/arrives.js';
import { Authority } from '../support/certificates.js';
import { ask, http2Connect } from '../support/http2.js';
import { web } from '../support/sidecar.js';
import { connect } from '../support/tcp.js';
import { type Scene, check } from './support.js';

/** Sends frames behind a client's start, and reads to the end the GOAWAY with this code. */
async function goaway({ t, sidecar }: Scene, bytes: Buffer, expected: number): Promise<undefined> {
  const peer = await connect(t, sidecar.port('web'));
  await peer.send(opening(), bytes);
  const last = await arrives('a GOAWAY', peer, ({ type }) => type === TYPE.goaway);
  t.is(code(last), expected);
  await peer.gone();
  peer.socket.destroy();
}

const http = (path: string) => web({ routes: [{ respond: 200 }], accessLog: { path } });

check('downstream', [
  {
    reason: 'http2_protocol',
    when: 'DATA on a stream that was never opened',
    work: http,
    cause: (scene) => goaway(scene, frame(TYPE.data, 0, 1, 'x'), CODE.protocol),
    counted: ['connections_closed'],
  },
  {
    reason: 'http2_flood',
    when: 'more PING than anybody needs',
    work: http,
    cause: (scene) => {
      const ping = frame(TYPE.ping, 0, 0, '12345678');
      return goaway(scene, Buffer.concat(Array<Buffer>(1000).fill(ping)), CODE.calm);
    },
    counted: ['connections_closed'],
  },
  {
    reason: 'misdirected',
    when: 'a name of another certificate than the client was shown',
    work: async (path, t) => {
      const authority = await Authority.create(t);
      const certificates = [
        await authority.sign({ names: ['a.test'] }),
        await authority.sign({ names: ['b.test'] }),
      ];
      return web({ tls: { certificates }, routes: [{ respond: 200 }], accessLog: { path } });
    },
    cause: async ({ t, sidecar }) => {
      const trust = { servername: 'a.test', rejectUnauthorized: false };
      const session = await http2Connect(t, sidecar.url('web', 'https'), trust);
      return ask(session, { ':path': '/', ':authority': 'b.test' });
    },
    answer: [421, 'http_request_error'],
    counted: ['responses'],
  },
  {
    reason: 'not_http',
    when: 'neither a request nor TLS, where only TLS is passed on',
    work: (path) =>
      web(
        { sni: [{ hosts: '*', to: 'app' }], accessLog: { path } },
        { clusters: { app: { endpoints: ['127.0.0.1:1'] } } },
      ),
    cause: async ({ t, sidecar }) => {
      const peer = await connect(t, sidecar.port('web'));
      await peer.send('EHLO mail.test\r\n');
      t.is(await peer.readToEnd(), '');
      return undefined;
    },
    counted: ['connections_closed'],
  },
]);
