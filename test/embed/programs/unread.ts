// A process that says a warning to standard error, which nobody reads any more. It begins when it reads a line.

import { once } from 'node:events';
import { plainLogger } from '../../../src/index.js';

await once(process.stdin, 'data');
const logger = plainLogger({ level: 'warn' });
for (let times = 0; times < 3; times += 1) {
  logger.warn('unheard');
  await new Promise((resolve) => {
    setTimeout(resolve, 10);
  });
}
process.stdout.write('went on\n');
process.stdin.destroy();
