// What do the rounds of a row say? The median of each figure, its spread, and whether that is good enough.

/** With fewer rounds nothing is claimed. */
export const ENOUGH_ROUNDS = 5;

/** Median, least and most of some numbers. */
export function spread(numbers) {
  if (numbers.length === 0) return undefined;
  const sorted = numbers.toSorted((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  const median = (sorted[Math.floor(middle)] + sorted[Math.ceil(middle)]) / 2;
  return { median, min: sorted[0], max: sorted.at(-1) };
}

/** The lines of the table that a measured row gives. */
export function judge(row, participants, { rounds, failed }) {
  const values = subtracted(row, rounds);
  return row.lines.map((line) => {
    const figures = participants
      .filter(({ id }) => id !== row.subtract)
      .map(({ id, label }) => describe({ id, label, line, values, rounds, failed }));
    const subject = figures.find(({ id }) => id === line.subject);
    const measured = line.baseline ? subject?.ratio : subject?.value;
    return {
      row: row.id,
      title: line.title,
      unit: row.unit,
      subject: line.subject,
      baseline: line.baseline,
      required: line.required,
      goal: line.goal,
      figures,
      verdict: failed[line.subject] ? 'failed' : verdict(line, measured, rounds.length),
    };
  });
}

function describe({ id, label, line, values, rounds, failed }) {
  if (failed[id]) return { id, label, failed: failed[id] };
  const value = spread(values.map((round) => round[id]?.[line.figure]).filter(Number.isFinite));
  const ratios = values.map((round) => round[id]?.[line.figure] / round[line.baseline]?.[line.figure]);
  // A baseline that costs nothing can't be compared with.
  const ratio = line.baseline
    ? spread(ratios.filter((each) => Number.isFinite(each) && each >= 0))
    : undefined;
  const detail = {};
  for (const name of ['user', 'system', 'rate', 'failed', 'rss', 'p999', 'control', 'longest']) {
    if (name === line.figure) continue;
    const more = spread(rounds.map((round) => round[id]?.[name]).filter(Number.isFinite));
    if (more) detail[name] = more.median;
  }
  const { tls, byName } = rounds.at(-1)?.[id] ?? {};
  return { id, label, value, ratio, detail, ...(tls && { tls }), ...(byName && { byName }) };
}

/** Where a row asks for it, what is there without any proxy is taken off in each round. */
function subtracted(row, rounds) {
  if (!row.subtract) return rounds;
  return rounds.map((round) => {
    const base = round[row.subtract];
    const less = (figures) =>
      figures &&
      Object.fromEntries(Object.entries(figures).map(([name, value]) => [name, value - base?.[name]]));
    return Object.fromEntries(Object.entries(round).map(([id, figures]) => [id, less(figures)]));
  });
}

function verdict(line, measured, rounds) {
  if (!measured) return 'not measured';
  if (rounds < ENOUGH_ROUNDS) return 'nothing claimed';
  if (measured.median <= line.goal) return 'goal met';
  return measured.median <= line.required ? 'required met' : 'missed';
}
