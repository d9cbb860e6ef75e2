// How is one sidecar of a mesh set up, a HAProxy that does the same work, and the control plane itself?
//
// Everywhere: TLS 1.3 alone, certificates verified on both sides, AES-256-GCM, one data thread, no log of requests.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { profile, sidecarPath } from '../../scripts/lib/toolchain.mjs';
import { idOf, serverNameOf } from '../lib/authority.mjs';
import { controlHost } from '../lib/control.mjs';
import { here } from '../lib/places.mjs';
import { freePort, saying, start, stop } from '../lib/processes.mjs';
import { haproxy } from './haproxy.mjs';
import { sidecar } from './mesh.mjs';

/** The size of a large mesh. */
export const SERVICES = 5000;

const subscribersHost = join(here, 'peers', 'subscribers.mjs');
const program = sidecarPath(profile);
export const READY = 'mesh-sidecar: ready\n';

/** The command of a sidecar of `service`, with a token of its own. */
export async function sidecarCommand({ control, authority, folder }, service, flags) {
  const token = join(folder, `${service}.token`);
  writeFileSync(token, (await control.ask({ token: service })).token, { mode: 0o600 });
  const all = {
    '--control': control.addresses.join(','),
    '--trust-anchors': authority.path('root.crt'),
    '--token-file': token,
    '--identity': idOf(service),
    '--name': service,
    '--inbound': `127.0.0.1:${await freePort()}`,
    '--admin': 'off',
    '--threads': '1',
    '--lame-duck': '0s',
    ...flags,
  };
  return [program, ...Object.entries(all).flat()];
}

/** TLS as a workload speaks it, in HAProxy's words. Its OpenSSL has no ML-KEM: both its ends agree on X25519. */
const offered = 'ciphersuites TLS_AES_256_GCM_SHA384';

/** A HAProxy that takes calls, of the same length of lines for both of its uses. */
export function haproxyConfig({ authority, front, back }) {
  const bind = front.service
    ? `ssl crt ${authority.path(`${front.service}.pem`)} ca-file ${authority.path('root.crt')} verify required ${offered} ssl-min-ver TLSv1.3 alpn ${front.http2 ? 'h2' : 'http/1.1'} no-tls-tickets`
    : (front.http2 && 'proto h2') || '';
  const server = back.service
    ? `ssl crt ${authority.path(`${back.service}.pem`)} ca-file ${authority.path('root.crt')} verify required ${offered} ssl-min-ver TLSv1.3 sni str(${back.calls}) verifyhost ${back.calls} alpn ${back.http2 ? 'h2' : 'http/1.1'} no-ssl-reuse`
    : (back.http2 && 'proto h2') || '';
  return `global
  nbthread 1
  maxconn 4000
defaults
  mode http
  http-reuse always
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend front
  bind ${front.address} ${bind}
  default_backend next
backend next
  server next ${back.address} ${server}
`;
}

export const calls = serverNameOf('basket', 3000);

/** What a client of a workload shows. */
const client = (authority, alpn) =>
  Object.entries({
    '--certificate': authority.path('web.chain'),
    '--key': authority.path('web.key'),
    '--server-name': calls,
    '--alpn': alpn,
  }).flat();

export const haproxyInbound = {
  ...haproxy,
  plan({ authority, port, origin }) {
    const front = { address: `127.0.0.1:${port}`, service: 'basket' };
    const config = haproxyConfig({ authority, front, back: { address: origin.http } });
    return {
      files: { 'haproxy.cfg': config },
      command: (path) => ['haproxy', '-db', '-f', path('haproxy.cfg')],
      load: client(authority, 'http/1.1'),
    };
  },
};

export const sidecarInbound = {
  ...sidecar,
  async plan(setup) {
    const { authority, control, port, origin } = setup;
    const address = `127.0.0.1:${port}`;
    await control.ask({ serve: { service: 'basket', address } });
    const ports = { '--inbound': address, '--ports': `3000=${origin.http}` };
    const command = await sidecarCommand(setup, 'basket', ports);
    return {
      files: {},
      command: () => command,
      says: { what: READY, times: 1 },
      load: client(authority, 'mesh/h1'),
    };
  },
};

/**
 * A sidecar that has nothing to do; `shape` says how many other services its control plane knows, and after a `+` to how
 * many of them it has a plain listener each.
 */
export const workload = {
  ...sidecar,
  async plan(setup) {
    const [others, plain = 0] = setup.shape.split('+').map(Number);
    await setup.control.ask({ others });
    const forwards = Array.from({ length: plain }, (_, n) => `other-${n}:80=127.0.0.1:0`);
    const flags = {
      '--inbound': `127.0.0.1:${setup.port}`,
      '--ports': `3000=${setup.origin.http}`,
      ...(plain > 0 && { '--forward': forwards.join(',') }),
    };
    const command = await sidecarCommand(setup, 'basket', flags);
    return { files: {}, command: () => command, says: { what: READY, times: 1 } };
  },
};

/** A sidecar that starts again with what it has kept, when there is no control plane. */
export const restarted = {
  ...sidecar,
  async plan(setup) {
    const { folder, port, origin } = setup;
    const state = join(folder, 'state');
    mkdirSync(state, { recursive: true, mode: 0o700 });
    const ports = {
      '--inbound': `127.0.0.1:${port}`,
      '--ports': `3000=${origin.http}`,
      '--state-dir': state,
    };
    const command = await sidecarCommand(setup, 'basket', ports);
    const log = join(folder, 'first.txt');
    const first = start(0, command[0], command.slice(1), { log });
    await saying(first, { what: READY, times: 1 }, log);
    await stop(first);
    const address = command.indexOf('--control') + 1;
    const alone = command.with(address, `127.0.0.1:${await freePort()}`);
    return { files: {}, command: () => alone, says: { what: READY, times: 1 } };
  },
};

export const controlPlane = {
  ...sidecar,
  name: 'control plane',
  plan() {
    // It starts without being asked to, and says where.
    const command = [process.execPath, controlHost, '--alone'];
    return { files: {}, command: () => command, says: { what: 'addresses', times: 1 } };
  },
};

/** Subscribers of the control plane that runs beside the load; `shape` says how many. */
export const subscribers = {
  ...sidecar,
  name: 'subscribers',
  async plan({ shape, control, authority }) {
    await control.ask({ others: SERVICES });
    const [address] = control.addresses;
    const own = [authority.path('web.chain'), authority.path('web.key')];
    const command = [process.execPath, subscribersHost, address, shape, ...own, 'other-0.bench:3000'];
    return { files: {}, command: () => command, says: { what: '"at"', times: 1, limitMs: 180_000 } };
  },
};
