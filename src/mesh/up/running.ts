/**
 * How does a mesh run on one machine? A control plane in this process, and for each copy a sidecar with the application
 * as its command.
 *
 * Who is ready is an endpoint; who is not is none. Everything that a copy needs to know is made anew for each of its
 * starts, so that a port that somebody else took or a token that was used up is no lasting trouble.
 */

import type { Endpoints } from '../../config/resources.js';
import type { DiscoveredEndpoint } from '../../discovery/types.js';
import type { ServiceStatus } from '../admin/types.js';
import { RestartError, batchBetween, needsRestart, sizeOf } from '../batch.js';
import { RootsRead } from '../roots.js';
import { type CompiledMesh, endpointsOf, portNames } from '../compile.js';
import type { ControlEvent, ControlPlane, StartControlPlane, TokenOptions } from '../control-plane.js';
import { identityOf } from '../names.js';
import { Copy, type Launch } from './copy.js';
import { MeshFolder } from './folder.js';
import {
  type CopyPlan,
  type Credentials,
  type Places,
  commandOf,
  environmentOf,
  nameOf,
  placesOf,
  portsNeeded,
  sidecarFlags,
} from './places.js';
import { Ports } from './ports.js';
import { TokenFile } from './token-file.js';

/** How long a copy that leaves still accepts: as long as the others may take to hear of it. */
const LAME_DUCK_MS = 1000;

/** Whom all sidecars trust, in the folder of the mesh. */
const ROOTS = 'roots.pem';

/** Who is told of a mesh. */
interface MeshEvents {
  changed(copy: Copy, why: string): void;
  line(copy: Copy, stream: 'stdout' | 'stderr', text: string): void;
  control(event: ControlEvent): void;
  /** Something went wrong that is nobody's end. */
  trouble(error: unknown): void;
}

interface MeshOptions {
  readonly mesh: CompiledMesh;
  readonly startControlPlane: StartControlPlane;
  /** The program `mesh-sidecar`. */
  readonly sidecar: string;
  /** Where the control plane listens. */
  readonly listen: string;
  readonly env: NodeJS.ProcessEnv;
  readonly events: MeshEvents;
  /** The flags that tell a sidecar what it is; tests have their own. */
  readonly flags?: (copy: CopyPlan, mesh: CompiledMesh, places: Places, credentials: Credentials) => string[];
}

/** How often sidecars report: somebody looks at the table. */
const TELEMETRY_MS = 1000;
const REGISTER = new URL('../../register.js', import.meta.url).href;

/** A mesh that runs. */
export class RunningMesh {
  readonly copies: readonly Copy[];
  readonly control: ControlPlane;
  readonly #options: MeshOptions;
  /** Tokens and roots, for this user's eyes. */
  readonly #folder: MeshFolder;
  readonly #ports = new Ports();
  readonly #given = new Map<Copy, { ports: number[]; token: TokenFile }>();
  #endpoints = new Map<string, string>();
  readonly #roots: RootsRead;
  /** What is live, as it was written ... */
  #mesh: CompiledMesh;
  /** ... and as it was told, with its roots. */
  #live: CompiledMesh;

