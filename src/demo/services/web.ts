/**
 * The shop's front page: asks the catalogue (HTTP/1) and the basket (gRPC), both through the proxy.
 *
 * Both go to the same address: the proxy sees what is spoken, and routes by host and by service.
 */

import http from 'node:http';
import { Client, credentials } from '@grpc/grpc-js';
import { type Contents, get } from './basket-api.js';
import { type Directions, announce, directions, listening } from './service.js';

const DEADLINE_MS = 2000;

function catalogueAt({ mesh }: Directions): () => Promise<unknown> {
  const agent = new http.Agent({ keepAlive: true });
  const [hostname, port] = mesh.split(':');
  const options = { agent, hostname, port, path: '/items', headers: { host: 'catalogue.shop' } };
  return () =>
    new Promise((resolve, reject) => {
      const asked = http.get({ ...options, timeout: DEADLINE_MS }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (part: string) => {
          text += part;
        });
        response.on('end', () => {
          if (response.statusCode === 200) resolve(JSON.parse(text));
          else reject(new Error(`the catalogue answered ${response.statusCode}: ${text.trim()}`));
        });
        response.on('error', reject);
      });
      asked.on('timeout', () => asked.destroy(new Error('the catalogue does not answer')));
      asked.on('error', reject);
    });
}

function basketAt({ mesh }: Directions): (customer: string) => Promise<Contents> {
  const client = new Client(mesh, credentials.createInsecure(), { 'grpc.default_authority': 'basket.shop' });
  return (customer) =>
    new Promise((resolve, reject) => {
      const deadline = Date.now() + DEADLINE_MS;
      client.makeUnaryRequest(
        get.path,
        get.requestSerialize,
        get.responseDeserialize,
        { customer },
        { deadline },
        (error, contents) => {
          if (contents) resolve(contents);
          else reject(error ?? new Error('the basket is silent'));
        },
      );
    });
}

/** Requests that come before anybody has said where the others are wait for it. */
const others = directions().then((where) => ({ catalogue: catalogueAt(where), basket: basketAt(where) }));

async function page(): Promise<object> {
  const { catalogue, basket } = await others;
  const [items, mine] = await Promise.all([catalogue(), basket('you')]);
  return { catalogue: items, basket: mine };
}

const server = http.createServer((_, response) => {
  page().then(
    (body) => response.setHeader('content-type', 'application/json').end(`${JSON.stringify(body)}\n`),
    (error: unknown) => response.writeHead(502).end(`${String(error)}\n`),
  );
});

announce(await listening(server));
