// Do the servers that people run get along with it: nginx and HAProxy behind it?

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { temporaryFolder } from '../support/files.js';
import { echoed, httpOrigin, keepAliveAgent, request } from '../support/http.js';
import { start } from '../support/processes.js';
import { startSidecar, web } from '../support/sidecar.js';
import { closedPort, connect } from '../support/tcp.js';
import { until } from '../support/wait.js';

type Test = Parameters<typeof startSidecar>[0];

async function listening(port: number, t: Test): Promise<void> {
  await until(
    `port ${port} is open`,
    async () => (await connect(t, port).catch(() => undefined)) !== undefined,
  );
}

test('nginx: files, ranges, conditions, keep-alive', async (t) => {
  const folder = temporaryFolder(t);
  const port = await closedPort();
  const file = Buffer.alloc(3_000_000, 'nginx ');
  writeFileSync(join(folder, 'file'), file);
  writeFileSync(
    join(folder, 'nginx.conf'),
    `daemon off; master_process off; pid ${folder}/pid; error_log stderr; events {}
     http { access_log off; client_body_temp_path ${folder}/b; proxy_temp_path ${folder}/p; fastcgi_temp_path ${folder}/f;
       uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;
       server { listen 127.0.0.1:${port}; root ${folder}; location /echo { return 200 "$request_method $http_x_request_id"; } } }`,
  );
  start(t, 'nginx', ['-e', 'stderr', '-p', folder, '-c', join(folder, 'nginx.conf')]);
  await listening(port, t);
  const proxy = await startSidecar(t, web({ routes: [{ to: `127.0.0.1:${port}` }] }));
  const agent = keepAliveAgent(t, { maxSockets: 1 });
  const whole = await request(proxy.port(), { agent, path: '/file' });
  t.is(whole.status, 200);
  t.true(whole.body.equals(file));
  const etag = String(whole.headers.etag);
  const same = await request(proxy.port(), { agent, path: '/file', headers: { 'if-none-match': etag } });
  t.is(same.status, 304);
  t.is(same.headers.etag, etag);
  const part = await request(proxy.port(), { agent, path: '/file', headers: { range: 'bytes=10-19' } });
  t.is(part.status, 206);
  t.is(part.text, file.subarray(10, 20).toString());
  const head = await request(proxy.port(), { agent, path: '/file', method: 'HEAD' });
  t.is(head.headers['content-length'], String(file.length));
  t.regex(
    (await request(proxy.port(), { agent, path: '/echo', method: 'DELETE' })).text,
    /^DELETE [0-9a-f-]{36}$/,
  );
  t.is((await request(proxy.port(), { agent, path: '/none' })).status, 404);
});

test('HAProxy: chunked bodies both ways through two proxies', async (t) => {
  const origin = await httpOrigin(t);
  const folder = temporaryFolder(t);
  const port = await closedPort();
  writeFileSync(
    join(folder, 'haproxy.cfg'),
    `defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n` +
      `frontend in\n bind 127.0.0.1:${port}\n default_backend out\nbackend out\n server one ${origin.address}\n`,
  );
  start(t, 'haproxy', ['-db', '-f', join(folder, 'haproxy.cfg')]);
  await listening(port, t);
  const proxy = await startSidecar(t, web({ routes: [{ to: `127.0.0.1:${port}` }] }));
  const agent = keepAliveAgent(t, { maxSockets: 4 });
  await Promise.all(
    Array.from({ length: 40 }, async (_, n) => {
      const body = String(n).repeat(5000);
      const answer = await request(proxy.port(), {
        agent,
        method: 'POST',
        body,
        headers: { 'transfer-encoding': 'chunked' },
      });
      t.is(answer.status, 200);
      t.is(echoed(answer).body, body);
    }),
  );
});
