// Is a text one that Prometheus takes, and what does it say? Strict: what a scraper would refuse, or a linter complain
// about, is an error here.

/** One sample. */
export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

interface Family {
  type: string;
  help: string;
  samples: Sample[];
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(,|$)/y;
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;

/** What a text in the format 0.0.4 says. */
export class Exposition {
  readonly families = new Map<string, Family>();

  constructor(readonly text: string) {
    if (!text.endsWith('\n')) throw new Error('the last line does not end');
    const seen = new Set<string>();
    let family: Family | undefined;
    let current = '';
    for (const line of text.slice(0, -1).split('\n')) {
      const [, kind, name = '', rest = ''] = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line) ?? [];
      if (kind === 'HELP') {
        if (this.families.has(name) || !NAME.test(name)) throw new Error(`bad or repeated family: ${line}`);
        family = { type: '', help: rest, samples: [] };
        current = name;
        this.families.set(name, family);
      } else if (kind === 'TYPE') {
        if (!family || current !== name || family.type || !/^(counter|gauge|histogram)$/.test(rest)) {
          throw new Error(`a type out of place: ${line}`);
        }
        family.type = rest;
      } else {
        const sample = parseSample(line);
        const base =
          family?.type === 'histogram' ? sample.name.replace(/_(bucket|sum|count)$/, '') : sample.name;
        if (!family?.type || base !== current) throw new Error(`a sample out of its family: ${line}`);
        const key = keyOf(sample.name, sample.labels);
        if (seen.has(key)) throw new Error(`twice: ${line}`);
        seen.add(key);
        family.samples.push(sample);
      }
    }
    for (const [name, each] of this.families) check(name, each);
  }

  /** The samples of this name whose labels include these. */
  samples(name: string, labels: Record<string, string> = {}): Sample[] {
    const family = this.families.get(name) ?? this.families.get(name.replace(/_(bucket|sum|count)$/, ''));
    return (family?.samples ?? []).filter(
      (sample) =>
        sample.name === name &&
        Object.entries(labels).every(([label, value]) => sample.labels[label] === value),
    );
  }

  /** Their sum; 0 when there are none. */
  sum(name: string, labels: Record<string, string> = {}): number {
    return this.samples(name, labels).reduce((sum, { value }) => sum + value, 0);
  }
}

function parseSample(line: string): Sample {
  const [, name = '', inside, number = ''] = SAMPLE.exec(line) ?? [];
  const value = number === '+Inf' ? Infinity : Number(number);
  if (!name || number === '' || Number.isNaN(value)) throw new Error(`no sample: ${line}`);
  const labels: Record<string, string> = {};
  if (inside !== undefined) {
    LABEL.lastIndex = 0;
    let at = 0;
    while (at < inside.length) {
      const match = LABEL.exec(inside);
      const [whole = '', label = '', text = ''] = match ?? [];
      if (!match || label in labels) throw new Error(`bad labels: ${line}`);
      labels[label] = text.replace(/\\(.)/g, (_, c: string) => (c === 'n' ? '\n' : c));
      at += whole.length;
    }
  }
  return { name, labels, value };
}

function keyOf(name: string, labels: Record<string, string>): string {
  return JSON.stringify([name, ...Object.entries(labels).sort(([a], [b]) => a.localeCompare(b))]);
}

/** The conventions of Prometheus for names and types. */
function check(name: string, { type, help, samples }: Family): void {
  const fail = (what: string): never => {
    throw new Error(`${name}: ${what}`);
  };
  if (!/^[A-Z].*\.$/.test(help)) fail('the help is no sentence');
  if ((type === 'counter') !== name.endsWith('_total')) fail('_total is for counters, and for all of them');
  if (/_(milliseconds|ms|micros|kilobytes|mb)(_|$)/.test(name)) fail('not in base units');
  if (/_(bucket|sum|count|info_total)$/.test(name)) fail('a reserved suffix');
  for (const { value } of samples) {
    if (type !== 'gauge' && !(value >= 0)) fail('a negative count');
  }
  if (type === 'histogram') checkHistogram(samples, fail);
}

function checkHistogram(samples: readonly Sample[], fail: (what: string) => never): void {
  const series = new Map<string, { buckets: [number, number][]; count?: number; sum?: number }>();
  for (const { name, labels, value } of samples) {
    const { le, ...others } = labels;
    const key = keyOf('', others);
    const one = series.get(key) ?? { buckets: [] };
    series.set(key, one);
    if (name.endsWith('_bucket')) one.buckets.push([le === '+Inf' ? Infinity : Number(le), value]);
    else if (name.endsWith('_count')) one.count = value;
    else one.sum = value;
  }
  for (const { buckets, count, sum } of series.values()) {
    if (sum === undefined || count === undefined) fail('a histogram without its sum or count');
    if (buckets.at(-1)?.[0] !== Infinity || buckets.at(-1)?.[1] !== count) fail('+Inf is not the count');
    for (const [index, [border, value]] of buckets.entries()) {
      const [before = -Infinity, below = 0] = buckets[index - 1] ?? [];
      if (!(border > before) || value < below) fail('buckets that do not grow');
    }
  }
}
