// Does the last line of `npm test` tell the truth?

import test from 'ava';
import { node, script } from './support.js';

interface Counter {
  passed: number;
  failed: number;
  skipped: number;
  failures: { lines: string[] };
  line(text: string): boolean;
  end(code: number): void;
}

type CounterClass = new () => Counter;

const { TapCounter } = await script<{ TapCounter: CounterClass }>('lib/tap.mjs');
const { CargoTestCounter } = await script<{ CargoTestCounter: CounterClass }>('lib/cargo-test.mjs');
const { notRun } = await script<{
  notRun(missing: { name: string; why: string }[], skipped: number): string | undefined;
}>('lib/not-run.mjs');

function count(
  Counter: CounterClass,
  lines: string[],
  code: number,
): [passed: number, failed: number, skipped: number] {
  const counter = new Counter();
  for (const line of lines) counter.line(line);
  counter.end(code);
  return [counter.passed, counter.failed, counter.skipped];
}

test('TAP: passes and failures are counted, a skipped or future test is neither', (t) => {
  const lines = [
    'TAP version 13',
    'ok 1 - a',
    'not ok 2 - b',
    'ok 3 - c # SKIP',
    'not ok 4 - d # TODO',
    '1..4',
    '# fail 2',
  ];
  t.deepEqual(count(TapCounter, lines, 1), [1, 1, 2]);
});

test('TAP: a stream without a plan is a failure, whatever its exit code', (t) => {
  t.deepEqual(count(TapCounter, ['ok 1 - a'], 0), [1, 1, 0]);
  t.deepEqual(count(TapCounter, [], 0), [0, 1, 0]);
});

test('TAP: an exit code that no line explains is a failure', (t) => {
  t.deepEqual(count(TapCounter, ['ok 1 - a', '1..1'], 1), [1, 1, 0]);
});

test('cargo: the results of all test binaries add up', (t) => {
  const lines = [
    'test a::b ... ok',
    'test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s',
    'test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s',
  ];
  t.deepEqual(count(CargoTestCounter, lines, 101), [15, 2, 1]);
});

test('cargo: tests that do not compile are a failure', (t) => {
  t.deepEqual(count(CargoTestCounter, [], 101), [0, 1, 0]);
});

test('what failed is told once more, with why, and nothing else is', (t) => {
  const tap = new TapCounter();
  const why = ['not ok 2 - b', '  ---', '    message: it did', ...Array<string>(100).fill('    at'), '  ...'];
  for (const line of ['ok 1 - a', '#   a log', ...why, 'ok 3 - c', '  ---', 'not ok 4 - d # TODO', '  ---'])
    tap.line(line);
  t.deepEqual(tap.failures.lines, why.slice(0, 60));
  const cargo = new CargoTestCounter();
  const block = ['---- a::b stdout ----', "thread 'a::b' panicked at src/a.rs:1:1:", 'as asked'];
  for (const line of [
    'test a::b ... FAILED',
    'failures:',
    '',
    ...block,
    '',
    'failures:',
    '    a::b',
    'test result: FAILED',
  ])
    cargo.line(line);
  t.deepEqual(cargo.failures.lines, block);
});

test('only lines that a person needs are shown', (t) => {
  const tap = new TapCounter();
  const cargo = new CargoTestCounter();
  t.true(tap.line('not ok 1 - a'));
  t.false(tap.line('# tests 3'));
  t.true(cargo.line('test a ... FAILED'));
  t.false(cargo.line('test a ... ok'));
});

test('what was not run is told once, by why', (t) => {
  const why = 'there is no Go here';
  const envoy = { name: 'Envoy', why: 'it could not be fetched' };
  t.is(
    notRun([{ name: 'h2spec', why }, envoy, { name: 'grpc-go', why }, envoy], 7),
    `not run: h2spec, grpc-go, since ${why}; Envoy, since it could not be fetched; 7 tests in all`,
  );
  t.is(notRun([], 1), 'not run: 1 test in all');
  t.is(notRun([], 0), undefined);
});

test('a wrong argument ends in the plain line too', async (t) => {
  const { code, stdout } = await node(['scripts/test.mjs', 'everything']);
  t.is(code, 1);
  t.regex(stdout, /no part is called everything: choose from lint, types, rust, ava/);
  t.is(stdout.trimEnd().split('\n').at(-1), '0 passed, 1 failed');
});
