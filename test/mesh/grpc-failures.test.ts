// Does a gRPC call that fails count against the success rate, although its HTTP status is 200?

import test from 'ava';
import { http2Origin } from '../support/http.js';
import { ask, http2Connect } from '../support/http2.js';
import { until } from '../support/wait.js';
import { Mesh, freePort } from './support.js';

test('calls that fail by their trailers are failures of the edge, on either side', async (t) => {
  const origin = await http2Origin(t, (stream, headers) => {
    const [, status = ''] = /\/status\/(\d+)$/.exec(headers[':path'] ?? '') ?? [];
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': status }));
    stream.end(Buffer.alloc(5));
  });
  const mesh = await Mesh.start(t);
  const basket = await mesh.sidecar(t, 'basket', { ports: `3000=${origin.address}/http2` });
  mesh.serve('basket', [basket.address], 3000, 'http2');
  const port = await freePort();
  const web = await mesh.sidecar(t, 'web', { flags: { '--forward': `basket:3000=127.0.0.1:${port}` } });
  await web.process.said(/forward:basket:3000 listens on/);
  const session = await http2Connect(t, `http://127.0.0.1:${port}`);
  // OK, CANCELLED, UNKNOWN, NOT_FOUND, INTERNAL, UNAVAILABLE: three of them a server is to blame for.
  for (const status of [0, 1, 2, 5, 13, 14]) {
    const { trailers } = await ask(
      session,
      { ':method': 'POST', ':path': `/status/${status}`, 'content-type': 'application/grpc', te: 'trailers' },
      { body: Buffer.alloc(5) },
    );
    t.is(trailers['grpc-status'], String(status));
  }
  for (const side of ['outbound', 'inbound']) {
    const edge = await until(`the ${side} edge`, () =>
      mesh.control.edges().find(({ direction, requests }) => direction === side && requests === 6),
    );
    await until(`its failures, ${side}`, () => edge.failures['grpc_error'] === 3);
    t.deepEqual(edge.failures, { grpc_error: 3 });
  }
});
