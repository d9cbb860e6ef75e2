/** What does a text in Prometheus' format 0.0.4 say? Read as the core writes it, which escapes what it must. */

import { setImmediate as pause } from 'node:timers/promises';

type Labels = Readonly<Record<string, string>>;

/** One sample, as prom-client takes values; of a histogram the name has its suffix. */
export interface Sample {
  readonly metricName: string;
  readonly labels: Labels;
  /** Of a histogram's series the labels that all its samples have, one object for all; not among `labels` then. */
  readonly sharedLabels?: Labels;
  readonly value: number;
}

/** A family with its samples. */
export interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly samples: Sample[];
}

const HELP = /^# HELP (\S+) (.*)$/;
const TYPE = /^# TYPE \S+ (\S+)$/;
const LABEL = /([^=,]+)="((?:[^"\\]|\\.)*)"/g;
/** The last label of a bucket, and of nothing else: a quote within a value is escaped. */
const BOUND = ',le="';
/** How long a text is read without letting others have the event loop: ten thousand label sets are megabytes. */
const SLICE_MS = 5;
/** After how many lines that is looked at. */
const SLICE_LINES = 200;

/** The families, in their order. */
export function parseMetrics(text: string): Family[] {
  return [...read(text)].filter((each) => each !== undefined);
}

/** The same, with a pause now and then. */
export async function parseMetricsSoon(text: string): Promise<Family[]> {
  const families: Family[] = [];
  let since = performance.now();
  for (const family of read(text)) {
    if (family) families.push(family);
    if (performance.now() - since < SLICE_MS) continue;
    await pause();
    since = performance.now();
  }
  return families;
}

/** All labels of a sample. */
export function labelsOf({ labels, sharedLabels }: Sample): Labels {
  return sharedLabels ? { ...sharedLabels, ...labels } : labels;
}

/** The families one after the other; in between it gives nothing now and then, where there may be a pause. */
function* read(text: string): Generator<Family | undefined> {
  let family: Family | undefined;
  let help: RegExpExecArray | null = null;
  let series: Series | undefined;
  let lines = 0;
  for (let at = 0, end = 0; at < text.length; at = end + 1) {
    end = text.indexOf('\n', at);
    if (end < 0) end = text.length;
    const line = text.slice(at, end);
    lines += 1;
    if (lines % SLICE_LINES === 0) yield undefined;
    if (line.startsWith('# HELP ')) {
      if (family) yield family;
      family = undefined;
      series = undefined;
      help = HELP.exec(line);
    } else if (line.startsWith('#')) {
      const type = TYPE.exec(line);
      if (help && type)
        family = { name: help[1] ?? '', help: help[2] ?? '', type: type[1] ?? '', samples: [] };
    } else if (family && line !== '') {
      if (family.type === 'histogram') series = seriesOf(line, series);
      family.samples.push(sampleOf(line, series));
    }
  }
  if (family) yield family;
}

/** A series of a histogram: what stands between the braces of all its lines, but for their bounds, and the labels of that. */
interface Series {
  readonly inside: string;
  readonly labels: Labels;
}

/** The series of a line: the one of the line before, most often. */
function seriesOf(line: string, before: Series | undefined): Series {
  const whole = insideOf(line);
  const bound = whole.lastIndexOf(BOUND);
  const inside = bound < 0 ? whole : whole.slice(0, bound);
  return before?.inside === inside ? before : { inside, labels: labelsIn(inside) };
}

function sampleOf(line: string, series: Series | undefined): Sample {
  const space = line.lastIndexOf(' ');
  const brace = line.indexOf('{');
  const number = line.slice(space + 1);
  const value = number === '+Inf' ? Infinity : Number(number);
  const metricName = line.slice(0, brace < 0 ? space : brace);
  if (!series) return { metricName, labels: labelsIn(insideOf(line)), value };
  const own = insideOf(line).slice(series.inside.length + 1);
  return { metricName, labels: labelsIn(own), sharedLabels: series.labels, value };
}

/** What stands between the braces. */
function insideOf(line: string): string {
  const brace = line.indexOf('{');
  return brace < 0 ? '' : line.slice(brace + 1, line.lastIndexOf('}'));
}

const labelsIn = (inside: string): Labels =>
  inside.includes('\\') ? escapedLabels(inside) : plainLabels(inside);

/** Most by far: nothing in them is escaped. */
function plainLabels(inside: string): Record<string, string> {
  const labels: Record<string, string> = {};
  for (let at = 0; at < inside.length;) {
    const equals = inside.indexOf('=', at);
    const end = inside.indexOf('"', equals + 2);
    if (equals < at || end < 0) break;
    labels[inside.slice(at, equals)] = inside.slice(equals + 2, end);
    at = end + 2;
  }
  return labels;
}

function escapedLabels(inside: string): Record<string, string> {
  const labels = [...inside.matchAll(LABEL)].map(([, label = '', value = '']) => [
    label,
    value.replace(/\\(.)/g, (_, escaped: string) => (escaped === 'n' ? '\n' : escaped)),
  ]);
  return Object.fromEntries(labels) as Record<string, string>;
}
