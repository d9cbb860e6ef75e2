/** What does a text in Prometheus' format 0.0.4 say? Read as the core writes it, which escapes what it must. */

/** One sample; of a histogram the name has its suffix. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** A family with its samples. */
export interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly samples: Sample[];
}

const HEAD = /^# HELP (\S+) (.*)\n# TYPE \S+ (\S+)$/;
const SAMPLE = /^([^{ ]+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([^=,]+)="((?:[^"\\]|\\.)*)"/g;

/** The families, in their order. */
export function parseMetrics(text: string): Family[] {
  return text.split(/^(?=# HELP )/m).flatMap((part) => {
    const [help = '', type = '', ...lines] = part.trimEnd().split('\n');
    const head = HEAD.exec(`${help}\n${type}`);
    if (!head) return [];
    return [{ name: head[1] ?? '', help: head[2] ?? '', type: head[3] ?? '', samples: lines.map(sampleOf) }];
  });
}

function sampleOf(line: string): Sample {
  const [, name = '', inside = '', number = ''] = SAMPLE.exec(line) ?? [];
  const labels = [...inside.matchAll(LABEL)].map(([, label = '', value = '']) => [
    label,
    value.replace(/\\(.)/g, (_, escaped: string) => (escaped === 'n' ? '\n' : escaped)),
  ]);
  const value = number === '+Inf' ? Infinity : Number(number);
  return { name, labels: Object.fromEntries(labels) as Record<string, string>, value };
}
