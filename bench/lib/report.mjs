// How are the results shown? As a table for people, and as JSON for programs.

import { ENOUGH_ROUNDS } from './judge.mjs';

const digits = (value) => {
  const size = Math.abs(value);
  if (size >= 100) return value.toFixed(0);
  return size >= 10 ? value.toFixed(1) : value.toFixed(2);
};

const range = ({ median, min, max }) => `${digits(median)} (${digits(min)}-${digits(max)})`;

/** One participant's part of a line. */
function cells(line, figure) {
  if (figure.failed) return [figure.label, `failed: ${figure.failed}`, '', ''];
  if (!figure.value) return [figure.label, 'not measured', '', ''];
  const { user, system, rate, failed, control, longest } = figure.detail;
  const more = [];
  if (line.unit === 'us' && user !== undefined) more.push(`${digits(user)} user + ${digits(system)} system`);
  if (rate !== undefined)
    more.push(line.unit === 's/GB' ? `${digits(rate)} GB/s` : `${rate.toFixed(0)} requests/s`);
  if (failed !== undefined) more.push(`${digits(failed)} of them fail`);
  if (longest !== undefined) more.push(`longest ${digits(longest)} ms`);
  if (control !== undefined) more.push(`control plane ${digits(control)} MB`);
  if (figure.byName) more.push(figure.byName);
  if (line.row.endsWith('handshake') && figure.tls) more.push(figure.tls.group);
  return [
    figure.label,
    `${range(figure.value)} ${line.unit}`,
    figure.ratio ? range(figure.ratio) : '',
    more.join('; '),
  ];
}

/** The verdicts, one line each. */
function summary(lines) {
  const rows = lines.map((line) => {
    const subject = line.figures.find(({ id }) => id === line.subject);
    const baseline = line.figures.find(({ id }) => id === line.baseline);
    const measured = line.baseline ? subject?.ratio : subject?.value;
    const limit = line.baseline ? `x ${baseline?.label ?? line.baseline}` : line.unit;
    return [line.title, limit, measured ? range(measured) : '-', line.required, line.goal, line.verdict];
  });
  return table(['workload', 'unit', 'ours: median (min-max)', 'required', 'goal', 'verdict'], rows);
}

function table(head, rows) {
  const line = (columns) => `| ${columns.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

/** The whole result as Markdown. */
export function markdown(result) {
  const { machine, lines } = result;
  const versions = Object.values(result.peers).map(({ name, version }) => `${name} ${version}`);
  const claim =
    result.rounds < ENOUGH_ROUNDS ? `\nFewer than ${ENOUGH_ROUNDS} rounds: nothing is claimed.\n` : '';
  const details = lines.map((line) => {
    const head = ['proxy', 'median (min-max)', line.baseline ? 'ratio in the same round' : '', 'more'];
    return `### ${line.title}\n\n${table(
      head,
      line.figures.map((figure) => cells(line, figure)),
    )}\n`;
  });
  return `# Benchmark

Made by \`npm run bench\` on ${result.date}: ${result.rounds} interleaved rounds of ${result.seconds} s, one core for each proxy,
load and origin on another, loopback. Linux ${machine.kernel}, ${machine.cpu}, ${machine.cores} cores, load average ${machine.load} at the start.

${versions.join(', ')}.
${claim}
${summary(lines)}

## Every proxy

CPU time is user and system of the whole process tree. Ratios compare figures of the same round.

${details.join('\n')}`;
}

/** The same on a terminal: columns in line. */
export function plain(result) {
  const text = [];
  const widths = [28, 26, 22];
  for (const line of result.lines) {
    const limits = line.baseline ? `x ${line.baseline}` : line.unit;
    text.push('', `${line.title}: ${line.verdict} (required ${line.required} ${limits}, goal ${line.goal})`);
    for (const figure of line.figures) {
      const columns = cells(line, figure).map((cell, index) => String(cell).padEnd(widths[index] ?? 0));
      text.push(`  ${columns.join(' ').trimEnd()}`);
    }
  }
  if (result.rounds < ENOUGH_ROUNDS) text.push('', `Fewer than ${ENOUGH_ROUNDS} rounds: nothing is claimed.`);
  return text.join('\n');
}
