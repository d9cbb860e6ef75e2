/** The shop's catalogue: HTTP/1. It takes a moment, so that there is something to balance between its copies. */

import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

const SLOWEST_MS = 5;

const { PORT } = process.env;

const ITEMS = [
  { name: 'tea', price: 4.5 },
  { name: 'cup', price: 8 },
  { name: 'pot', price: 24 },
];

async function answer(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
  await sleep(Math.random() * SLOWEST_MS);
  const found = request.url === '/items';
  response.writeHead(found ? 200 : 404, { 'content-type': 'application/json' });
  response.end(
    `${JSON.stringify(found ? { copy: Number(PORT), items: ITEMS } : { error: 'no such page' })}\n`,
  );
}

const server = http.createServer((request, response) => void answer(request, response));

server.listen(Number(PORT), '127.0.0.1');
