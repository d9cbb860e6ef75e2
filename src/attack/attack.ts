/**
 * Does a proxy hold against the conformance list?
 *
 * The list's bytes are sent over real connections, one attack after the other, and judged by what a client sees. After each
 * the target must answer an ordinary request as before. It is for a proxy of one's own, before it is trusted: `target.ts`
 * sees to whose it is, `bounds.ts` to what it may cost.
 */

import { Deadline } from './bounds.js';
import { DOWNGRADES, downgrade } from './downgrades.js';
import { askHttp1, attackHttp1 } from './http1.js';
import { askHttp2, attackHttp2, siteOf } from './http2.js';
import { HTTP2_ATTACKS } from './http2-attacks.js';
import { REQUESTS } from './payloads.js';
import { type AttackReport, type Report, type RowReport, reportOf, rowReport, skipped } from './report.js';
import { ROWS, type Row } from './rows.js';
import { attackSlowly, slowClients } from './slow.js';
import { NoTargetError, type Reach, Target } from './target.js';
import { type Answered, type Verdict, failed, isRefusal } from './verdict.js';

/** What to check, and how. */
export interface AttackOptions extends Reach {
  /** These rows; all of them unless told otherwise. */
  readonly only?: readonly number[];
  /** Row 10 too, which takes its time. */
  readonly slow: boolean;
  /** How long all of it may take. */
  readonly timeoutMs: number;
}

/** How a target answers an ordinary request over one version of HTTP: by a status, or why it can't be judged by its answers. */
type Ordinary = { readonly status: number } | { readonly why: string; readonly error?: NoTargetError };

/**
 * Checks a target.
 *
 * @throws {RefusedTargetError} when it is nobody's own
 * @throws {NoTargetError} when it does not answer an ordinary request
 */
export async function attack(url: URL, options: AttackOptions): Promise<Report> {
  const deadline = new Deadline(options.timeoutMs);
  const target = await Target.find(url, options, deadline);
  const http1 = await ordinaryOf('HTTP/1', () => askHttp1(target));
  const http2 = await ordinaryOf('HTTP/2', () => askHttp2(target));
  if ('why' in http1 && 'why' in http2)
    throw http1.error ?? new NoTargetError(`${url.href} can't be judged: ${http1.why}; ${http2.why}`);
  const check = new Conformance(target, http1, http2, options.slow);
  const rows: RowReport[] = [];
  for (const row of ROWS.filter(({ number }) => options.only?.includes(number) ?? true))
    rows.push(await check.row(row));
  return reportOf(url, target.address, rows, check.isComplete);
}

async function ordinaryOf(version: string, ask: () => Promise<Answered>): Promise<Ordinary> {
  try {
    const answered = await ask();
    if (answered === 'foreign') return { why: `no ${version} is spoken there` };
    if (answered === 'silent') return { why: `an ordinary request over ${version} is not answered` };
    // What refuses everything, or fails at everything, would seem to hold.
    if (isRefusal(answered) || answered >= 500)
      return { why: `an ordinary request over ${version} is answered by ${answered}` };
    return { status: answered };
  } catch (error) {
    if (!(error instanceof NoTargetError)) throw error;
    return { why: `no ${version} is spoken there`, error };
  }
}

const CUT = 'no verdict before the time was up';

/** One attack of a row. */
interface Attempt {
  readonly name: string;
  make(): Promise<Verdict>;
}

/** A check that is under way. */
class Conformance {
  /** Why nothing more can be told. */
  #over: string | undefined;

  constructor(
    readonly target: Target,
    readonly http1: Ordinary,
    readonly http2: Ordinary,
    readonly slow: boolean,
  ) {}

  /** Whether all that was to be seen was looked at. */
  get isComplete(): boolean {
    return this.#over === undefined;
  }

  async row(row: Row): Promise<RowReport> {
    const why = this.#why(row);
    if (why !== undefined) return skipped(row, why);
    const attempts = this.#attempts(row);
    // Slow ones all at once: each waits for the same time.
    const groups = row.check === 'slow' ? [attempts] : attempts.map((each) => [each]);
    const attacks: AttackReport[] = [];
    for (const group of groups) {
      if (this.#over !== undefined) break;
      attacks.push(...(await Promise.all(group.map((each) => this.#make(each)))));
      await this.#mustAnswer(attacks);
    }
    const isCut = attacks.length < attempts.length && attacks.every(({ verdict }) => verdict === 'held');
    if (isCut) attacks.push({ name: attempts[attacks.length]?.name ?? '', ...failed(CUT) });
    return rowReport(row, attacks);
  }

  /** Why a row can't be judged. */
  #why({ check }: Row): string | undefined {
    if (typeof check === 'object') return check.unseen;
    if (this.#over !== undefined) return this.#over;
    if (check === 'slow' && !this.slow) return 'takes 20 s: say --slow';
    const spoken = check === 'http2' || check === 'downgrades' ? this.http2 : this.http1;
    return 'why' in spoken ? spoken.why : undefined;
  }

  #attempts({ number, check }: Row): Attempt[] {
    const { target } = this;
    const site = siteOf(target);
    switch (check) {
      case 'http1':
        return REQUESTS.filter(({ row, strict }) => row === number && !strict).map((payload) => ({
          name: payload.name,
          make: () => attackHttp1(target, payload),
        }));
      case 'http2':
        return HTTP2_ATTACKS.filter(({ row }) => row === number).map(({ name, bytes, demand }) => ({
          name,
          make: () => attackHttp2(target, [bytes(site)], demand),
        }));
      case 'downgrades':
        return DOWNGRADES.map((each) => ({
          name: each.name,
          make: () => attackHttp2(target, downgrade(each, site), 'refuses'),
        }));
      case 'slow':
        return slowClients(target).map((client) => ({
          name: client.name,
          make: () => attackSlowly(target, client),
        }));
      default:
        return [];
    }
  }

  /** A verdict that was cut short by the end of the time is none. */
  async #make({ name, make }: Attempt): Promise<AttackReport> {
    try {
      const verdict = await make();
      const isCut = verdict.verdict === 'failed' && this.target.deadline.isOver;
      return { name, ...(isCut ? failed(CUT) : verdict) };
    } catch (error) {
      if (!(error instanceof NoTargetError)) throw error;
      return { name, ...failed(this.target.deadline.isOver ? CUT : error.message) };
    }
  }

  /** Whatever was seen of an attack: who does not serve others as before has not held. */
  async #mustAnswer(attacks: AttackReport[]): Promise<void> {
    const isWell = await this.#isWell();
    if (this.target.deadline.isOver) this.#over = 'the time was up';
    else if (!isWell) {
      this.#over = 'it no longer answers';
      const last = attacks.pop();
      if (last) attacks.push({ name: last.name, ...failed(`${last.happened}; then it no longer answers`) });
    }
  }

  /** Whether an ordinary request is answered. */
  async #isWell(): Promise<boolean> {
    const ask = 'status' in this.http1 ? askHttp1 : askHttp2;
    return 'status' in (await ordinaryOf('HTTP', () => ask(this.target)));
  }
}
