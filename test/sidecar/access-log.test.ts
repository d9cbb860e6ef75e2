// Does every request, stream and failed connection leave the line that it should, and only that one?

import test from 'ava';
import { spawnSync } from 'node:child_process';
import { closeSync, constants, openSync, readFileSync, readSync, renameSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import http2 from 'node:http2';
import https from 'node:https';
import { join } from 'node:path';
import tls from 'node:tls';
import { type Config, checkConfig } from '../../src/index.js';
import { lines, linesOf } from '../support/access-log.js';
import { Authority } from '../support/certificates.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin, request } from '../support/http.js';
import { startSidecar } from '../support/sidecar.js';
import { connect, tcpServer } from '../support/tcp.js';
import { until } from '../support/wait.js';
import { fileWith, runSidecar } from './support.js';

test('HTTP/1: an exchange, an answer of the proxy, a bad head, a tunnel', async (t) => {
  const path = join(temporaryFolder(t), 'access.log');
  const seen: string[] = [];
  const origin = await httpOrigin(t, (incoming, response) => {
    seen.push(String(incoming.headers['x-request-id']));
    incoming.resume();
    incoming.on('end', () => response.end('0123456789'));
  });
  const bytes = await tcpServer(t, async (peer) => {
    await peer.readUntil('!');
    await peer.send('answer');
    peer.end();
  });
  const sidecar = await startSidecar(t, {
    listeners: [
      {
        name: 'web',
        address: '127.0.0.1:0',
        accessLog: { path },
        routes: [{ name: 'app', match: { path: '/app/*' }, to: 'app' }],
      },
      { name: 'tcp', address: '127.0.0.1:0', protocol: 'tcp', to: 'bytes', accessLog: { path } },
      { name: 'quiet', address: '127.0.0.1:0', to: 'app' },
    ],
    clusters: { app: { endpoints: [origin.address] }, bytes: { endpoints: [bytes.address] } },
  });
  const port = sidecar.port('web');
  await request(sidecar.port('quiet'));
  await request(port, {
    path: '/app/x?q="1"',
    method: 'POST',
    body: 'abcde',
    headers: { 'user-agent': 'tester', host: 'shop.test' },
  });
  const [exchange] = await lines(path, 1);
  t.like(exchange, {
    listener: 'web',
    route: 'app',
    cluster: 'app',
    endpoint: origin.address,
    protocol: 'http1',
    method: 'POST',
    host: 'shop.test',
    path: '/app/x?q="1"',
    status: 200,
    retries: 0,
    bytes_in: 5,
    bytes_out: 10,
    user_agent: 'tester',
    request_id: seen[1],
  });
  t.regex(String(exchange?.['time']), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  t.regex(String(exchange?.['client']), /^127\.0\.0\.1:\d+$/);
  t.true(Number(exchange?.['duration_ms']) > 0);

  await request(port, { path: '/nothing' });
  t.like((await lines(path, 2))[1], { status: 404, reason: 'no_route', layer: 'proxy', path: '/nothing' });
  const bad = await connect(t, port);
  await bad.send('GET / HTTP/1.1\nHost: x\n\n');
  await bad.readToEnd();
  t.like((await lines(path, 3))[2], { status: 400, reason: 'bad_request', layer: 'downstream' });
  const tunnel = await connect(t, sidecar.port('tcp'));
  await tunnel.send('hello!');
  t.is(await tunnel.readToEnd(), 'answer');
  tunnel.end();
  t.like((await lines(path, 4))[3], {
    listener: 'tcp',
    protocol: 'tcp',
    cluster: 'bytes',
    endpoint: bytes.address,
    bytes_in: 6,
    bytes_out: 6,
  });
  t.is((await sidecar.drain()).code, 0);
  t.is(linesOf(path).length, 4, 'and nothing else');
});

test('HTTP/2 and gRPC', async (t) => {
  const path = join(temporaryFolder(t), 'access.log');
  const origin = await httpOrigin(t, (_, response) => response.end('ok'));
  const sidecar = await startSidecar(t, {
    listeners: [
      {
        name: 'web',
        address: '127.0.0.1:0',
        accessLog: { path },
        routes: [{ match: { host: 'shop.test', path: '/x' }, to: 'app' }],
      },
    ],
    clusters: { app: { endpoints: [origin.address] } },
  });
  const session = http2.connect(sidecar.url('web'));
  t.teardown(() => session.destroy());
  const ask = async (headers: http2.OutgoingHttpHeaders): Promise<void> => {
    const stream = session.request({ ':authority': 'shop.test', ...headers });
    stream.resume();
    await once(stream, 'close');
  };
  await ask({ ':path': '/x' });
  await ask({ ':path': '/a.B/C', ':method': 'POST', 'content-type': 'application/grpc' });
  const [first, second] = await lines(path, 2);
  t.like(first, {
    protocol: 'http2',
    method: 'GET',
    host: 'shop.test',
    path: '/x',
    status: 200,
    bytes_out: 2,
  });
  t.like(second, { protocol: 'grpc', path: '/a.B/C', grpc_status: 12, reason: 'no_route' });
});

test('TLS: version, name and peer; handshakes that fail; streams passed through', async (t) => {
  const path = join(temporaryFolder(t), 'access.log');
  const authority = await Authority.create(t);
  const own = await authority.sign({ names: ['web.test'] });
  const client = await authority.sign({
    names: ['client.test', 'URI:spiffe://mesh/ns/a/sa/b'],
    client: true,
  });
  const origin = await httpOrigin(t, (_, response) => response.end('ok'));
  const ca = readFileSync(authority.root);
  const behind = tls.createServer(
    { cert: readFileSync(own.certificate), key: readFileSync(own.key) },
    (socket) => socket.end('through'),
  );
  behind.listen(0, '127.0.0.1');
  await once(behind, 'listening');
  t.teardown(() => behind.close());
  const { port: behindPort } = behind.address() as { port: number };
  const sidecar = await startSidecar(t, {
    listeners: [
      {
        name: 'tls',
        address: '127.0.0.1:0',
        tls: { ...own, clientCertificates: { roots: authority.root } },
        accessLog: { path },
        routes: [{ to: 'app' }],
      },
      {
        name: 'pass',
        address: '127.0.0.1:0',
        protocol: 'tlsPassthrough',
        sni: [{ hosts: ['web.test'], to: `127.0.0.1:${behindPort}` }],
        accessLog: { path },
      },
    ],
    clusters: { app: { endpoints: [origin.address] } },
  });
  await new Promise<void>((resolve, reject) => {
    https
      .get(
        {
          port: sidecar.port('tls'),
          servername: 'web.test',
          agent: false,
          ca,
          cert: readFileSync(client.certificate),
          key: readFileSync(client.key),
        },
        (response) => {
          response.resume();
          response.on('end', resolve);
        },
      )
      .on('error', reject);
  });
  t.like((await lines(path, 1))[0], {
    status: 200,
    tls: '1.3',
    sni: 'web.test',
    peer: 'spiffe://mesh/ns/a/sa/b',
  });
  const clear = await connect(t, sidecar.port('tls'));
  await clear.send('GET / HTTP/1.1\r\n\r\n');
  await clear.readToEnd();
  t.like((await lines(path, 2))[1], { listener: 'tls', protocol: 'tls', reason: 'tls_handshake_failed' });
  const pass = (servername: string): Promise<unknown> => {
    const socket = tls.connect({ port: sidecar.port('pass'), host: '127.0.0.1', servername, ca });
    socket.on('error', () => {});
    socket.resume();
    return new Promise((resolve) => {
      socket.once('close', resolve);
    });
  };
  await pass('web.test');
  t.like((await lines(path, 3))[2], { listener: 'pass', protocol: 'tls', sni: 'web.test' });
  await pass('other.test');
  t.like((await lines(path, 4))[3], { listener: 'pass', sni: 'other.test', reason: 'sni_unknown' });
});

test('standard output, a share of the requests, and a file that was moved', async (t) => {
  const path = join(temporaryFolder(t), 'access.log');
  const answer = { match: { path: '/x' }, respond: { status: 200 } };
  const work = (sample: number) => ({
    listeners: [
      { name: 'file', address: '127.0.0.1:0', accessLog: { path, sample }, routes: [answer] },
      { name: 'out', address: '127.0.0.1:0', accessLog: true, routes: [answer] },
    ],
  });
  const sidecar = await startSidecar(t, work(1));
  await request(sidecar.port('out'), { path: '/x' });
  await until('a line on standard output', () => sidecar.process.stdout().toString().endsWith('}\n'));
  t.like(JSON.parse(sidecar.process.stdout().toString()), { listener: 'out', path: '/x' });

  await request(sidecar.port('file'), { path: '/x' });
  await lines(path, 1);
  renameSync(path, `${path}.1`);
  sidecar.process.signal('SIGUSR1');
  await sidecar.said(/access logs are reopened/);
  await until('the file is there again', () => {
    try {
      readFileSync(path);
      return true;
    } catch {
      return false;
    }
  });
  await request(sidecar.port('file'), { path: '/x' });
  t.is((await lines(path, 1)).length, 1);
  t.is(linesOf(`${path}.1`).length, 1);

  await sidecar.reload(work(0.000_001));
  for (let n = 0; n < 20; n += 1) await request(sidecar.port('file'), { path: '/x' });
  await request(sidecar.port('file'), { path: '/nothing' });
  const all = await lines(path, 2);
  t.is(all.length, 2, 'a millionth of twenty is none');
  t.is(all[1]?.['reason'], 'no_route', 'what the proxy answers itself is always written');
});

test('a pipe that nobody reads is refused, at the start and later; with a reader it is a file like others', async (t) => {
  const path = join(temporaryFolder(t), 'pipe');
  t.is(spawnSync('mkfifo', [path]).status, 0);
  const config = (accessLog: { path: string } | false): Config => ({
    listeners: [{ name: 'web', address: '127.0.0.1:0', routes: [{ respond: 200 }], accessLog }],
  });
  const file = fileWith(t, checkConfig(config({ path })).toJson());
  const { code, stderr } = await runSidecar(['--config', file]);
  t.is(code, 64);
  t.regex(stderr.toString(), /listeners\[0\]\.accessLog\.path: .*nobody reads this pipe/);

  const sidecar = await startSidecar(t, config(false));
  writeFileSync(sidecar.file, checkConfig(config({ path })).toJson());
  sidecar.process.signal('SIGHUP');
  await sidecar.said(/not applied: the last good configuration keeps serving/);
  t.is((await request(sidecar.port('web'))).status, 200);
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  t.teardown(() => closeSync(reader));
  await sidecar.reload(config({ path }));
  await request(sidecar.port('web'));
  const text = await until('a line comes', () => {
    const bytes = Buffer.alloc(4096);
    try {
      return bytes.toString('utf8', 0, readSync(reader, bytes)) || undefined;
    } catch {
      return undefined;
    }
  });
  t.like(JSON.parse(text), { listener: 'web', status: 200 });
});
