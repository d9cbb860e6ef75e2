// How is our own proxy set up: as the sidecar, from a file of resources, and embedded in Node, from a configuration?
//
// One data thread; routing, metrics and balancing are on, as they always are.

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { must } from '../../scripts/lib/run.mjs';
import { manifest, profile, root, sidecarPath } from '../../scripts/lib/toolchain.mjs';
import { here } from '../lib/places.mjs';

/** The size of the large route tables. */
export const ROUTES = 10_000;

const program = sidecarPath(profile);

async function prepare() {
  await must(process.execPath, [join(root, 'scripts', 'build.mjs')]);
}

export const sidecar = {
  name: 'mesh-sidecar',
  programs: [],
  prepare,

  version() {
    return execFileSync(program, ['--version'], { encoding: 'utf8' }).trim().split(' ').at(-1);
  },

  plan(setup) {
    const command = (path) => {
      const options = ['--config', path('resources.json'), '--threads', '1', '--lame-duck', '0s'];
      return [program, ...options];
    };
    const files = { 'resources.json': JSON.stringify(resources(setup), null, 1) };
    // On, as it is for everybody; two of them run side by side, so each has a free port.
    return { files, command, env: { MESH_ADMIN: '127.0.0.1:0' } };
  },
};

export const embedded = {
  name: '@mesh/proxy in Node',
  programs: [],
  prepare,

  version() {
    return `${manifest.version} (Node ${process.versions.node})`;
  },

  plan(setup) {
    const host = join(here, 'peers', 'embedded-host.mjs');
    const files = { 'config.json': JSON.stringify(configuration(setup), null, 1) };
    return { files, command: (path) => [process.execPath, host, path('config.json')] };
  },
};

/** What the sidecar reads. */
function resources({ shape, port, origin, certificate }) {
  const listener = { name: 'bench', address: `127.0.0.1:${port}` };
  if (shape === 'tcp') {
    Object.assign(listener, { protocol: 'tcp', tcp: [{ cluster: 'origin' }] });
  } else {
    listener.routes = 'bench';
  }
  if (shape === 'tls') {
    listener.tls = { certificates: [{ certificate: certificate.certificate, key: certificate.key }] };
  }
  const endpoint = shape === 'tcp' ? origin.tcp : origin.http;
  return {
    listeners: [listener],
    routeTables: shape === 'tcp' ? [] : [{ name: 'bench', virtualHosts: virtualHosts(shape) }],
    clusters: [{ name: 'origin', protocol: shape === 'h2-h2' ? 'http2' : 'http1' }],
    endpoints: [{ cluster: 'origin', localities: [{ endpoints: [{ address: endpoint }] }] }],
  };
}

function virtualHosts(shape) {
  const action = { kind: 'forward', to: [{ cluster: 'origin' }] };
  const numbers = Array.from({ length: ROUTES }, (_, n) => n);
  switch (shape) {
    case 'routes-prefix': {
      const route = (n) => ({ match: { path: { kind: 'prefix', value: `/p${n}` } }, action });
      return [{ hosts: ['*'], routes: numbers.map(route) }];
    }
    case 'routes-host':
      return numbers.map((n) => ({ hosts: [`h${n}.bench.test`], routes: [{ action }] }));
    default:
      return [{ hosts: ['*'], routes: [{ action }] }];
  }
}

/** What people write; the embedded proxy is measured with one route alone. */
function configuration({ port, origin }) {
  return {
    threads: 1,
    listeners: [{ name: 'bench', address: `127.0.0.1:${port}`, routes: [{ to: 'origin' }] }],
    clusters: { origin: { endpoints: [origin.http] } },
  };
}
