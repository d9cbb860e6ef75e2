// Two plain HTTP servers behind a proxy in the same process: `node examples/http.mjs`, then `curl http://127.0.0.1:8080/`.

import { once } from 'node:events';
import { createServer } from 'node:http';
import { createProxy } from '@mesh/proxy';

const servers = ['one', 'two'].map((name) =>
  createServer((_, response) => response.end(`hello from ${name}\n`)).listen(0, '127.0.0.1'),
);
await Promise.all(servers.map((server) => once(server, 'listening')));

const proxy = createProxy({
  listeners: [{ address: `127.0.0.1:${process.env.PORT ?? 8080}`, routes: [{ to: 'hello' }] }],
  clusters: { hello: { endpoints: servers.map((server) => `127.0.0.1:${server.address().port}`) } },
});
const { addresses } = await proxy.listen();
console.log(`http://${addresses[0].address}/`);

process.once('SIGTERM', async () => {
  await proxy.drain({ timeoutMs: 5000 });
  for (const server of servers) server.close();
});
