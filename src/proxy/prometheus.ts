/**
 * How do the core's metrics come into a registry of prom-client that the application has already?
 *
 * Each family of the core's text becomes a metric of the registry, with its help, type, labels and values. All are read
 * from one look at the core at scrape time, whose counters are its own: nothing is counted twice.
 */

import { setImmediate as pause } from 'node:timers/promises';
import { OptionError } from '../errors.js';
import { native } from '../native.js';
import { isMethod, isObject } from '../options.js';
import { messageOf } from '../thrown.js';
import { type Family, type Sample, labelsOf, parseMetrics, parseMetricsSoon } from './exposition.js';
import type { MetricsRegistry } from './types.js';

/** How one value is made of those that several proxies have for the same labels. */
const COMBINE = { sum: (a: number, b: number) => a + b, min: Math.min, max: Math.max };

/** They are added up, but of these one value holds for all. */
const NOT_SUMMED: Readonly<Record<string, 'min' | 'max'>> = {
  mesh_build_info: 'max',
  mesh_certificate_expiry_timestamp_seconds: 'min',
  mesh_dns_answer_age_seconds: 'max',
  mesh_dns_consecutive_failures: 'max',
  mesh_endpoint_latency_seconds: 'max',
  mesh_endpoint_state: 'max',
  mesh_thread_imbalance_ratio: 'max',
};

/**
 * So many samples are given to a registry before others have the event loop: it makes text of them at once, which takes some
 * milliseconds.
 */
const SLICE_SAMPLES = 1000;

/** The metrics of one proxy as text; undefined while it does not run. */
type Look = () => Promise<string | undefined>;

/** What one registry is told of: several proxies may share one. */
class Source {
  /** Of each proxy, however often it was registered. */
  readonly #looks = new Map<object, { look: Look; times: number }>();
  /** As they stand in the registry, by name. */
  readonly metrics = new Map<string, object>();
  #scrape: Promise<Map<string, Sample[][]>> | undefined;
  /** One family after the other. */
  #turn: Promise<unknown> = Promise.resolve();
  /** How many samples were given since the last pause. */
  #given = 0;

  add(proxy: object, look: Look): void {
    const { times } = this.#looks.get(proxy) ?? { times: 0 };
    this.#looks.set(proxy, { look, times: times + 1 });
  }

  /** Whether no proxy is left. */
  remove(proxy: object): boolean {
    const entry = this.#looks.get(proxy);
    if (entry) entry.times -= 1;
    if (entry?.times === 0) this.#looks.delete(proxy);
    return this.#looks.size === 0;
  }

  /** The samples of a family. A registry asks for all families at once: they share one look. */
  async samples(name: string): Promise<readonly Sample[]> {
    if (!this.#scrape) {
      this.#scrape = this.#look();
      setImmediate(() => {
        this.#scrape = undefined;
      });
    }
    const parts = (await this.#scrape).get(name) ?? [];
    const samples = this.#turn.then(async () => {
      const count = parts.reduce((sum, { length }) => sum + length, 0);
      if (this.#given + count > SLICE_SAMPLES) {
        await pause();
        this.#given = 0;
      }
      this.#given += count;
      return merged(parts, aggregatorOf(name));
    });
    this.#turn = samples;
    return samples;
  }

  /** What each proxy has of each family. */
  async #look(): Promise<Map<string, Sample[][]>> {
    const texts = await Promise.all(Array.from(this.#looks.values(), ({ look }) => look()));
    const all = new Map<string, Sample[][]>();
    for (const text of texts) {
      for (const { name, samples } of await parseMetricsSoon(text ?? '')) {
        all.set(name, [...(all.get(name) ?? []), samples]);
      }
    }
    return all;
  }
}

const sources = new WeakMap<MetricsRegistry, Source>();

