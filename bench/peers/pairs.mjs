// How do two proxies stand in a row, as between two workloads?
//
//     load ── plaintext ── first ── mutual TLS 1.3 ── second ── plaintext ── origin
//
// Both are of the same make, on the same core, and their costs are one sum: they are children of one shell.

import { haproxy } from './haproxy.mjs';
import { sidecar } from './mesh.mjs';
import { READY, calls, haproxyConfig, sidecarCommand } from './workloads.mjs';
import { freePort } from '../lib/processes.mjs';

const quoted = (words) => words.map((word) => `'${word.replaceAll("'", String.raw`'\''`)}'`).join(' ');

/** A script that runs two commands, and ends them when it is ended. */
function both(first, second) {
  return `trap 'kill $one $two; wait; exit 0' TERM
${quoted(first)} & one=$!
${quoted(second)} & two=$!
wait
`;
}

const isHttp2 = (shape) => shape === 'h2';

export const haproxyPair = {
  ...haproxy,
  async plan({ shape, port, folder, origin, authority }) {
    const between = `127.0.0.1:${await freePort()}`;
    const http2 = isHttp2(shape);
    const first = haproxyConfig({
      authority,
      front: { address: `127.0.0.1:${port}`, http2 },
      back: { address: between, http2, service: 'web', calls },
    });
    const second = haproxyConfig({
      authority,
      front: { address: between, http2, service: 'basket' },
      back: { address: origin.http, http2 },
    });
    const run = (name) => ['haproxy', '-db', '-f', `${folder}/${name}`];
    return {
      files: {
        'first.cfg': first,
        'second.cfg': second,
        'pair.sh': both(run('first.cfg'), run('second.cfg')),
      },
      command: (path) => ['sh', path('pair.sh')],
    };
  },
};

export const sidecarPair = {
  ...sidecar,
  async plan(setup) {
    const { shape, port, origin, control } = setup;
    const http2 = isHttp2(shape);
    const between = `127.0.0.1:${await freePort()}`;
    await control.ask({ others: 0 });
    await control.ask({ serve: { service: 'basket', address: between, http2 } });
    const second = await sidecarCommand(setup, 'basket', {
      '--inbound': between,
      '--ports': `3000=${origin.http}/${http2 ? 'http2' : 'http1'}`,
    });
    const first = await sidecarCommand(setup, 'web', { '--forward': `basket:3000=127.0.0.1:${port}` });
    return {
      files: { 'pair.sh': both(first, second) },
      command: (path) => ['sh', path('pair.sh')],
      says: { what: READY, times: 2 },
    };
  },
};
