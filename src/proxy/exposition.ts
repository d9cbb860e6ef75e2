/** What does a text in Prometheus' format 0.0.4 say? Read as the core writes it, which escapes what it must. */

import { setImmediate as pause } from 'node:timers/promises';

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
const LABEL = /([^=,]+)="((?:[^"\\]|\\.)*)"/g;
/** How long a text is read without letting others have the event loop: ten thousand label sets are megabytes. */
const SLICE_MS = 5;

/** The families, in their order. */
export function parseMetrics(text: string): Family[] {
  return partsOf(text).flatMap(familyOf);
}

/** The same, with a pause now and then. */
export async function parseMetricsSoon(text: string): Promise<Family[]> {
  const families: Family[] = [];
  let since = performance.now();
  for (const part of partsOf(text)) {
    families.push(...familyOf(part));
    if (performance.now() - since < SLICE_MS) continue;
    await pause();
    since = performance.now();
  }
  return families;
}

const partsOf = (text: string): string[] => text.split(/^(?=# HELP )/m);

function familyOf(part: string): Family[] {
  const [help = '', type = '', ...lines] = part.trimEnd().split('\n');
  const head = HEAD.exec(`${help}\n${type}`);
  if (!head) return [];
  return [{ name: head[1] ?? '', help: head[2] ?? '', type: head[3] ?? '', samples: lines.map(sampleOf) }];
}

function sampleOf(line: string): Sample {
  const space = line.lastIndexOf(' ');
  const brace = line.indexOf('{');
  const number = line.slice(space + 1);
  const value = number === '+Inf' ? Infinity : Number(number);
  if (brace < 0) return { name: line.slice(0, space), labels: {}, value };
  const inside = line.slice(brace + 1, space - 1);
  const labels = inside.includes('\\') ? escapedLabels(inside) : plainLabels(inside);
  return { name: line.slice(0, brace), labels, value };
}

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
