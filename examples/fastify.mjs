// Fastify behind a proxy in the same process: one logger for both, and both close together.
// `node examples/fastify.mjs`, then `curl http://127.0.0.1:8080/hello/you`.

import { createProxy } from '@mesh/proxy';
import Fastify from 'fastify';

const app = Fastify({ logger: { level: process.env.LOG_LEVEL ?? 'info' }, trustProxy: '127.0.0.1' });
app.get('/hello/:name', ({ params, ip }) => ({ hello: params.name, you: ip }));
app.addHook('preClose', () => proxy.drain({ timeoutMs: 5000 }));
const behind = await app.listen({ port: 0, host: '127.0.0.1' });

const proxy = createProxy(
  {
    listeners: [{ name: 'web', address: `127.0.0.1:${process.env.PORT ?? 8080}`, to: new URL(behind).host }],
  },
  { logger: app.log },
);
const { addresses } = await proxy.listen();
console.log(`http://${addresses[0].address}/`);

process.once('SIGTERM', () => app.close());
