/**
 * Which workloads answer for a service without being it, and what holds for them?
 *
 * Endpoints may name the identity that they prove. Where that is another of the mesh, the policies of the services that it
 * answers for follow it: a call to the service meets them wherever it arrives. Where it is a service by itself it goes by its
 * own policies alone, and nobody is sent there by the name of one that has others. The ports follow in either case: a
 * workload is called by no others than it is told.
 */

import type { DiscoveredEndpoint, SourceEvent } from '../discovery/types.js';
import {
  type CompiledMesh,
  type Workload,
  answeringFor,
  goesByOthers,
  otherWorkloads,
} from '../mesh/compile.js';
import type { Service } from '../mesh/services.js';

/** Those of one moment. */
export class Others {
  readonly #byService: ReadonlyMap<string, ReadonlySet<string>>;
  /** What they are told, by identity. */
  readonly #told: ReadonlyMap<string, Workload>;

  private constructor(
    byService: ReadonlyMap<string, ReadonlySet<string>>,
    told: ReadonlyMap<string, Workload>,
  ) {
    this.#byService = byService;
    this.#told = told;
  }

  static readonly none = new Others(new Map(), new Map());

  /** Those of a mesh, where only these services have others than before. */
  after(
    mesh: CompiledMesh,
    services: readonly Service[],
    answering: (service: string) => readonly DiscoveredEndpoint[],
  ): Others {
    const byService = new Map(this.#byService);
    for (const service of services) {
      const written = service.discover?.endpoints ?? [];
      const who = answeringFor(service, mesh, [...written, ...answering(service.name)]);
      if (who.size > 0) byService.set(service.name, who);
      else byService.delete(service.name);
    }
    const told = otherWorkloads(mesh, byService).map((workload) => [workload.name, workload] as const);
    return new Others(byService, new Map(told));
  }

  has(name: string): boolean {
    return this.#told.has(name);
  }

  /** What to tell those who knew of the ones before. Who answers for no other any more may be one that the mesh names. */
  since(
    before: Others,
    { workloads }: Pick<CompiledMesh, 'workloads'>,
  ): { upsert: Workload[]; gone: string[] } {
    const differs = (workload: Workload): boolean =>
      JSON.stringify(before.#told.get(workload.name)) !== JSON.stringify(workload);
    const left = new Set([...before.#told.keys()].filter((name) => !this.#told.has(name)));
    const stay = left.size === 0 ? [] : workloads.filter(({ name }) => left.delete(name));
    return { upsert: [...[...this.#told.values()].filter(differs), ...stay], gone: [...left] };
  }
}

/** The endpoints that nobody is sent to, since they go by other policies than those of their services. */
export class LeftOut {
  /** What was told, by service. */
  readonly #told = new Map<string, string>();

  /** What is to be told of these services, each thing once. */
  news(
    mesh: CompiledMesh,
    services: readonly Service[],
    answering: (service: string) => readonly DiscoveredEndpoint[],
  ): SourceEvent[] {
    return services.flatMap(({ name, outside }): SourceEvent[] => {
      const others = outside ? [] : answering(name);
      const left = others.filter(({ identity }) => goesByOthers(name, identity, mesh) !== undefined);
      const reason = left
        .map(
          ({ address, identity }) =>
            `${address} is not called: no policy for ${name} alone holds for ${identity}`,
        )
        .join('; ');
      const isNews = reason !== (this.#told.get(name) ?? '');
      this.#told.set(name, reason);
      if (!isNews || reason === '') return [];
      return [
        { kind: 'sourceProblem', service: name, source: 'endpoints', endpoints: others.length, reason },
      ];
    });
  }
}
