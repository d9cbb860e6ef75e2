// Is each peer that is not to be believed refused, and is the reason told? Against real sidecars, with certificates made by
// openssl: in the metric, in the log, and to whoever waits for the answer.

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import tls from 'node:tls';
import test, { type ExecutionContext } from 'ava';
import { Authority, type Certificate, type Subject } from '../../support/certificates.js';
import { httpOrigin } from '../../support/http.js';
import { until, within } from '../../support/wait.js';
import { Mesh, type MeshSidecar, ask, idOf, numberOf } from '../support.js';

/** An extension of alternative names with one URI, whatever its bytes. */
function rawUri(uri: string): string {
  const bytes = Buffer.from(uri);
  const der = Buffer.from([0x30, bytes.length + 2, 0x86, bytes.length, ...bytes]);
  return `DER:${der.toString('hex').replace(/..(?!$)/g, '$&:')}`;
}

interface Odd {
  readonly what: string;
  readonly subject: Subject;
  readonly rejection: string;
}

/** Certificates that nobody may believe, by an authority that everybody believes. */
function odd(service: string): readonly Odd[] {
  const id = idOf(service);
  const of = (what: string, rejection: string, ...names: string[]): Odd => ({
    what,
    rejection,
    subject: { names, client: 'too' },
  });
  const dated = (what: string, rejection: string, when: Subject): Odd => ({
    what,
    rejection,
    subject: { names: [`URI:${id}`], client: 'too', ...when },
  });
  return [
    of('another trust domain', 'wrong_trust_domain', `URI:spiffe://other.test/ns/shop/sa/${service}`),
    of('one that begins as ours', 'wrong_trust_domain', `URI:spiffe://mesh.test.evil/ns/shop/sa/${service}`),
    dated('expired', 'expired', { expired: true }),
    dated('not yet valid', 'not_yet_valid', { early: true }),
    of('NUL in the name', 'not_spiffe', rawUri(`${id}\0.evil`)),
    of('a wildcard', 'not_spiffe', 'URI:spiffe://mesh.test/ns/shop/sa/*'),
    of('a wildcard as trust domain', 'not_spiffe', `URI:spiffe://*.test/ns/shop/sa/${service}`),
    of('two URIs', 'several_identities', `URI:${id}`, `URI:${idOf('other')}`),
    of('no URI', 'no_identity', `${service}.shop`),
  ];
}

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);

async function mesh(t: ExecutionContext): Promise<{ mesh: Mesh; authority: Authority }> {
  const authority = await Authority.create(t);
  return { authority, mesh: await Mesh.start(t, { issuer: await authority.issuer() }) };
}

const REQUEST = 'GET / HTTP/1.1\r\nhost: basket\r\nconnection: close\r\n\r\n';

/** What comes back for a request over TLS that shows this certificate; what there is when it ends, if that is nothing. */
async function call(
  basket: MeshSidecar,
  { certificate, key }: Certificate,
  { servername = 'p3000.basket.shop.mesh.test', protocol = 'h1', says = REQUEST } = {},
): Promise<string> {
  const socket = tls.connect({
    port: basket.inbound,
    host: '127.0.0.1',
    servername,
    cert: readFileSync(certificate),
    key: readFileSync(key),
    ALPNProtocols: [`mesh/${protocol}`],
    // Whom the test calls is not in question here.
    rejectUnauthorized: false,
  });
  let came = '';
  socket.on('data', (chunk: Buffer) => (came += chunk.toString()));
  socket.on('error', (error) => (came += error.message));
  socket.end(says);
  // It may end in an error, which is an answer.
  const closed = new Promise<void>((resolve) => {
    socket.on('close', () => resolve());
  });
  await within('the end', closed);
  return came;
}

