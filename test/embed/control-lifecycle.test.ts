// Does a control plane in this process live and end as a proxy does, whatever its listeners and its disk do?

import test from 'ava';
import { within } from '../support/wait.js';
import { program } from './support.js';

test('what a listener throws is uncaught as any, and changes nothing of what the control plane does', async (t) => {
  const running = program(t, 'control-throws');
  t.deepEqual(await within('the end of the process', running.exit), { code: 0, signal: null });
  const lines = running.stdout().toString().trim().split('\n');
  t.deepEqual(
    lines.filter((line) => !line.startsWith('uncaught')),
    ['listens 1', 'the source came again', 'applied true', 'ended'],
  );
  for (const event of ['listening', 'applied', 'close']) {
    t.is(lines.filter((line) => line === `uncaught ${event}`).length, 1, event);
  }
  // It failed, and it was well again.
  t.is(lines.filter((line) => line === 'uncaught source').length, 2);
  t.true(lines.includes('uncaught endpoints'));
});
