// Do programs that know nothing of the mesh get through it by their variables alone, and is what sidecars would refuse told?

import { statSync } from 'node:fs';
import http from 'node:http';
import { dirname, join } from 'node:path';
import test from 'ava';
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

test('what sidecars would refuse is refused where it is written, and what was before serves; and nobody else may ask', async (t) => {
  const { address } = await httpOrigin(t, (_, outgoing) => void outgoing.end('small enough\n'));
  const mesh = (addresses: readonly string[]) => ({
    services: {
      web: { run: `${curl('http://billing/')}; while sleep 0.2; do curl -fsS http://billing/; done` },
      billing: { address: [...addresses], port: 80 },
    },
  });
  const many = Array.from({ length: 60_000 }, (_, number) => `10.0.${number >> 8}.${number & 255}:80`);
  const tooMany = /`billing\.default:80` would be refused by sidecars: all endpoints hold too many fields/;
  const up = MeshUp.start(t, mesh([address]));
  await up.printed('web.1', 'small enough');
  up.write(mesh(many));
  await until('a refusal', () => tooMany.test(up.process.stderr() + up.process.stdout().toString()));
  const from = up.lines().length;
  await until('an answer', () =>
    up
      .lines()
      .slice(from)
      .some(({ text }) => text === 'small enough'),
  );
  t.deepEqual((await up.json<SidecarStatus>('config', 'web-1')).nacks, []);

  const socket = join(up.folder, SOCKET);
  t.is(statSync(socket).mode & 0o777, 0o600);
  t.is(statSync(dirname(socket)).mode & 0o077, 0);

  const never = MeshUp.start(t, mesh(many));
  t.not((await never.process.exit).code, 0);
  t.regex(never.process.stderr() + never.process.stdout().toString(), tooMany);
});
