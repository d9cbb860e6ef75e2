/**
 * The shop's front page: asks the catalogue (HTTP/1) and the basket (gRPC).
 *
 * It calls the catalogue by its name. gRPC's client knows no names of the mesh: `mesh up` says where the basket is.
 */

import http from 'node:http';
import { Client, credentials } from '@grpc/grpc-js';
import { type Contents, get } from './basket-api.js';

const DEADLINE_MS = 2000;

const { MESH_URL_BASKET = '', PORT } = process.env;
const basket = new Client(new URL(MESH_URL_BASKET).host, credentials.createInsecure());

async function catalogue(): Promise<unknown> {
  const response = await fetch('http://catalogue/items', { signal: AbortSignal.timeout(DEADLINE_MS) });
  const text = await response.text();
  if (!response.ok) throw new Error(`the catalogue answered ${response.status}: ${text.trim()}`);
  return JSON.parse(text);
}

function basketOf(customer: string): Promise<Contents> {
  return new Promise((resolve, reject) => {
    basket.makeUnaryRequest(
      get.path,
      get.requestSerialize,
      get.responseDeserialize,
      { customer },
      { deadline: Date.now() + DEADLINE_MS },
      (error, contents) => {
        if (contents) resolve(contents);
        else reject(error ?? new Error('the basket is silent'));
      },
    );
  });
}

async function page(): Promise<object> {
  const [items, mine] = await Promise.all([catalogue(), basketOf('you')]);
  return { catalogue: items, basket: mine };
}

const server = http.createServer((_, response) => {
  page().then(
    (body) => response.setHeader('content-type', 'application/json').end(`${JSON.stringify(body)}\n`),
    (error: unknown) => response.writeHead(502).end(`${String(error)}\n`),
  );
});

server.listen(Number(PORT), '127.0.0.1');
