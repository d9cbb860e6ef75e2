/**
 * How do the core's metrics come into a registry of prom-client that the application has already?
 *
 * Each family of the core's text becomes a metric of the registry, with its help, type, labels and values. All are read
 * from one look at the core at scrape time, whose counters are its own: nothing is counted twice.
 */

import { native } from '../native.js';
import { type Family, type Sample, parseMetrics } from './exposition.js';
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

/** The metrics of one proxy as text; undefined while it does not run. */
type Look = () => Promise<string | undefined>;

/** What one registry is told of: several proxies may share one. */
class Source {
  readonly #looks = new Set<Look>();
  #scrape: Promise<Family[]> | undefined;

  add(look: Look): void {
    this.#looks.add(look);
  }

  /** Whether it was there, and was the last. */
  removeLast(look: Look): boolean {
    return this.#looks.delete(look) && this.#looks.size === 0;
  }

  /** The samples of a family. A registry asks for all families at once: they share one look. */
  async samples(name: string): Promise<Sample[]> {
    if (!this.#scrape) {
      this.#scrape = this.#look();
      setImmediate(() => {
        this.#scrape = undefined;
      });
    }
    const families = await this.#scrape;
    return families.flatMap((family) => (family.name === name ? family.samples : []));
  }

  async #look(): Promise<Family[]> {
    const texts = await Promise.all([...this.#looks].map((look) => look()));
    return texts.flatMap((text) => parseMetrics(text ?? ''));
  }
}

const sources = new WeakMap<MetricsRegistry, Source>();

/** Adds a proxy to a registry; gives a function that takes it out. */
export function addTo(registry: MetricsRegistry, look: Look): () => void {
  const families = parseMetrics(native().metricFamilies());
  const source = sources.get(registry) ?? addFamilies(registry, families);
  source.add(look);
  return () => {
    if (!source.removeLast(look)) return;
    sources.delete(registry);
    for (const { name } of families) registry.removeSingleMetric(name);
  };
}

function addFamilies(registry: MetricsRegistry, families: readonly Family[]): Source {
  const source = new Source();
  const added: string[] = [];
  try {
    for (const family of families) {
      registry.registerMetric(metricOf(family, registry, source));
      added.push(family.name);
    }
  } catch (error) {
    // A registry that has one of the names already gets none of ours.
    for (const name of added) registry.removeSingleMetric(name);
    throw error;
  }
  sources.set(registry, source);
  return source;
}

/** A metric as prom-client keeps it: asked for its values at each scrape. */
function metricOf({ name, help, type }: Family, registry: MetricsRegistry, source: Source): object {
  const aggregator = NOT_SUMMED[name] ?? 'sum';
  return {
    name,
    async get() {
      // In OpenMetrics a counter's family has no suffix, and its samples get it back.
      const isBare = type === 'counter' && registry.contentType.includes('openmetrics');
      const base = isBare ? name.replace(/_total$/, '') : name;
      const values = merged(await source.samples(name), aggregator).map(
        ({ name: metricName, labels, value }) => ({
          labels,
          value,
          ...(type === 'histogram' && { metricName }),
        }),
      );
      return { name: base, help, type, aggregator, values };
    },
  };
}

/** One value for each set of labels: two proxies may use the same names. */
function merged(samples: readonly Sample[], how: keyof typeof COMBINE): Sample[] {
  const all = new Map<string, Sample>();
  for (const sample of samples) {
    const key = JSON.stringify([sample.name, sample.labels]);
    const before = all.get(key);
    all.set(key, before ? { ...sample, value: COMBINE[how](before.value, sample.value) } : sample);
  }
  return [...all.values()];
}
