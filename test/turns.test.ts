// Is work done one after the other, whatever becomes of it?

import { setImmediate as turn } from 'node:timers/promises';
import test from 'ava';
import { Turns } from '../src/turns.js';

test('work that is asked for at once is done in order, and each call settles as its own', async (t) => {
  const turns = new Turns();
  const said: string[] = [];
  let open = (): void => {};
  const gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  const first = turns.run(async () => {
    said.push('first begins');
    await gate;
    said.push('first ends');
    throw new Error('first fails');
  });
  const second = turns.run(() => {
    said.push('second');
    return 2;
  });
  const settled = turns.settled.then(() => said.push('settled'));
  await turn();
  t.deepEqual(said, ['first begins']);
  open();
  await t.throwsAsync(first, { message: 'first fails' });
  t.is(await second, 2);
  await settled;
  t.deepEqual(said, ['first begins', 'first ends', 'second', 'settled']);
});

test('what fails rejects nobody who waits for the end of all', async (t) => {
  const turns = new Turns();
  await t.notThrowsAsync(turns.settled);
  const failed = turns.run(() => {
    throw new Error('at once');
  });
  await t.notThrowsAsync(turns.settled);
  await t.throwsAsync(failed, { message: 'at once' });
});
