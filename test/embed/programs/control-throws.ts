// A process whose listeners throw whenever a control plane calls them. It says what nobody caught, and for each call on the
// control plane how it went.

import { once } from 'node:events';
import { createControlPlane } from '../../../src/index.js';

const EVENTS = ['listening', 'applied', 'endpoints', 'source', 'close'] as const;
let begun = 0;

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

process.on('uncaughtException', ({ message }) => say(`uncaught ${message}`));
process.on('unhandledRejection', (reason) => say(`unhandled ${String(reason)}`));
const plane = createControlPlane(
  { services: { basket: { port: 3000 } } },
  {
    listen: '127.0.0.1:0',
    discovery: {
      basket: async function* (signal) {
        begun += 1;
        if (begun === 1) throw new Error('it fails');
        yield { set: ['10.0.0.1:80'] };
        await once(signal, 'abort');
      },
    },
  },
);
for (const event of EVENTS) {
  plane.on(event, () => {
    throw new Error(event);
  });
}
const told = new Promise<void>((resolve) => {
  plane.prependListener('endpoints', () => resolve());
});
const addresses = await plane.listen();
say(`listens ${addresses.length}`);
await told;
say('the source came again');
say(`applied ${(await plane.apply({ services: { basket: { port: 3001 } } })) > 0}`);
await plane.close();
say('ended');
