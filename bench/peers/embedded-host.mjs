// node embedded-host.mjs CONFIG: the proxy inside of a Node process that does nothing else.

import { readFileSync } from 'node:fs';
import { createProxy } from '@mesh/proxy';

const proxy = createProxy(JSON.parse(readFileSync(process.argv[2], 'utf8')));
await proxy.listen();
