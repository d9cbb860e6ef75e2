/**
 * `npm start`: a small shop behind the proxy, with a client, and what the proxy sees of it.
 *
 *     client ──> proxy ──> web ──> proxy ──> catalogue (2 copies)
 *                                     └────> basket
 */

import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { createProxy } from '../index.js';
import type { MeshProxy } from '../index.js';

/** How often the table is drawn. */
const DRAW_MS = 1000;
/** How often the client asks, on average. */
const ASK_MS = 20;

type Answer = (path: string) => unknown;

async function service(answer: Answer): Promise<{ address: string; server: http.Server }> {
  const server = http.createServer((request, response) => {
    void Promise.resolve(answer(request.url ?? '/')).then(
      (body) => response.setHeader('content-type', 'application/json').end(`${JSON.stringify(body)}\n`),
      (error: unknown) => response.writeHead(502).end(`${String(error)}\n`),
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, server };
}

async function get(agent: http.Agent, address: string, host: string, path: string): Promise<unknown> {
  const [hostname, port] = address.split(':');
  return await new Promise((resolve, reject) => {
    const request = http.get({ agent, hostname, port, path, headers: { host } }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => (text += part));
      response.on('end', () => resolve(response.statusCode === 200 ? JSON.parse(text) : { error: text }));
      response.on('error', reject);
    });
    request.on('error', reject);
  });
}

const cell = (text: string, width: number): string => text.padEnd(width).slice(0, width);
const ms = (value: number | null): string => (value === null ? '-' : `${value.toFixed(2)} ms`);

/** One line a route: what happened since the last look. */
async function lines(proxy: MeshProxy, before: Map<string, number>): Promise<string[]> {
  const { routes, clusters } = await proxy.stats();
  return routes.map(({ route, cluster, requests, successRate, duration }) => {
    const rate = ((requests - (before.get(route) ?? 0)) * 1000) / DRAW_MS;
    before.set(route, requests);
    const endpoints = clusters.find(({ name }) => name === cluster)?.endpoints ?? [];
    const up = endpoints.filter(({ state }) => state === 'available').length;
    return [
      cell(route, 24),
      cell(`${rate.toFixed(0)}/s`, 8),
      cell(successRate === null ? '-' : `${(successRate * 100).toFixed(1)} %`, 9),
      cell(ms(duration.p50Ms), 10),
      cell(ms(duration.p95Ms), 10),
      cell(ms(duration.p99Ms), 10),
      `${up}/${endpoints.length}`,
    ].join(' ');
  });
}

async function main(): Promise<void> {
  const agent = new http.Agent({ keepAlive: true });
  let inner = '';
  const catalogue = await Promise.all(
    ['a', 'b'].map((copy) => service((path) => ({ copy, path, items: ['tea', 'cup', 'pot'] }))),
  );
  const basket = await service(() => ({ items: 2, total: '12.50' }));
  const web = await service(async () => ({
    catalogue: await get(agent, inner, 'catalogue.shop', '/items'),
    basket: await get(agent, inner, 'basket.shop', '/mine'),
  }));
  const proxy = createProxy({
    listeners: [
      { name: 'front', address: '127.0.0.1:8080', routes: [{ name: 'shop', to: 'web' }] },
      {
        name: 'between',
        address: '127.0.0.1:0',
        routes: [
          { name: 'catalogue', match: { host: 'catalogue.shop' }, to: 'catalogue' },
          { name: 'basket', match: { host: 'basket.shop' }, to: 'basket' },
        ],
      },
    ],
    clusters: {
      web: { endpoints: [web.address] },
      catalogue: { endpoints: catalogue.map(({ address }) => address) },
      basket: { endpoints: [basket.address] },
    },
  });
  const { addresses } = await proxy.listen();
  const front = addresses.find(({ listener }) => listener === 'front')?.address ?? '';
  inner = addresses.find(({ listener }) => listener === 'between')?.address ?? '';

  const asking = setInterval(() => void get(agent, front, 'shop.test', '/').catch(() => {}), ASK_MS);
  const before = new Map<string, number>();
  const { stdout } = process;
  console.log(`The shop is open. Try: curl http://${front}/    (Ctrl-C ends it)`);
  const heading = `${cell('route', 24)} ${cell('requests', 8)} ${cell('success', 9)} ${cell('p50', 10)} ${cell('p95', 10)} ${cell('p99', 10)} endpoints`;
  if (!stdout.isTTY) console.log(heading);
  let drawn = 0;
  const draw = async (): Promise<void> => {
    const table = await lines(proxy, before);
    if (stdout.isTTY) {
      if (drawn > 0) stdout.write(`\u001b[${drawn}A\u001b[J`);
      table.unshift(heading);
      drawn = table.length;
    }
    stdout.write(`${table.join('\n')}\n`);
  };
  const drawing = setInterval(() => {
    // A look that the end overtakes has nothing to show.
    draw().catch(() => {});
  }, DRAW_MS);

  const end = async (): Promise<void> => {
    clearInterval(asking);
    clearInterval(drawing);
    await proxy.drain({ timeoutMs: 2000 });
    agent.destroy();
    for (const { server } of [web, basket, ...catalogue]) server.close().closeAllConnections();
    console.log('drained, closed');
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void end());
}

await main();
