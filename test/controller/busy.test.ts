// Does a control plane hear of its sidecars whose main thread is busy while strangers ask for certificates?

import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import { createControlPlane } from '../../src/index.js';
import { freePort, startMeshSidecar } from '../mesh/support.js';
import { temporaryFolder } from '../support/files.js';
import { until } from '../support/wait.js';

/** More than there are places for what is to be told. */
const REQUESTS = 5_000;
const PATIENCE_MS = 40_000;

/** Asks for certificates that nobody gets, lets the sidecar start, and goes on when that is ready. */
const STRANGER = `
const { writeFileSync } = require('node:fs');
const http = require('node:http');
const http2 = require('node:http2');
const { workerData: { control, admin, go, over, requests } } = require('node:worker_threads');
const session = http2.connect('https://' + control, { rejectUnauthorized: false, servername: 'control.mesh' });
const garbage = Buffer.from([0, 0, 0, 0, 4, 10, 2, 1, 2]);
const head = { ':method': 'POST', ':path': '/mesh.v1.Identity/Sign', 'content-type': 'application/grpc', te: 'trailers' };
const ask = () => new Promise((done) => session.request(head).on('close', done).on('error', () => {}).resume().end(garbage));
const isReady = () => new Promise((done) =>
  http.get({ port: admin, path: '/ready', agent: false }, (answer) => done(answer.resume().statusCode === 200)).on('error', () => done(false)));
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
(async () => {
  for (let count = 0; count < requests; count += 50) await Promise.all(Array.from({ length: 50 }, ask));
  session.close();
  writeFileSync(go, '');
  while (!(await isReady())) await pause(50);
  // It has said so by then.
  await pause(1000);
  Atomics.store(over, 0, 1);
  Atomics.notify(over, 0);
})();
`;

test('who is ready is known, however many strangers were refused meanwhile', async (t) => {
  const mesh = { services: { basket: { port: 3000 } } };
  const plane = createControlPlane(mesh, { listen: '127.0.0.1:0' });
  t.teardown(() => plane.close());
  const [control = ''] = await plane.listen();
  const folder = temporaryFolder(t);
  const [trustAnchors, token, go] = ['roots.pem', 'token', 'go'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  writeFileSync(trustAnchors, plane.roots());
  writeFileSync(token, await plane.token('basket'), { mode: 0o600 });
  const admin = await freePort();
  await startMeshSidecar(t, {
    identity: 'spiffe://mesh.local/ns/default/sa/basket',
    name: 'basket',
    control: [control],
    trustAnchors,
    token,
    ports: '3000=127.0.0.1:9',
    flags: { '--admin': `127.0.0.1:${admin}`, '--with-parent': String(process.pid) },
    under: ['sh', '-c', 'until [ -e "$0" ]; do sleep 0.1; done; exec "$@"', go],
    ready: false,
  });
  const over = new Int32Array(new SharedArrayBuffer(4));
  const workerData = { control, admin, go, over, requests: REQUESTS };
  const stranger = new Worker(STRANGER, { eval: true, workerData });
  t.teardown(() => stranger.terminate());
  Atomics.wait(over, 0, 0, PATIENCE_MS);
  t.true(existsSync(go) && over[0] === 1);
  const endpoints = () => plane.sources().find(({ service }) => service === 'basket')?.endpoints;
  await until('it is called', () => endpoints() === 1);
});
