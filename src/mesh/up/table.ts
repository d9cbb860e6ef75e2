/** How is each service doing? Its copies, and what others asked of it lately, as their sidecars told. */

import { type Times, percentileMs, together } from '../admin/times.js';
import type { Edge } from '../control-plane.js';
import { identityOf } from '../names.js';
import type { Copy } from './copy.js';
import type { MeshPlan } from './places.js';

/** What the table tells of: the last seconds. */
const WINDOW_MS = 10_000;

interface Sum {
  requests: number;
  failures: number;
  mtls: number;
  times: Times;
}

const NOTHING: Sum = { requests: 0, failures: 0, mtls: 0, times: [] };

interface Look {
  readonly at: number;
  readonly sums: ReadonlyMap<string, Sum>;
}

/** The rows below a heading, the heading first. */
export class MeshTable {
  readonly #mesh: MeshPlan;
  readonly #looks: Look[] = [];

  constructor(mesh: MeshPlan) {
    this.#mesh = mesh;
  }

  lines(copies: readonly Copy[], edges: readonly Edge[], at: number): string[] {
    const now: Look = { at, sums: this.#sums(edges) };
    while (this.#looks.length > 1 && at - (this.#looks[0]?.at ?? at) > WINDOW_MS) this.#looks.shift();
    const before = this.#looks[0];
    this.#looks.push(now);
    const rows = this.#mesh.services
      .filter(({ process }) => process !== undefined)
      .map(({ name }) => this.#row(name, copies, now, before));
    return aligned([
      // What a mesh is for first: a narrow terminal cuts the end off.
      ['service', 'copies', 'restarts', 'requests/s', 'success', 'mTLS', 'p50', 'p95', 'p99'],
      ...rows,
    ]);
  }

  /** What each service's own sidecars saw of requests to it. */
  #sums(edges: readonly Edge[]): Map<string, Sum> {
    const sums = new Map<string, Sum>();
    for (const edge of edges) {
      if (edge.direction !== 'inbound') continue;
      const sum = sums.get(edge.identity) ?? { ...NOTHING };
      sum.requests += edge.requests;
      sum.failures += Object.values(edge.failures).reduce((all, count) => all + count, 0);
      if (edge.mtls) sum.mtls += edge.requests;
      sum.times = together([sum.times, edge.timesNs]);
      sums.set(edge.identity, sum);
    }
    return sums;
  }

  #row(name: string, copies: readonly Copy[], now: Look, before?: Look): string[] {
    const own = copies.filter(({ plan }) => plan.service.name === name);
    const ready = own.filter(({ phase }) => phase === 'ready').length;
    const restarts = own.reduce((sum, copy) => sum + copy.restarts, 0);
    const id = identityOf(name, this.#mesh.settings);
    const old = before?.sums.get(id) ?? NOTHING;
    const sum = now.sums.get(id) ?? old;
    const requests = sum.requests - old.requests;
    const seconds = (now.at - (before?.at ?? now.at)) / 1000;
    const times = together([sum.times], old.times);
    const percentile = (of: number): string => {
      const value = percentileMs(times, of);
      return value === null ? '-' : milliseconds(value);
    };
    return [
      name,
      `${ready}/${own.length}`,
      String(restarts),
      seconds > 0 ? (requests / seconds).toFixed(1) : '0.0',
      share(requests - (sum.failures - old.failures), requests),
      share(sum.mtls - old.mtls, requests),
      percentile(0.5),
      percentile(0.95),
      percentile(0.99),
    ];
  }
}

function share(part: number, whole: number): string {
  return whole > 0 ? `${((100 * part) / whole).toFixed(1)} %` : '-';
}

function milliseconds(ms: number): string {
  return `${ms.toFixed(ms < 10 ? 2 : 0)} ms`;
}

/** Columns of one width each; numbers stand to the right. */
function aligned(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  return rows.map((row) =>
    row
      .map((cell, column) => {
        const width = widths[column] ?? 0;
        return column === 0 ? cell.padEnd(width) : cell.padStart(width);
      })
      .join('  '),
  );
}
