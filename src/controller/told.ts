/**
 * What has a control plane been told of who answers?
 *
 * Only what differs is told: endpoints by cluster, and what holds for those who answer for a service without being it.
 */

import type { DiscoveredEndpoint, SourceEvent } from '../discovery/types.js';
import { batchBetween, sizeOf } from '../mesh/batch.js';
import { type CompiledMesh, endpointsOf } from '../mesh/compile.js';
import type { ControlPlane, MeshBatch } from '../mesh/control-plane.js';
import { RootsRead } from '../mesh/roots.js';
import type { Service } from '../mesh/services.js';
import { LeftOut, Others } from './others.js';

/** Who answers for a service now. */
export type Answering = (service: string) => readonly DiscoveredEndpoint[];

/** Who hears what comes of it. */
export interface ToldEvents {
  /** A service has so many endpoints. */
  endpoints(service: string, count: number): void;
  /** Endpoints are left out, and why. */
  source(event: SourceEvent): void;
  trouble(error: unknown): void;
}

/** What one control plane knows. */
export class Told {
  readonly #answering: Answering;
  readonly #events: ToldEvents;
  readonly #roots = new RootsRead();
  /** The mesh that is live, with its roots. */
  #live: CompiledMesh | undefined;
  /** Of services whose addresses are not written, by cluster. */
  #endpoints = new Map<string, string>();
  /** Who answers for a service by another identity. */
  #others = Others.none;
  readonly #leftOut = new LeftOut();

  constructor(answering: Answering, events: ToldEvents) {
    this.#answering = answering;
    this.#events = events;
  }

  /** Whether this identity answers for a service of another one. */
  has(identity: string): boolean {
    return this.#others.has(identity);
  }

  /** What a control plane that knows nothing is told. */
  all(mesh: CompiledMesh): MeshBatch {
    this.#live = undefined;
    this.#endpoints.clear();
    this.#others = Others.none;
    const batch = this.#batchTo(mesh);
    this.#tellLeftOut(mesh, mesh.services);
    return batch;
  }

  /** Makes another mesh live; how many resources that touches. What is refused changes nothing. */
  apply(control: ControlPlane, after: CompiledMesh): number {
    const [live, endpoints, others] = [this.#live, this.#endpoints, this.#others];
    const batch = this.#batchTo(after);
    try {
      if (sizeOf(batch) > 0) control.apply(batch);
    } catch (error) {
      [this.#live, this.#endpoints, this.#others] = [live, endpoints, others];
      throw error;
    }
    this.#tellLeftOut(after, after.services);
    return sizeOf(batch);
  }

  /** From the mesh that is live to another, with who answers now. */
  #batchTo(after: CompiledMesh): MeshBatch {
    const carried = this.#roots.carried(after);
    const batch = batchBetween(this.#live, carried);
    this.#live = carried;
    const groups = endpointsOf(after, this.#answering);
    const now = new Map(groups.map((group) => [group.cluster, JSON.stringify(group)]));
    const fixed = new Set(after.endpoints.map(({ cluster }) => cluster));
    const gone = [...this.#endpoints.keys()].filter((cluster) => !now.has(cluster) && !fixed.has(cluster));
    const changed = groups.filter(({ cluster }) => this.#endpoints.get(cluster) !== now.get(cluster));
    this.#endpoints = now;
    const known = this.#others;
    this.#others = Others.none.after(after, after.services, this.#answering);
    const { upsert, gone: left } = this.#others.since(known, after);
    // The file knows some of them, and sources more.
    const told = new Set(upsert.map(({ name }) => name));
    const isOthers = (name: string): boolean => told.has(name) || this.#others.has(name);
    const written = batch.upsert?.workloads?.filter(({ name }) => !isOthers(name)) ?? [];
    const deleted = batch.delete?.workloads?.filter((name) => !isOthers(name)) ?? [];
    return {
      upsert: {
        ...batch.upsert,
        endpoints: [...(batch.upsert?.endpoints ?? []), ...changed],
        workloads: [...written, ...upsert],
      },
      delete: {
        ...batch.delete,
        endpoints: [...(batch.delete?.endpoints ?? []), ...gone],
        workloads: [...new Set([...deleted, ...left])],
      },
    };
  }

  /** Tells who answers for these services now. Each by itself: what the core refuses of one holds up no other. */
  changed(control: ControlPlane, mesh: CompiledMesh, names: ReadonlySet<string>): void {
    const changed = mesh.services.filter(({ name }) => names.has(name));
    try {
      // Before anybody is sent there.
      this.#tellOthers(control, mesh, changed);
    } catch (error) {
      this.#events.trouble(error);
      return;
    }
    this.#tellLeftOut(mesh, changed);
    for (const service of changed) {
      const answering = this.#answering(service.name);
      const groups = endpointsOf(mesh, () => answering, [service]);
      const others = groups.filter((group) => this.#endpoints.get(group.cluster) !== JSON.stringify(group));
      if (others.length === 0) continue;
      try {
        control.apply({ upsert: { endpoints: others } });
        for (const group of others) this.#endpoints.set(group.cluster, JSON.stringify(group));
        this.#events.endpoints(service.name, answering.length);
      } catch (error) {
        this.#events.trouble(error);
      }
    }
  }

  /** Tells those who answer for these services by another identity what holds for them. */
  #tellOthers(control: ControlPlane, mesh: CompiledMesh, changed: readonly Service[]): void {
    const others = this.#others.after(mesh, changed, this.#answering);
    const { upsert, gone } = others.since(this.#others, mesh);
    if (upsert.length + gone.length > 0) {
      control.apply({ upsert: { workloads: upsert }, delete: { workloads: gone } });
    }
    this.#others = others;
  }

  /** Tells which endpoints of these services are called by nobody. */
  #tellLeftOut(mesh: CompiledMesh, services: readonly Service[]): void {
    for (const event of this.#leftOut.news(mesh, services, this.#answering)) this.#events.source(event);
  }
}
