// Does the proxy live in newer Node too? The core is one file for all of them (N-API).

import test from 'ava';
import { httpOrigin } from '../support/http.js';
import { newerNodes } from '../support/nodes.js';
import { start } from '../support/processes.js';
import { cleanEnvironment } from '../support/sidecar.js';
import { within } from '../support/wait.js';
import { programFile } from './support.js';

if (newerNodes.size === 0) test.skip('there is no other Node here', () => {});

for (const [version, node] of newerNodes) {
  for (const steps of [
    ['ask', 'close'],
    ['unref', 'ask'],
    ['ask', 'exit'],
  ]) {
    test(`Node ${version} embeds it: ${steps.join(', ')}`, async (t) => {
      const origin = await httpOrigin(t);
      const running = start(t, node, [programFile('serve'), origin.address, ...steps], {
        env: cleanEnvironment(),
      });
      const { code } = await within('the end of the process', running.exit);
      t.is(code, steps.includes('exit') ? 7 : 0, running.stderr());
      t.is(running.stderr(), '');
      t.is(origin.requests, 1);
    });
  }
}
