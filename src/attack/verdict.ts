/** What came of one attack. */

/** Whether the target held, and by what that was seen. */
export interface Verdict {
  readonly verdict: 'held' | 'failed';
  readonly happened: string;
}

export const held = (happened: string): Verdict => ({ verdict: 'held', happened });
export const failed = (happened: string): Verdict => ({ verdict: 'failed', happened });

/**
 * Statuses that say that a message is not accepted as it stands. All others are answers to a request: whoever gives one
 * has taken the message for a good one.
 */
const REFUSALS: ReadonlySet<number> = new Set([400, 408, 411, 413, 414, 417, 421, 431, 501, 505]);

export const isRefusal = (status: number): boolean => REFUSALS.has(status);

/** What is said of an answer that should have been a refusal. */
export const taken = (status: number): string =>
  `taken for a good request, and answered by ${status || 'a response'}`;

/** What came of an ordinary request: its status, nothing in time, or what is no answer in this version of HTTP. */
export type Answered = number | 'silent' | 'foreign';
