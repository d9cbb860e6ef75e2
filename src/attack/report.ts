/** What came of a check: of each attack, of each row, of all. */

import type { Row } from './rows.js';
import type { Verdict } from './verdict.js';

/** What came of one attack. */
export interface AttackReport extends Verdict {
  readonly name: string;
}

/** What came of a row. */
export interface RowReport {
  readonly row: number;
  readonly attack: string;
  readonly must: string;
  /** What happened, of all its attacks; empty when it was skipped. */
  readonly happened: string;
  readonly verdict: 'held' | 'failed' | 'skipped';
  /** Why it was skipped. */
  readonly why?: string;
  /** Each attack of it that was made. */
  readonly attacks: readonly AttackReport[];
}

/** What came of a check. */
export interface Report {
  readonly url: string;
  /** The address that every connection went to. */
  readonly address: string;
  readonly rows: readonly RowReport[];
  /** How many rows held, failed and were skipped. */
  readonly held: number;
  readonly failed: number;
  readonly skipped: number;
  /** Whether all that was to be seen was looked at: neither was the time up, nor did the target stop to answer. */
  readonly complete: boolean;
}

export function reportOf(url: URL, address: string, rows: readonly RowReport[], complete: boolean): Report {
  const count = (wanted: RowReport['verdict']): number =>
    rows.filter(({ verdict }) => verdict === wanted).length;
  return {
    url: url.href,
    address,
    rows,
    held: count('held'),
    failed: count('failed'),
    skipped: count('skipped'),
    complete,
  };
}

export function skipped({ number, attack, must }: Row, why: string): RowReport {
  return { row: number, attack, must, happened: '', verdict: 'skipped', why, attacks: [] };
}

export function rowReport({ number, attack, must }: Row, attacks: readonly AttackReport[]): RowReport {
  const failures = attacks.filter(({ verdict }) => verdict === 'failed');
  return {
    row: number,
    attack,
    must,
    happened: failures.length > 0 ? failuresOf(failures, attacks.length) : allOf(attacks),
    verdict: failures.length > 0 ? 'failed' : 'held',
    attacks,
  };
}

/** The first that failed, and how many more. */
function failuresOf([first, ...more]: readonly AttackReport[], all: number): string {
  if (!first) return '';
  return `${first.name}: ${first.happened}${more.length > 0 ? `; and ${more.length} more of ${all}` : ''}`;
}

/** What happened, the most frequent first: `32 x 400 and close, 1 x 200`. */
function allOf(attacks: readonly AttackReport[]): string {
  const counts = new Map<string, number>();
  for (const { happened } of attacks) counts.set(happened, (counts.get(happened) ?? 0) + 1);
  return Array.from(counts)
    .toSorted(([, one], [, other]) => other - one)
    .map(([happened, count]) => (attacks.length > 1 ? `${count} x ${happened}` : happened))
    .join(', ');
}
