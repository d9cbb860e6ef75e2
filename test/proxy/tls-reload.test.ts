// Are new certificates, keys and roots used without a restart, and bad ones refused without harm?

import { once } from 'node:events';
import { copyFileSync, mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { type AddressInfo } from 'node:net';
import { join } from 'node:path';
import tls from 'node:tls';
import test, { type ExecutionContext } from 'ava';
import { createProxy } from '../../src/index.js';
import type { MeshError } from '../../src/index.js';
import { Authority, type Certificate } from '../support/certificates.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin, request } from '../support/http.js';
import { type Sidecar, startSidecar } from '../support/sidecar.js';
import { until, within } from '../support/wait.js';

/** The serial number of the certificate that a new connection is shown. */
async function shown(t: ExecutionContext, port: number, authority: Authority): Promise<string> {
  const socket = tls.connect({
    port,
    host: '127.0.0.1',
    servername: 'a.test',
    ca: readFileSync(authority.root),
  });
  t.teardown(() => socket.destroy());
  await within('a handshake', once(socket, 'secureConnect'));
  const { serialNumber } = socket.getPeerCertificate();
  socket.destroy();
  return serialNumber;
}

/** Puts a certificate and its key where the proxy reads them. */
function put(from: Certificate, to: Certificate): void {
  copyFileSync(from.certificate, to.certificate);
  copyFileSync(from.key, to.key);
}

async function world(t: ExecutionContext): Promise<{
  authority: Authority;
  live: Certificate;
  first: Certificate;
  second: Certificate;
  proxy: Sidecar;
}> {
  const authority = await Authority.create(t);
  const [first, second] = [
    await authority.sign({ names: ['a.test'] }),
    await authority.sign({ names: ['a.test'] }),
  ];
  const folder = temporaryFolder(t);
  const live = { certificate: join(folder, 'live.crt'), key: join(folder, 'live.key') };
  put(first, live);
  const origin = await httpOrigin(t, (_, response) => response.end('ok'));
  const proxy = await startSidecar(t, {
    listeners: [{ name: 'web', address: '127.0.0.1:0', tls: live, to: origin.address }],
  });
  return { authority, live, first, second, proxy };
}

test('a new pair is shown to new connections, and old ones go on', async (t) => {
  const { authority, live, second, proxy } = await world(t);
  const before = await shown(t, proxy.port(), authority);
  const agent = new https.Agent({
    keepAlive: true,
    maxSockets: 1,
    ca: readFileSync(authority.root),
    servername: 'a.test',
  });
  t.teardown(() => agent.destroy());
  const ask = (): Promise<{ text: string; reused: boolean }> =>
    new Promise((resolve, reject) => {
      const sent = https.get({ host: '127.0.0.1', port: proxy.port(), agent }, (response) => {
        let text = '';
        response.on('data', (part: Buffer) => (text += part.toString()));
        response.on('end', () => resolve({ text, reused: sent.reusedSocket }));
      });
      sent.on('error', reject);
    });
  t.is((await ask()).text, 'ok');
  put(second, live);
  const after = await until('the new certificate is shown', async () => {
    const serial = await shown(t, proxy.port(), authority);
    return serial !== before && serial;
  });
  t.not(after, before);
  t.deepEqual(await ask(), { text: 'ok', reused: true });
  await proxy.said(/listener web: its new certificates are in use/);
});

test('a key that does not fit is refused in one line, until it does', async (t) => {
  const { authority, live, second, proxy } = await world(t);
  const before = await shown(t, proxy.port(), authority);
  // Half of a pair.
  copyFileSync(second.certificate, live.certificate);
  await proxy.said(
    /warning: listener web: `.*live\.key` is not the key of `.*live\.crt`; what was read before stays in use/,
  );
  t.is(await shown(t, proxy.port(), authority), before);
  writeFileSync(live.key, 'no key');
  await proxy.said(/live\.key` holds no private key/);
  t.is(await shown(t, proxy.port(), authority), before);
  copyFileSync(second.key, live.key);
  await until('the whole pair is shown', async () => (await shown(t, proxy.port(), authority)) !== before);
  t.is(proxy.stderr().match(/is not the key of/g)?.length, 1);
});

test('SIGHUP looks at once', async (t) => {
  const { authority, live, first, second, proxy } = await world(t);
  const before = await shown(t, proxy.port(), authority);
  for (const pair of [second, first]) {
    put(pair, live);
    const from = proxy.stderr().length;
    proxy.process.signal('SIGHUP');
    await proxy.said(/its new certificates are in use/, from);
    await proxy.said(/version \d+ is live/, from);
  }
  t.is(await shown(t, proxy.port(), authority), before);
  writeFileSync(live.key, 'no key');
  const from = proxy.stderr().length;
  proxy.process.signal('SIGHUP');
  await proxy.said(/holds no private key/, from);
});

test('a link that is swapped, as Kubernetes does it, is followed', async (t) => {
  const authority = await Authority.create(t);
  const folder = temporaryFolder(t);
  const version = async (name: string): Promise<void> => {
    mkdirSync(join(folder, name));
    put(await authority.sign({ names: ['a.test'] }), {
      certificate: join(folder, name, 'tls.crt'),
      key: join(folder, name, 'tls.key'),
    });
    symlinkSync(name, join(folder, '..data.new'));
    renameSync(join(folder, '..data.new'), join(folder, '..data'));
  };
  await version('..1');
  const live = { certificate: join(folder, 'tls.crt'), key: join(folder, 'tls.key') };
  symlinkSync('..data/tls.crt', live.certificate);
  symlinkSync('..data/tls.key', live.key);
  const proxy = await startSidecar(t, {
    listeners: [
      { name: 'web', address: '127.0.0.1:0', tls: live, routes: [{ respond: { status: 200, body: 'ok' } }] },
    ],
  });
  const before = await shown(t, proxy.port(), authority);
  await version('..2');
  const after = await until('the new version is shown', async () => {
    const serial = await shown(t, proxy.port(), authority);
    return serial !== before && serial;
  });
  t.not(after, before);
});

test('towards servers: new roots are trusted, a new certificate is shown, no request fails', async (t) => {
  const [first, next, clients] = [
    await Authority.create(t, 'first'),
    await Authority.create(t, 'next'),
    await Authority.create(t, 'clients'),
  ];
  const folder = temporaryFolder(t);
  const roots = join(folder, 'roots.crt');
  copyFileSync(first.root, roots);
  const own = { certificate: join(folder, 'own.crt'), key: join(folder, 'own.key') };
  put(await clients.sign({ names: ['one.test'], client: true }), own);
  const pairs = [await first.sign({ names: ['site.test'] }), await next.sign({ names: ['site.test'] })];
  const seen: string[] = [];
  const server = https.createServer(
    {
      cert: readFileSync(pairs[0]?.certificate ?? ''),
      key: readFileSync(pairs[0]?.key ?? ''),
      ca: readFileSync(clients.root),
      requestCert: true,
    },
    (incoming, outgoing) => {
      seen.push(String((incoming.socket as tls.TLSSocket).getPeerCertificate().subject.CN));
      outgoing.end('ok');
    },
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  const proxy = await startSidecar(t, {
    listeners: [{ name: 'web', address: '127.0.0.1:0', routes: [{ to: 'site' }] }],
    clusters: {
      site: {
        endpoints: [`127.0.0.1:${port}`],
        tls: { serverName: 'site.test', roots, ...own },
        // The server is in this process, which may stand still amid a handshake.
        timeouts: { connect: '20s' },
      },
    },
  });
  const agent = new http.Agent({ keepAlive: true });
  t.teardown(() => agent.destroy());
  const ask = async (): Promise<void> => {
    t.is((await request(proxy.port(), { agent })).status, 200);
  };
  await ask();
  t.is(seen.at(-1), 'one.test');
  put(await clients.sign({ names: ['two.test'], client: true }), own);
  await until('the new certificate is shown', async () => {
    await ask();
    return seen.at(-1) === 'two.test';
  });
  // The server changes its authority: it is refused until the roots follow.
  server.setSecureContext({
    cert: readFileSync(pairs[1]?.certificate ?? ''),
    key: readFileSync(pairs[1]?.key ?? ''),
    ca: readFileSync(clients.root),
  });
  server.closeAllConnections();
  copyFileSync(next.root, roots);
  await until(
    'the new authority is trusted',
    async () => (await request(proxy.port(), { agent })).status === 200,
  );
  writeFileSync(roots, 'nothing');
  await proxy.said(
    /warning: TLS to servers: `.*roots\.crt` holds no certificate; what was read before stays in use/,
  );
  await ask();
});

test('in Node: refused files and certificates that end are warnings; dates and reloads are numbers', async (t) => {
  const authority = await Authority.create(t);
  const folder = temporaryFolder(t);
  const live = { certificate: join(folder, 'live.crt'), key: join(folder, 'live.key') };
  put(await authority.sign({ names: ['a.test'], expired: true }), live);
  const proxy = createProxy({
    listeners: [
      { name: 'web', address: '127.0.0.1:0', tls: live, routes: [{ respond: { status: 200, body: 'ok' } }] },
    ],
  });
  t.teardown(() => proxy.close());
  const warnings: MeshError[] = [];
  proxy.on('warning', (warning) => warnings.push(warning));
  const warned = (code: string): Promise<MeshError> =>
    until(code, () => warnings.find((warning) => warning.code === code));
  const { addresses } = await proxy.listen();
  t.regex(
    (await warned('MESH_CERTIFICATE_ENDING')).message,
    /^listener web: the certificate in `.*live\.crt` has expired$/,
  );
  const [before] = (await proxy.stats()).certificates;
  t.like(before, { kind: 'listener', name: 'web' });
  t.true((before?.notAfterSeconds ?? Infinity) < Date.now() / 1000);

  writeFileSync(live.key, 'no key');
  proxy.reloadFiles();
  t.regex((await warned('MESH_RELOAD_REFUSED')).message, /holds no private key/);
  put(await authority.sign({ names: ['a.test'] }), live);
  proxy.reloadFiles();
  t.is(
    await until('it is shown', () => shown(t, addresses[0]?.port ?? 0, authority).catch(() => false)),
    '02',
  );
  const { reloads, certificates } = await until('it is counted', async () => {
    const stats = await proxy.stats();
    return stats.reloads.done > 0 && stats;
  });
  t.deepEqual(reloads, { done: 1, refused: 1 });
  t.true((certificates[0]?.notAfterSeconds ?? 0) > Date.now() / 1000);
  const metrics = await proxy.metrics();
  t.regex(metrics, /^mesh_tls_reloads_total\{result="failure"\} 1$/m);
  t.regex(metrics, /^mesh_certificate_expiry_timestamp_seconds\{kind="listener",name="web"\} \d+$/m);
});
