// Does the table stay below what is said, and does it tell of the last seconds?

import picocolors from 'picocolors';
import test from 'ava';
import { compileMesh } from '../../src/mesh/compile.js';
import type { Edge } from '../../src/mesh/control-plane.js';
import type { Copy } from '../../src/mesh/up/copy.js';
import { Lines } from '../../src/mesh/up/lines.js';
import { MeshScreen } from '../../src/mesh/up/screen.js';
import { MeshTable } from '../../src/mesh/up/table.js';

function screen(isTTY: boolean) {
  const written: string[] = [];
  const output = { isTTY, columns: 20, write: (text: string) => written.push(text) };
  return { written, screen: new MeshScreen(output, picocolors.createColors(isTTY)) };
}

test('in a pipe: plain lines, and no table', (t) => {
  const { written, screen: shown } = screen(false);
  shown.say('hello');
  shown.table(['service', 'web']);
  shown.line('web', 'web.1', 'up');
  t.deepEqual(written, ['hello\n', '[web.1] up\n']);
});

test('on a terminal: the table is wiped, and drawn again below what is said', (t) => {
  const { written, screen: shown } = screen(true);
  shown.say('hello');
  shown.table(['head', 'a row that is longer than the screen']);
  shown.line('web', 'web.1', 'up');
  shown.line('basket', 'basket.1', 'up');
  shown.table([]);
  shown.say('closed');
  const [hello, table, web, basket, wiped, closed] = written;
  t.is(hello, 'hello\n');
  t.is(table, '\u001B[1mhead\u001B[22m\na row that is longe\n');
  t.is(web, `\u001B[2A\u001B[J\u001B[36m[web.1]\u001B[39m up\n${table}`);
  t.true(basket?.includes('\u001B[33m[basket.1]'), 'each service has a colour');
  t.is(wiped, '\u001B[2A\u001B[J');
  t.is(closed, 'closed\n');
});

test('lines are put together, cut apart and bounded', (t) => {
  const lines: string[] = [];
  const cutter = new Lines((line) => lines.push(line));
  for (const byte of Buffer.from('one\r\ntwø\n\nhalf')) cutter.write(Buffer.from([byte]));
  t.deepEqual(lines, ['one', 'twø', '']);
  cutter.end();
  cutter.end();
  t.deepEqual(lines.slice(3), ['half']);
  for (let part = 0; part < 100; part += 1) cutter.write(Buffer.alloc(4096, 'x'));
  t.true(lines.length > 4);
  t.true(lines.every((line) => line.length < 70_000));
});

test('the table: copies, and requests of the window as the sidecars of a service saw them', (t) => {
  const mesh = compileMesh({ services: { web: { run: 'x', copies: 2 }, db: { address: '10.0.0.1:1' } } });
  const [service] = mesh.services;
  const copy = (phase: string, restarts: number) =>
    ({ plan: { service }, phase, restarts }) as unknown as Copy;
  const copies = [copy('ready', 1), copy('starting', 0)];
  const edge = (requests: number, failures: number, direction: Edge['direction'] = 'inbound'): Edge => ({
    identity: 'spiffe://mesh.local/ns/default/sa/web',
    direction,
    peer: '',
    service: 'web',
    port: 80,
    protocol: 'http1',
    mtls: true,
    requests,
    failures: { request_timeout: failures },
    denied: 0,
    audited: 0,
    timesNs: [
      [1_500_000, 18],
      [2_000_000, 1],
      [30_000_000, 1],
    ],
  });
  const table = new MeshTable(mesh);
  const cells = (line: string | undefined) => line?.trim().split(/ {2,}/);
  t.deepEqual(cells(table.lines(copies, [], 0)[1]), ['web', '1/2', '1', '0.0', '-', '-', '-', '-', '-']);
  const later = table.lines(copies, [edge(20, 5), edge(9999, 0, 'outbound')], 2000);
  t.is(later.length, 2);
  t.deepEqual(cells(later[1]), [
    'web',
    '1/2',
    '1',
    '10.0',
    '75.0 %',
    '100.0 %',
    '1.50 ms',
    '2.00 ms',
    '30 ms',
  ]);
  // What is older than the window counts no more.
  table.lines(copies, [edge(20, 5)], 11_000);
  const idle = table.lines(copies, [edge(20, 5)], 23_000);
  t.deepEqual(cells(idle[1])?.slice(3, 8), ['0.0', '-', '-', '-', '-']);
});
