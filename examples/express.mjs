// Express behind a proxy in the same process: health answered without Express, the proxy's metrics beside the
// application's. `node examples/express.mjs`, then `curl http://127.0.0.1:8080/metrics`.

import { once } from 'node:events';
import { createProxy } from '@mesh/proxy';
import express from 'express';
import { register } from 'prom-client';

const app = express();
// Who asked is what the proxy says in `x-forwarded-for`.
app.set('trust proxy', 'loopback');
app.get('/hello/:name', ({ params, ip }, response) => response.json({ hello: params.name, you: ip }));
app.get('/metrics', async (_, response) => {
  response.type(register.contentType).send(await register.metrics());
});
const server = app.listen(0, '127.0.0.1');
await once(server, 'listening');

const proxy = createProxy({
  listeners: [
    {
      name: 'web',
      address: `127.0.0.1:${process.env.PORT ?? 8080}`,
      routes: [
        { to: 'app', timeout: '5s' },
        { match: { path: '/healthz' }, respond: { status: 200, body: 'ok' } },
      ],
    },
  ],
  clusters: { app: { endpoints: [`127.0.0.1:${server.address().port}`] } },
});
proxy.register(register);
const { addresses } = await proxy.listen();
console.log(`http://${addresses[0].address}/`);

process.once('SIGTERM', async () => {
  await proxy.drain({ timeoutMs: 5000 });
  server.close();
});
