// What do the rounds of a row say? The median of each figure, its spread, and whether that is good enough.

/** With fewer rounds nothing is claimed. */
export const ENOUGH_ROUNDS = 5;

/** Median, least and most of the numbers that were measured, and how many those are. */
export function spread(numbers) {
  const sorted = numbers.filter(Number.isFinite).toSorted((a, b) => a - b);
  if (sorted.length === 0) return undefined;
  const middle = (sorted.length - 1) / 2;
  const median = (sorted[Math.floor(middle)] + sorted[Math.ceil(middle)]) / 2;
  return { median, min: sorted[0], max: sorted.at(-1), rounds: sorted.length };
}

/** The lines of the table that a measured row gives. */
export function judge(row, participants, { rounds, failed }) {
  const values = subtracted(row, rounds);
  return row.lines.map((line) => {
    const figures = participants
      .filter(({ id }) => id !== row.subtract)
      .map(({ id, label }) => describe({ id, label, line, values, rounds, failed }));
    const [subject, baseline] = [line.subject, line.baseline].map((id) =>
      figures.find((each) => each.id === id),
    );
    return {
      row: row.id,
      title: line.title,
      unit: row.unit,
      subject: line.subject,
      baseline: line.baseline,
      required: line.required,
      goal: line.goal,
      figures,
      verdict: verdict(line, subject, baseline),
    };
  });
}

function describe({ id, label, line, values, rounds, failed }) {
  if (failed[id]) return { id, label, failed: failed[id] };
  const figureOf = (name) => values.map((round) => round[name]?.[line.figure]);
  const value = spread(figureOf(id));
  const bases = figureOf(line.baseline);
  const isComparable = line.baseline && !isLostInNoise(spread(bases));
  const ratio = isComparable ? spread(figureOf(id).map((figure, round) => figure / bases[round])) : undefined;
  const detail = {};
  for (const name of ['user', 'system', 'rate', 'failed', 'rss', 'p999', 'control', 'longest']) {
    if (name === line.figure) continue;
    const more = spread(rounds.map((round) => round[id]?.[name]));
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

/**
 * A figure that was nothing or less in some round, which only one that something is taken off from can be, is smaller
 * than what it varies by. Multiples of it say nothing, and to leave out only the rounds in which it shows would choose
 * those that suit one side.
 */
const isLostInNoise = (value) => value !== undefined && value.min <= 0;

function verdict(line, subject, baseline) {
  if (subject?.failed) return 'failed';
  if (line.baseline && isLostInNoise(baseline?.value)) return 'not measurable';
  const measured = line.baseline ? subject?.ratio : subject?.value;
  if (!measured) return 'not measured';
  if (measured.rounds < ENOUGH_ROUNDS) return 'nothing claimed';
  if (measured.median <= line.goal) return 'goal met';
  return measured.median <= line.required ? 'required met' : 'missed';
}
