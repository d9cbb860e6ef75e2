// Does a Node program reach the mesh's names by its own means, and everything else as if nothing had happened?

import test from 'ava';
import {
  BODY,
  EXPECTED,
  PASSED,
  PASSED_ON,
  REQUESTS,
  WITH_DOT,
  WITH_DOT_SEEN,
  program,
  world,
} from './support.js';

test('http, https and fetch of an ES module reach the names of the mesh', async (t) => {
  const mesh = await world(t);
  const code = `import http from 'node:http'; import https from 'node:https'; ${BODY} ${REQUESTS} await main();`;
  t.deepEqual(await program(t, mesh, code), EXPECTED);
  t.is(mesh.basket.requests, 8);
});

test('http, https and fetch of a CommonJS program reach the names of the mesh', async (t) => {
  const mesh = await world(t);
  const code = `const http = require('http'), https = require('https'); ${BODY} ${REQUESTS} void main();`;
  t.deepEqual(await program(t, mesh, code, { kind: 'commonjs' }), EXPECTED);
});

test('a caller passed on: the Host is the one that is asked, and the path as it came', async (t) => {
  const code = `import http from 'node:http'; ${BODY} ${PASSED_ON} await passed();`;
  t.deepEqual(await program(t, await world(t, { trustedNetworks: ['127.0.0.1'] }), code), PASSED);
});

test('functions that were imported by name, and libraries on top of http, reach them too', async (t) => {
  const mesh = await world(t);
  const code = `
    import { get as ask } from 'node:http'; ${BODY}
    const answer = await new Promise((resolve, reject) => {
      ask('http://basket/named', (response) => text(response).then(resolve, reject)).on('error', reject);
    });
    console.log(JSON.stringify(seen(answer)));`;
  t.deepEqual(await program(t, mesh, code), ['/named', 'basket']);
});

test('names with a final dot are those without', async (t) => {
  const mesh = await world(t);
  const code = `import http from 'node:http'; import https from 'node:https'; ${BODY} ${WITH_DOT}`;
  t.deepEqual(await program(t, mesh, code), WITH_DOT_SEEN);
  t.is(mesh.basket.requests, 8);
});

test('a client that waits for 100 Continue is told so through the sidecar', async (t) => {
  const mesh = await world(t);
  const code = `
    import http from 'node:http'; ${BODY}
    const request = http.request({ host: 'basket', path: '/e', method: 'PUT', headers: { expect: '100-continue' } });
    request.flushHeaders();
    request.on('continue', () => request.end('body'));
    const answer = await new Promise((resolve, reject) => {
      request.on('response', (response) => text(response).then(resolve, reject)).on('error', reject);
    });
    console.log(JSON.stringify(seen(answer)));`;
  t.deepEqual(await program(t, mesh, code), ['/e', 'basket']);
});

test('what is not of the mesh goes its own way', async (t) => {
  const mesh = await world(t);
  const code = `
    import http from 'node:http'; ${BODY}
    const url = 'http://' + process.env.OUTSIDE;
    const by = await get(http, url + '/http');
    const fetched = await (await fetch(url + '/fetch')).text();
    console.log(JSON.stringify([by, fetched].map((each) => JSON.parse(each).headers.via ?? JSON.parse(each).url)));`;
  t.deepEqual(await program(t, mesh, code), ['/http', '/fetch']);
  t.is(mesh.outside.requests, 2);
  t.is(mesh.basket.requests, 0);
});

test("npm's undici is left alone, and reaches the mesh by the variables that it knows", async (t) => {
  const mesh = await world(t);
  const env = { ...mesh.env, http_proxy: `http://${mesh.sidecar.address()}`, no_proxy: '127.0.0.1' };
  const code = `
    import { EnvHttpProxyAgent, request } from 'undici'; ${BODY}
    const dispatcher = new EnvHttpProxyAgent();
    const inside = await (await request('http://basket/u', { dispatcher })).body.text();
    const outside = await (await request('http://' + process.env.OUTSIDE + '/o')).body.text();
    await dispatcher.close();
    console.log(JSON.stringify([seen(inside), JSON.parse(outside).url]));`;
  t.deepEqual(await program(t, { env }, code), [['/u', 'basket'], '/o']);
});

test('a dispatcher that a program brings along is used as it is', async (t) => {
  const mesh = await world(t);
  const code = `
    const dispatcher = { dispatch(options) { console.log(JSON.stringify(String(options.origin))); process.exit(); } };
    await fetch('http://basket/', { dispatcher });`;
  t.is(await program(t, mesh, code), 'http://basket');
});

test('a name that the sidecar does not know is an error that says so', async (t) => {
  const mesh = await world(t);
  const code = `
    import https from 'node:https'; ${BODY}
    const told = await get(https, 'https://closed/').catch((error) => [error.code, error.statusCode]);
    const fetched = await fetch('https://closed/').catch((error) => [error.cause.code, error.cause.statusCode]);
    const plain = await fetch('http://closed/');
    console.log(JSON.stringify([told, fetched, plain.status]));`;
  t.deepEqual(await program(t, mesh, code), [
    ['MESH_CONNECT_REFUSED', 403],
    ['MESH_CONNECT_REFUSED', 403],
    403,
  ]);
});

test('connections to the sidecar are kept, whatever service they are for', async (t) => {
  const mesh = await world(t);
  const code = `
    import http from 'node:http'; import net from 'node:net'; ${BODY}
    const agent = new http.Agent({ keepAlive: true });
    let connections = 0;
    const { connect } = net.Socket.prototype;
    net.Socket.prototype.connect = function (...args) { connections += 1; return connect.apply(this, args); };
    for (const host of ['basket', 'basket.default', 'basket']) await get(http, { host, agent });
    agent.destroy();
    console.log(JSON.stringify(connections));`;
  t.is(await program(t, mesh, code), 1);
});

test('without the variables it does nothing', async (t) => {
  const mesh = await world(t);
  const code = `
    import http from 'node:http';
    console.log(JSON.stringify([http.Agent.prototype.addRequest.toString().includes('mesh'), fetch.name]));`;
  for (const without of ['MESH_OUTBOUND', 'MESH_NAMES'] as const) {
    t.deepEqual(await program(t, { env: { ...mesh.env, [without]: '' } }, code), [false, 'fetch']);
  }
});
