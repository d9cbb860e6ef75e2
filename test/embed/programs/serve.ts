// A process with a proxy in it: `serve.js TO [STEP...]`.
//
// It says `address HOST:PORT` on standard output, then takes the steps, then does nothing more to live or to end:
//
//     close      closes the proxy
//     unref      lets the process end although the proxy listens
//     ask        sends one request through the proxy
//     read       waits for a line on standard input
//     exit       process.exit(7)
//     throw      an exception that nobody catches
//     block=F    blocks the event loop until the file F exists; says `blocked` before and `unblocked` after

import { once } from 'node:events';
import { existsSync } from 'node:fs';
import http from 'node:http';
import { createProxy } from '../../../src/index.js';

const [to = '', ...steps] = process.argv.slice(2);
const proxy = createProxy({ listeners: [{ name: 'web', address: '127.0.0.1:0', to }] }, { threads: 2 });
const { addresses } = await proxy.listen();
const { address } = addresses[0] ?? {};

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

async function ask(): Promise<void> {
  const [response] = (await once(http.get(`http://${address}/`, { agent: false }), 'response')) as [
    http.IncomingMessage,
  ];
  response.resume();
  await once(response, 'end');
  say(`status ${response.statusCode}`);
}

function block(file: string): void {
  const nothing = new Int32Array(new SharedArrayBuffer(4));
  say('blocked');
  // Bounded, so that a test that fails leaves nothing behind.
  for (let looks = 0; looks < 6000 && !existsSync(file); looks += 1) Atomics.wait(nothing, 0, 0, 10);
  say('unblocked');
}

say(`address ${address}`);
for (const step of steps) {
  const [name, value = ''] = step.split('=');
  switch (name) {
    case 'close':
      await proxy.close();
      break;
    case 'unref':
      proxy.unref();
      break;
    case 'ask':
      await ask();
      break;
    case 'read':
      await once(process.stdin, 'data');
      // Only the proxy is to keep the process.
      process.stdin.destroy();
      break;
    case 'exit':
      process.exit(7);
      break;
    case 'throw':
      throw new Error('nobody catches this');
    case 'block':
      block(value);
      break;
    default:
      throw new Error(`no step is called ${name}`);
  }
}
