// Do programs that know nothing of the mesh get through it by their variables alone, and are its tools told what a sidecar
// refuses?

import { statSync } from 'node:fs';
import http from 'node:http';
import { dirname, join } from 'node:path';
import test from 'ava';
import type { Finding } from '../../src/mesh/admin/findings.js';
import type { SidecarStatus } from '../../src/mesh/admin/types.js';
import { SOCKET } from '../../src/mesh/admin/client.js';
import { httpOrigin, serve } from '../support/http.js';
import { until } from '../support/wait.js';
import { MeshUp } from './command.js';

/** Answers with what the sidecar says of the caller. */
const SERVER = `
require('node:http').createServer((request, response) => {
  response.end('for ' + request.headers['x-mesh-peer'] + '\\n');
}).listen(process.env.PORT, '127.0.0.1');
`;

/** Calls until it is answered, and prints the answer. */
const curl = (url: string): string => `until curl -fsS ${url}; do sleep 0.1; done`;

test('curl by http_proxy: services, one outside with a DNS name, and what needs no proxy', async (t) => {
  const outside = await httpOrigin(t, (_, outgoing) => void outgoing.end('outside\n'));
  const direct = http.createServer((_, outgoing) => void outgoing.end('direct\n'));
  const { port } = await serve(t, direct, 0, '127.0.0.2');
  const calls = ['http://basket/', 'http://billing/', `http://127.0.0.2:${port}/`].map(curl);
  const run = [...calls, 'echo "$NO_PROXY"', 'sleep 600'].join('; ');
  const mesh = MeshUp.start(
    t,
    {
      // What is no service is refused by the sidecar, so what answers was not asked through it.
      mesh: { knownServicesOnly: true },
      services: {
        web: { run },
        basket: { run: 'exec node server.cjs', port: 3000 },
        billing: { address: `localhost:${outside.port}` },
      },
    },
    { files: { 'server.cjs': SERVER }, flags: ['--listen', '127.0.0.2:0'] },
  );
  await mesh.printed('web.1', 'for spiffe://mesh.local/ns/default/sa/web');
  await mesh.printed('web.1', 'outside');
  await mesh.printed('web.1', 'direct');
  await mesh.printed('web.1', 'localhost,127.0.0.1,::1,127.0.0.2');
  t.is(outside.requests, 1);
});

test('what a sidecar refuses is told with its reason, until it is mended; and nobody else may ask', async (t) => {
  const { address } = await httpOrigin(t, (_, outgoing) => void outgoing.end('small enough\n'));
  const mesh = (addresses: readonly string[]) => ({
    services: {
      web: { run: `${curl('http://billing/')}; sleep 600` },
      billing: { address: [...addresses], port: 80 },
    },
  });
  const many = Array.from({ length: 20_000 }, (_, number) => `10.0.${number >> 8}.${number & 255}:80`);
  const up = MeshUp.start(t, mesh(many));
  const config = () => up.json<SidecarStatus>('config', 'web-1');
  const nack = await until('a refusal', async () => {
    const about = await config().catch(() => undefined);
    return about?.nacks.find(({ name }) => name === 'billing.default:80');
  });
  t.regex(nack.reason, /holds too many fields: more than \d+ numbers$/);
  const text = (await up.mesh('config', 'web-1')).stdout.toString();
  t.regex(text, /billing\.default:80.*too many fields/);
  const check = await up.mesh('check', '-o', 'json');
  t.is(check.code, 1);
  const findings = JSON.parse(check.stdout.toString()) as Finding[];
  const refused = findings.find(({ what }) => /^web-1 refuses .*billing\.default:80: /.test(what));
  t.is(refused?.level, 'error');
  t.regex(refused?.what ?? '', /holds too many fields/);

  const socket = join(up.folder, SOCKET);
  t.is(statSync(socket).mode & 0o777, 0o600);
  t.is(statSync(dirname(socket)).mode & 0o077, 0);

  up.write(mesh([address]));
  await up.printed('web.1', 'small enough');
  await until('no refusal', async () => (await config()).nacks.length === 0);
});
