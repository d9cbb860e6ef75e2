// Does docs/attack.md list the rows that there are, and does what it tells people to type check a proxy?

import test from 'ava';
import * as bounds from '../../src/attack/bounds.js';
import { BEARS } from '../../src/attack/http2-attacks.js';
import { ROWS, type Report } from '../../src/attack/index.js';
import { httpOrigin } from '../support/http.js';
import { Ports, Shell, example, generated, page } from './support.js';

test('its table is that of the rows', (t) => {
  const lines = ROWS.map(({ number, attack, must, check }) => {
    const seen = typeof check === 'string' ? 'yes' : `no: ${check.unseen}`;
    return `| ${number} | ${attack} | ${must} | ${check === 'slow' ? 'with `--slow`' : seen} |`;
  });
  const table = ['| row | attack | must | seen by a client |', '|---|---|---|---|', ...lines, ''].join('\n');
  const { is, shouldBe } = generated('docs/attack.md', table);
  t.is(is, shouldBe);
});

test('its bounds are those of the code', (t) => {
  const text = page('docs/attack.md').replaceAll('\n', ' ');
  for (const said of [
    `${BEARS.resets} resets`,
    `${BEARS.settings} SETTINGS`,
    `${BEARS.continuations} CONTINUATIONs`,
    `${BEARS.ownResets} resets that it must send`,
    `${BEARS.headBytes / 1024} KiB of a head`,
    `${bounds.MOST_CONNECTIONS} connections at once`,
    `${bounds.MOST_BYTES / 2 ** 20} MiB sent in all`,
    `${bounds.MOST_READ / 2 ** 20} MiB read of a connection`,
    `${bounds.ORDINARY_MS / 1000} s for an ordinary answer`,
    `${bounds.VERDICT_MS / 1000} s for a verdict`,
    `it waits for ${bounds.SLOW_MS / 1000} s`,
    `at most ${bounds.LONGEST_TIMEOUT_MS / 60_000} minutes`,
    `\`${bounds.TIMEOUT_MS / 60_000}m\``,
  ])
    t.true(text.includes(said), said);
});

test.serial('the check is typed as it stands there, and the proxy of the page holds', async (t) => {
  const shell = await Shell.open(t, new Ports({ 3000: (await httpOrigin(t)).port }));
  await shell.serve(example('docs/attack.md', 'front'));
  const [all = '', some = ''] = example('docs/attack.md', 'check').trim().split('\n');
  const table = await shell.type(all);
  t.regex(table, /^row\tattack\tmust\thappened\tverdict\n1\t/);
  t.regex(table, /: \d+ held, 0 failed, \d+ skipped\n$/);
  const { rows } = JSON.parse(await shell.type(some)) as Report;
  t.deepEqual(
    rows.map(({ row, verdict }) => [row, verdict]),
    [
      [12, 'held'],
      [13, 'held'],
      [14, 'held'],
    ],
  );
});