test('a caller that proves nothing is refused, and why is counted and said', async (t) => {
  const { mesh: shop, authority } = await mesh(t);
  const origin = await httpOrigin(t);
  const basket = await shop.sidecar(t, 'basket', { ports: `3000=${origin.address}` });
  const good = await authority.sign({ names: [`URI:${idOf('web')}`], client: 'too' });
  t.regex(await call(basket, good), /^HTTP\/1\.1 200 /);
  const undeclared = await call(basket, good, { servername: 'p22.basket.shop.mesh.test' });
  t.regex(undeclared, /^HTTP\/1\.1 403 /);
  t.regex(undeclared, /proxy-status: .*port_undeclared/);

  const counts = new Map<string, number>();
  for (const { what, subject, rejection } of odd('web')) {
    const certificate = await authority.sign(subject);
    // What is said of callers is one line a second.
    const said = new RegExp(`a caller was not believed listener=inbound .*rejection=${rejection}$`, 'm');
    const before = basket.process.stderr().length;
    await until(`the log: ${what}`, async () => {
      const answer = await call(basket, certificate);
      t.regex(answer, /alert/, what);
      counts.set(rejection, (counts.get(rejection) ?? 0) + 1);
      return said.test(basket.process.stderr().slice(before));
    });
    const series = new RegExp(
      `^mesh_identity_rejections_total\\{listener="inbound",rejection="${rejection}"\\} (\\d+)$`,
      'm',
    );
    t.is(await numberOf(basket, series), counts.get(rejection) ?? 0, what);
  }
  t.is(origin.requests, 1);
  t.regex(await call(basket, good), /^HTTP\/1\.1 200 /);
});

test('who says that it sends bytes, and sends a request, is told by its certificate all the same', async (t) => {
  const { mesh: shop, authority } = await mesh(t);
  const origin = await httpOrigin(t);
  const ports = `3000=${origin.address}`;
  const basket = await shop.sidecar(t, 'basket', { ports });
  const good = await authority.sign({ names: [`URI:${idOf('web')}`], client: 'too' });
  const forged = `GET / HTTP/1.1\r\nhost: basket\r\nx-mesh-peer: ${idOf('admin')}\r\nconnection: close\r\n\r\n`;
  const answer = await call(basket, good, { protocol: 'tcp', says: forged });
  t.regex(answer, /^HTTP\/1\.1 200 /);
  t.true(answer.includes(`"x-mesh-peer":"${idOf('web')}"`), answer);
  t.false(answer.includes('admin'), answer);
  const blank = await call(basket, good, { protocol: 'tcp', says: `\r\n${forged}` });
  t.regex(blank, /^HTTP\/1\.1 (200|400) /);
  t.false(blank.includes('admin'), blank);
});

/** A server that would answer, with this certificate. */
async function impostor(t: ExecutionContext, { certificate, key }: Certificate, ca: string) {
  const heard = { address: '', requests: 0 };
  const server = tls.createServer({
    cert: readFileSync(certificate),
    key: readFileSync(key),
    ca: readFileSync(ca),
    requestCert: true,
    minVersion: 'TLSv1.3',
    ALPNProtocols: ['mesh/h1'],
  });
  server.on('tlsClientError', () => {});
  server.on('secureConnection', (socket) => {
    socket.on('error', () => {});
    socket.on('data', () => {
      heard.requests += 1;
      socket.end('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n');
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  heard.address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return heard;
}

test('who answers for a service and is not it is not spoken to, and the caller is told why', async (t) => {
  const { mesh: shop, authority } = await mesh(t);
  const web = await shop.sidecar(t, 'web');
  const all: readonly Odd[] = [
    ...odd('basket'),
    {
      what: 'somebody else of the mesh',
      rejection: 'wrong_identity',
      subject: { names: [`URI:${idOf('till')}`], client: 'too' },
    },
  ];
  const good = await impostor(
    t,
    await authority.sign({ names: [`URI:${idOf('basket')}`], client: 'too' }),
    authority.root,
  );
  shop.serve('good', [good.address], 3000, 'auto', 'basket');
  t.is((await ask(web, '/', 'good')).status, 200);
  for (const [number, { what, subject, rejection }] of all.entries()) {
    const server = await impostor(t, await authority.sign(subject), authority.root);
    const service = `odd-${number}`;
    shop.serve(service, [server.address], 3000, 'auto', 'basket');
    const cluster = `${service}.shop:3000`;
    const reason = rejection === 'wrong_identity' ? 'upstream_name' : 'upstream_certificate';
    const said = new RegExp(
      `a workload was not believed cluster=${escaped(cluster)} .*expected=${escaped(idOf('basket'))} rejection=${rejection}$`,
      'm',
    );
    await until(`the log: ${what}`, async () => {
      const { status, headers } = await ask(web, '/', service);
      t.is(status, 502, what);
      t.regex(String(headers['proxy-status']), new RegExp(reason), what);
      return said.test(web.process.stderr());
    });
    const series = new RegExp(
      `^mesh_upstream_identity_rejections_total\\{cluster="${escaped(cluster)}",rejection="${rejection}"\\} (\\d+)$`,
      'm',
    );
    t.true((await numberOf(web, series)) > 0, what);
    t.is(server.requests, 0, what);
  }
});
