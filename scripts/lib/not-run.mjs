// What did a run of `npm test` leave out, and why?

/**
 * One line for people: what is `missing` by why it is, and how many tests were `skipped`. A name that is told by
 * several steps is told once.
 */
export function notRun(missing, skipped) {
  const byReason = new Map();
  for (const { name, why } of missing) byReason.set(why, (byReason.get(why) ?? new Set()).add(name));
  const parts = [...byReason].map(([why, names]) => `${[...names].join(', ')}, since ${why}`);
  if (skipped > 0) parts.push(`${skipped} ${skipped === 1 ? 'test' : 'tests'} in all`);
  return parts.length > 0 ? `not run: ${parts.join('; ')}` : undefined;
}