  private constructor(
    options: MeshOptions,
    control: ControlPlane,
    folder: MeshFolder,
    { roots, live }: { roots: RootsRead; live: CompiledMesh },
  ) {
    this.#options = options;
    this.#roots = roots;
    this.#live = live;
    this.#mesh = options.mesh;
    this.control = control;
    this.#folder = folder;
    this.copies = options.mesh.services.flatMap((service) =>
      Array.from({ length: service.process?.copies ?? 0 }, (_, index) => this.#copy(service, index + 1)),
    );
  }

  /** Starts the control plane and every copy; they become ready later. */
  static async start(options: MeshOptions): Promise<RunningMesh> {
    const { mesh, events, listen } = options;
    const roots = new RootsRead();
    const live = roots.carried(mesh);
    const control = await options.startControlPlane({
      listen: [listen],
      trustDomain: mesh.settings.trustDomain,
      certificateTtlMs: mesh.settings.certificateTtlMs,
      telemetryIntervalMs: TELEMETRY_MS,
      initial: batchBetween(undefined, live),
      onEvent: (event) => events.control(event),
    });
    let folder: MeshFolder | undefined;
    try {
      folder = await MeshFolder.make((error) => events.trouble(error));
      await folder.write(ROOTS, control.bundle());
      const running = new RunningMesh(options, control, folder, { roots, live });
      running.#publish();
      for (const copy of running.copies) copy.start();
      return running;
    } catch (error) {
      await control.close();
      await folder?.remove();
      throw error;
    }
  }

  /**
   * Makes another meaning of the mesh file live: routes, policies, and services outside of the mesh. Gives how many
   * resources that touched.
   *
   * @throws {RestartError} when it would take another start
   * @throws {InputError} when the core refuses it
   */
  apply(mesh: CompiledMesh): number {
    const wanted = needsRestart(this.#mesh, mesh);
    if (wanted.length > 0) throw new RestartError(wanted);
    const live = this.#roots.carried(mesh);
    const batch = batchBetween(this.#live, live);
    if (sizeOf(batch) > 0) this.control.apply(batch);
    this.#mesh = mesh;
    this.#live = live;
    return sizeOf(batch);
  }

  /** The services that run here, with how many of their copies take calls, and why others don't. */
  services(): ServiceStatus[] {
    const names = new Set(this.copies.map(({ plan }) => plan.service.name));
    return Array.from(names, (name) => {
      const copies = this.copies.filter(({ plan }) => plan.service.name === name);
      const ends = copies.flatMap(({ label, lastEnd }) =>
        lastEnd === undefined ? [] : `${label}: ${lastEnd}`,
      );
      return {
        name,
        endpoints: copies.filter(({ phase }) => phase === 'ready').length,
        ...(ends.length > 0 && { why: ends.join(', ') }),
      };
    });
  }

  /** Every port of every service of the mesh file, as it is live. */
  declared(): string[] {
    return portNames(this.#mesh);
  }

  /** Drains everything; resolves when nothing is left. */
  async stop(): Promise<void> {
    await Promise.all(this.copies.map((copy) => copy.stop()));
    await this.#end();
  }

  /** Ends everything at once; resolves when nothing is left. */
  async kill(): Promise<void> {
    await Promise.all(this.copies.map((copy) => copy.kill()));
    await this.#end();
  }

  async #end(): Promise<void> {
    await this.control.close();
    await this.#folder.remove();
  }

  #copy(service: CopyPlan['service'], number: number): Copy {
    if (!service.process) throw new Error(`${service.name} has no process`);
    return new Copy(
      { service, process: service.process, number },
      {
        launch: (copy) => this.#launch(copy),
        changed: (copy, why) => {
          this.#publish();
          this.#options.events.changed(copy, why);
        },
        // A sidecar that is ready has its certificate, which is what it renews with.
        joined: (copy) => this.#token(copy, (token) => token.forget()),
        apart: (copy) => this.#token(copy, (token) => token.keep()),
        line: (copy, stream, text) => this.#options.events.line(copy, stream, text),
        over: (copy) => this.#over(copy),
      },
    );
  }

  async #launch(copy: Copy): Promise<Launch> {
    const { sidecar, env, flags = sidecarFlags } = this.#options;
    const mesh = this.#mesh;
    const { plan } = copy;
    const ports = await this.#ports.take(portsNeeded(plan, mesh));
    const identity = identityOf(plan.service.name, mesh.settings);
    const issue = (options: TokenOptions): string => this.control.issueToken(identity, options);
    const token = new TokenFile(this.#folder, `${nameOf(plan)}.token`, issue);
    this.#given.set(copy, { ports, token });
    await token.keep();
    const places = placesOf(plan, mesh, ports);
    const credentials = {
      control: this.control.addresses,
      // They may have changed since the last start.
      trustAnchors: await this.#folder.write(ROOTS, this.control.bundle()),
      tokenFile: token.path,
    };
    return {
      file: sidecar,
      args: [
        ...flags(plan, mesh, places, credentials),
        '--with-parent',
        String(process.pid),
        '--grace',
        `${plan.process.graceMs}ms`,
        '--lame-duck',
        `${LAME_DUCK_MS}ms`,
        '--log-level',
        'warn',
        '--',
        'sh',
        '-c',
        commandOf(plan, places),
      ],
      env: environmentOf(plan, mesh, places, { env, register: REGISTER, control: this.control.addresses }),
      places,
    };
  }

  #over(copy: Copy): void {
    this.#ports.give(this.#given.get(copy)?.ports ?? []);
    this.#token(copy, (token) => token.forget());
    this.#given.delete(copy);
  }

  #token(copy: Copy, work: (token: TokenFile) => Promise<void>): void {
    const token = this.#given.get(copy)?.token;
    if (token) void work(token).catch((error) => this.#options.events.trouble(error));
  }

  /** Tells the control plane who may be called, as far as that has changed. */
  #publish(): void {
    const { events } = this.#options;
    const mesh = this.#mesh;
    const answering = (service: string): DiscoveredEndpoint[] =>
      this.copies.flatMap(({ phase, places, plan }) => {
        if (plan.service.name !== service || !places) return [];
        if (phase !== 'ready' && phase !== 'stopping') return [];
        return [{ address: places.inbound, draining: phase === 'stopping' }];
      });
    const changed: Endpoints[] = [];
    const now = new Map<string, string>();
    for (const group of endpointsOf(mesh, answering)) {
      const text = JSON.stringify(group);
      now.set(group.cluster, text);
      if (this.#endpoints.get(group.cluster) !== text) changed.push(group);
    }
    if (changed.length === 0) return;
    try {
      this.control.apply({ upsert: { endpoints: changed } });
      this.#endpoints = now;
    } catch (error) {
      events.trouble(error);
    }
  }
}
