// A process whose logger and listeners throw whenever they are called, `throws.js TO`. It says what nobody caught, and
// for each call on the proxy how it went.

import http from 'node:http';
import { once } from 'node:events';
import { createProxy, silentLogger } from '../../../src/index.js';

const [to = ''] = process.argv.slice(2);
const config = { listeners: [{ name: 'web', address: '127.0.0.1:0', to }] };

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

function thrower(what: string): () => never {
  return () => {
    throw new Error(what);
  };
}

process.on('uncaughtException', ({ message }) => say(`uncaught ${message}`));
const proxy = createProxy(config, { threads: 1, logger: { ...silentLogger, info: thrower('logger') } });
for (const event of ['listening', 'applied', 'draining', 'close'] as const) proxy.on(event, thrower(event));

const { addresses } = await proxy.listen();
say(`listens ${proxy.listening}`);
await proxy.apply(config);
const [response] = (await once(
  http.get(`http://${addresses[0]?.address}/`, { agent: false }),
  'response',
)) as [http.IncomingMessage];
response.resume();
say(`status ${response.statusCode}`);
await proxy.drain();
say(`ended ${!proxy.listening}`);
