/** The shop's catalogue: HTTP/1. `catalogue.js COPY DELAY_MS`; the second copy is slower, so that there is something to balance. */

import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { announce, listening } from './service.js';

const [copy = 'a', delay = '0'] = process.argv.slice(2);

const ITEMS = [
  { name: 'tea', price: 4.5 },
  { name: 'cup', price: 8 },
  { name: 'pot', price: 24 },
];

async function answer(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
  await sleep(Math.random() * Number(delay));
  const found = request.url === '/items';
  response.writeHead(found ? 200 : 404, { 'content-type': 'application/json' });
  response.end(`${JSON.stringify(found ? { copy, items: ITEMS } : { error: 'no such page' })}\n`);
}

const server = http.createServer((request, response) => void answer(request, response));

announce(await listening(server));