/** Adds a proxy to a registry; gives a function that takes it out. */
export function addTo(registry: MetricsRegistry, proxy: object, look: Look): () => void {
  if (!isRegistry(registry)) throw new OptionError('registry', 'a registry of prom-client', registry);
  const source = sourceOf(registry);
  addFamilies(registry, source);
  sources.set(registry, source);
  source.add(proxy, look);
  let isIn = true;
  return () => {
    if (!isIn) return;
    isIn = false;
    if (!source.remove(proxy)) return;
    if (sources.get(registry) === source) sources.delete(registry);
    for (const name of source.metrics.keys()) {
      if (stands(registry, source, name)) registry.removeSingleMetric(name);
    }
  };
}

/** What the registry is told of already, unless it was cleared since: then it is told of nobody. */
function sourceOf(registry: MetricsRegistry): Source {
  const known = sources.get(registry);
  const isThere = known && [...known.metrics.keys()].some((name) => stands(registry, known, name));
  return isThere ? known : new Source();
}

function isRegistry(value: unknown): boolean {
  const methods = ['registerMetric', 'getSingleMetric', 'removeSingleMetric'];
  return isObject(value) && methods.every((name) => isMethod(value, name));
}

/** Whether a metric of ours is in the registry, and not another of its name. */
function stands(registry: MetricsRegistry, { metrics }: Source, name: string): boolean {
  const metric = metrics.get(name);
  return metric !== undefined && registry.getSingleMetric(name) === metric;
}

/** Adds the metrics that are not in the registry. */
function addFamilies(registry: MetricsRegistry, source: Source): void {
  const added: string[] = [];
  try {
    for (const family of parseMetrics(native().metricFamilies())) {
      const { name } = family;
      if (stands(registry, source, name)) continue;
      const metric = metricOf(family, registry, source);
      register(registry, metric);
      source.metrics.set(name, metric);
      added.push(name);
    }
  } catch (error) {
    // A registry that has one of the names already gets none of ours.
    for (const name of added) registry.removeSingleMetric(name);
    throw error;
  }
}

/** @throws {OptionError} in the registry's words, which has one of that name */
function register(registry: MetricsRegistry, metric: object): void {
  try {
    registry.registerMetric(metric);
  } catch (error) {
    throw new OptionError(`registry: ${messageOf(error)}`);
  }
}

/** A metric as prom-client keeps it: asked for its values at each scrape. */
function metricOf({ name, help, type }: Family, registry: MetricsRegistry, source: Source): object {
  const aggregator = aggregatorOf(name);
  if (type === 'histogram') {
    const asked = async (values: (samples: readonly Sample[]) => readonly object[]): Promise<object> => ({
      name,
      help,
      type,
      aggregator,
      values: values(await source.samples(name)),
    });
    // For text prom-client makes that of labels which many samples share only once.
    return { name, reset, get: () => asked(whole), getForPromString: () => asked((samples) => samples) };
  }
  return {
    name,
    reset,
    async get() {
      // In OpenMetrics a counter's family has no suffix, and its samples get it back.
      const isBare = type === 'counter' && registry.contentType.includes('openmetrics');
      const base = isBare ? name.replace(/_total$/, '') : name;
      const samples = await source.samples(name);
      const values = samples.map(({ labels, value }) => ({ labels, value }));
      return { name: base, help, type, aggregator, values };
    },
  };
}

/** The counters are the core's, and count on. */
function reset(): void {}

/** With all their labels in each. */
function whole(samples: readonly Sample[]): readonly object[] {
  return samples.map((sample) => ({
    labels: labelsOf(sample),
    value: sample.value,
    metricName: sample.metricName,
  }));
}

function aggregatorOf(name: string): keyof typeof COMBINE {
  return NOT_SUMMED[name] ?? 'sum';
}

/** One value for each set of labels: two proxies may use the same names. A proxy uses each set once. */
function merged([first = [], ...others]: readonly Sample[][], how: keyof typeof COMBINE): Sample[] {
  if (others.length === 0) return first;
  const all = new Map<string, Sample>();
  for (const sample of [first, ...others].flat()) {
    const key = JSON.stringify([sample.metricName, sample.sharedLabels, sample.labels]);
    const before = all.get(key);
    all.set(key, before ? { ...sample, value: COMBINE[how](before.value, sample.value) } : sample);
  }
  return [...all.values()];
}
