// Does the benchmark claim only what its rounds show?

import test from 'ava';
import { script } from './support.js';

type Round = Record<string, { cost: number } | undefined>;
interface Line {
  verdict: string;
  figures: { id: string; value?: { median: number }; ratio?: { median: number; rounds: number } }[];
}

const { judge, ENOUGH_ROUNDS } = await script<{
  ENOUGH_ROUNDS: number;
  judge(
    row: object,
    participants: { id: string; label: string }[],
    measured: { rounds: Round[]; failed: Record<string, string> },
  ): Line[];
}>('../bench/lib/judge.mjs');

const line = { title: 'cost', figure: 'cost', subject: 'ours', baseline: 'theirs', required: 1.1, goal: 1 };
const participants = ['direct', 'ours', 'theirs'].map((id) => ({ id, label: id }));

/** The verdict on rounds with these costs, and our ratio. */
function judged(
  rounds: { ours: number; theirs?: number }[],
  { subtract, failed = {}, ...limits }: { subtract?: string; failed?: object; baseline?: undefined } = {},
): { verdict?: string; ratio?: number } {
  const row = { id: 'row', unit: 'us', subtract, lines: [{ ...line, ...limits }] };
  const measured = rounds.map(({ ours, theirs }) => ({
    direct: { cost: 100 },
    ours: { cost: ours },
    theirs: theirs === undefined ? undefined : { cost: theirs },
  }));
  const [found] = judge(row, participants, { rounds: measured, failed: { ...failed } });
  const ratio = found?.figures.find(({ id }) => id === 'ours')?.ratio?.median;
  return { verdict: found?.verdict, ratio };
}

const times = <T>(count: number, round: T): T[] => Array.from({ length: count }, () => round);

test('the median of the ratios of each round is held against the limits', (t) => {
  const rounds = (ours: number): { ours: number; theirs: number }[] => [
    { ours: 1, theirs: 100 },
    { ours: 300, theirs: 100 },
    ...times(3, { ours, theirs: 200 }),
  ];
  t.deepEqual(judged(rounds(200)), { verdict: 'goal met', ratio: 1 });
  t.deepEqual(judged(rounds(210)), { verdict: 'required met', ratio: 1.05 });
  t.deepEqual(judged(rounds(240)), { verdict: 'missed', ratio: 1.2 });
});

test('rounds count that have a figure, and below five nothing is claimed', (t) => {
  const good = { ours: 50, theirs: 100 };
  t.is(judged(times(ENOUGH_ROUNDS, good)).verdict, 'goal met');
  t.is(judged(times(ENOUGH_ROUNDS - 1, good)).verdict, 'nothing claimed');
  t.is(judged([...times(ENOUGH_ROUNDS - 1, good), { ours: 50 }]).verdict, 'nothing claimed');
  t.is(judged(times(ENOUGH_ROUNDS, { ours: 50 })).verdict, 'not measured');
});

test('what a baseline adds in some rounds only is no measure', (t) => {
  const rounds = [...times(ENOUGH_ROUNDS, { ours: 101, theirs: 120 }), { ours: 180, theirs: 99 }];
  t.deepEqual(judged(rounds, { subtract: 'direct' }), { verdict: 'not measurable', ratio: undefined });
  t.is(judged(rounds.slice(0, -1), { subtract: 'direct' }).verdict, 'goal met');
});

test('ours may add less than nothing: that round counts as well', (t) => {
  const rounds = [...times(2, { ours: 90, theirs: 200 }), ...times(3, { ours: 150, theirs: 200 })];
  t.deepEqual(judged(rounds, { subtract: 'direct' }), { verdict: 'goal met', ratio: 0.5 });
});

test('without a baseline the figure itself is judged', (t) => {
  t.is(judged(times(ENOUGH_ROUNDS, { ours: 1 }), { baseline: undefined }).verdict, 'goal met');
  t.is(judged(times(ENOUGH_ROUNDS, { ours: 2 }), { baseline: undefined }).verdict, 'missed');
});

test('a proxy that answered wrongly has failed, whatever it cost', (t) => {
  const rounds = times(ENOUGH_ROUNDS, { ours: 1, theirs: 100 });
  t.deepEqual(judged(rounds, { failed: { ours: 'status 500' } }), { verdict: 'failed', ratio: undefined });
});
