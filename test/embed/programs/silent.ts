// A process with a proxy that waits for a name server, `silent.js NAME_SERVER`: it exits when it reads a line.

import { once } from 'node:events';
import { createProxy } from '../../../src/index.js';

const [server = ''] = process.argv.slice(2);
const listeners = [{ name: 'web', address: '127.0.0.1:0', to: 'site.test:80' }];
const proxy = createProxy({ listeners }, { threads: 1, dnsServers: [server] });
proxy.listen().catch(() => {});
await once(process.stdin, 'data');
process.exit(3);
