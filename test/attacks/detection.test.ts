// Does whatever some server may take for a request come under the rules of requests, on a port that takes streams too?

import test from 'ava';
import { request } from '../support/http.js';
import { startSidecar, web } from '../support/sidecar.js';
import { connect } from '../support/tcp.js';
import { until } from '../support/wait.js';
import { recorder } from './support.js';

const REST =
  'Host: a.test\r\nX-Mesh-Peer: spiffe://forged.test/ns/a/sa/b\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n';
const LINES: Record<string, string> = {
  'a blank line in front': '\r\nGET /admin HTTP/1.1\r\n',
  'blank lines and blanks in front': '\n\r\n \tGET /admin HTTP/1.1\r\n',
  'two blanks': 'GET  /admin HTTP/1.1\r\n',
  tabs: 'GET\t/admin\tHTTP/1.1\r\n',
  'bare CRs': 'GET\r/admin\rHTTP/1.1\r\n',
  'a blank at the end': 'GET /admin HTTP/1.1 \r\n',
  'bytes that no target has': 'GET /admin/\xe9\x01 HTTP/1.1\r\n',
  'an odd version': 'GET /admin HTTP/1.10\r\n',
  'a small version': 'GET /admin http/1.1\r\n',
  'no version': 'GET /admin\r\n',
  'a long method': `${'A'.repeat(300)} /admin HTTP/1.1\r\n`,
  'another preface': 'PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n',
};

for (const [name, line] of Object.entries(LINES)) {
  test(`rows 15, 16: ${name} is no way around them`, async (t) => {
    const server = await recorder(t);
    const routes = [{ match: { path: '/admin/*' }, respond: 403 }, { to: server.address }];
    const proxy = await startSidecar(t, web({ routes, tcp: server.address }));
    const whole = line + REST;
    // Byte by byte, too.
    for (const parts of [[whole], [...whole]]) {
      const peer = await connect(t, proxy.port());
      // It may have been refused, and its connection closed, before all of it has gone.
      await peer.send(...parts.map((part) => Buffer.from(part, 'latin1'))).catch(() => {});
      const { status } = await peer.response();
      t.true(status === 400 || status === 403 || status === 501, `${status}`);
    }
    t.is(server.bytes(), '');
    t.is((await request(proxy.port())).status, 200);
  });
}

test('what is no request goes to the server of streams as it came', async (t) => {
  const server = await recorder(t);
  const proxy = await startSidecar(t, web({ routes: [{ respond: 403 }], tcp: server.address }));
  const streams = [
    '*1\r\n$4\r\nPING\r\n',
    'EHLO mail.test\r\n',
    'CONNECT {"version":"2.1"}\r\n',
    '0\x0c\x02\x01\x01',
  ];
  for (const bytes of streams) {
    server.forget();
    const peer = await connect(t, proxy.port());
    await peer.send(Buffer.from(bytes, 'latin1'));
    await until(JSON.stringify(bytes), () => server.bytes() === bytes);
    t.is(server.bytes(), bytes);
  }
});
