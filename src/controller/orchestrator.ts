/**
 * How do a mesh file, sources of endpoints and sidecars become one mesh?
 *
 *     mesh file ──> compile ──────────────────┐
 *     sources ────> Directory ─> endpointsOf ─┴─> batches ──> the core's control plane ──> sidecars
 *                      ^                                             │
 *                      └────────── Registry <── ready, drains, gone ─┘
 *
 * Only what differs is told. A change goes live whole or not at all, and then what was good before stays.
 */

import { EventEmitter } from 'node:events';
import { aside } from '../aside.js';
import { Directory } from '../discovery/directory.js';
import type { SourceStatus } from '../discovery/types.js';
import type { ResourceIssue } from '../config/resources.js';
import { listed } from '../config/compile-values.js';
import { sensible } from '../config/meaning.js';
import { nearest } from '../config/suggest.js';
import { MeshError, OptionError, StateError } from '../errors.js';
import { RestartError } from '../mesh/batch.js';
import { type CompiledMesh, endpointsOf } from '../mesh/compile.js';
import type {
  ControlEvent,
  PolicyDecision,
  ControlPlane,
  Edge,
  Sidecar,
  StartControlPlane,
} from '../mesh/control-plane.js';
import { type LoadedMesh, checkMeshConfig, isLoadedMesh } from '../mesh/load.js';
import type { IssuerLife } from '../mesh/issuer-life.js';
import { identityOf } from '../mesh/names.js';
import { type Service, identityFor, serialIn } from '../mesh/services.js';
import type { MeshConfig } from '../mesh/types.js';
import { messageOf } from '../thrown.js';
import { checkControlOptions, checkText, checkTokenOptions } from './options.js';
import { Registry } from './registered.js';
import { REGISTERED, sourcesOf } from './sources.js';
import { IssuerHandover, type Served } from './handover.js';
import type { Known, Left } from './left.js';
import { Shared, type SharedEvents } from './shared.js';
import { StateFolder } from './state.js';
import { Told } from './told.js';
import {
  DEFAULT_CONTROL,
  type MeshControl,
  type MeshControlEvents,
  type MeshControlOptions,
  type TokenOptions,
} from './types.js';
import type { IssuerPem } from './vault.js';

/** How long a start waits for sources. One that is gone must not keep a control plane from those who need it. */
const SETTLE_MS = 5000;
/** How long the core waits for a decision. */
const DECISION_MS = 5000;
/** How much of it is left for an answer when a token is spent. */
const SPEND_MS = 1000;
const TOKEN = { uses: 3, ttlMs: 10 * 60_000 };

/** What it needs of the core. */
interface ControlCore {
  readonly start: StartControlPlane;
  validateResources(json: string): readonly ResourceIssue[];
}

/** A control plane that stands alone. */
export class Orchestrator extends EventEmitter<MeshControlEvents> implements MeshControl {
  readonly #core: ControlCore;
  readonly #options: MeshControlOptions;
  readonly #registry = new Registry();
  /** Of sidecars that offer what nobody can call: what was told of them, by their names. */
  readonly #strange = new Map<string, string>();
  /** What is live, or will be. */
  #mesh: CompiledMesh;
  #directory: Directory | undefined;
  #state: StateFolder | undefined;
  #shared: Shared | undefined;
  #control: ControlPlane | undefined;
  /** Whom it signs as. */
  readonly #handover: IssuerHandover;
  /** What the control plane knows of who answers. */
  readonly #told = new Told((service) => this.#directory?.endpoints(service) ?? [], {
    endpoints: (service, count) => this.#tell('endpoints', service, count),
    source: (event) => this.#tell('source', event),
    trouble: (error) => this.#trouble(error),
  });
  #listening: Promise<readonly string[]> | undefined;
  #closing: Promise<void> | undefined;

  constructor(config: MeshConfig | LoadedMesh, core: ControlCore, options: MeshControlOptions = {}) {
    super();
    checkControlOptions(options);
    this.#core = core;
    this.#options = options;
    this.#handover = this.#handovers();
    this.#mesh = this.#checked(config);
    this.#checkDiscovery(this.#mesh);
    options.signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (options.signal?.aborted) this.#onAbort();
  }

  readonly #onAbort = (): void => {
    this.close().catch((error: unknown) => this.#trouble(error));
  };

  /** What those throw who listen is theirs. */
  #tell<E extends keyof MeshControlEvents>(event: E, ...said: MeshControlEvents[E]): void {
    aside(() => Reflect.apply(this.emit, this, [event, ...said]) as boolean);
  }

  /** An `error` that nobody listens for is no reason to end the process. */
  #trouble(error: unknown): void {
    if (this.listenerCount('error') > 0) this.#tell('error', error);
  }

  #checked(config: MeshConfig | LoadedMesh): CompiledMesh {
    const loaded = isLoadedMesh(config) ? config : checkMeshConfig(config);
    return sensible(loaded, (json) => this.#core.validateResources(json)).compiled;
  }

  #checkDiscovery({ services }: CompiledMesh): void {
    for (const name of Object.keys(this.#options.discovery ?? {})) {
      const service = services.find((each) => each.name === name);
      if (service?.discover) continue;
      const meant = nearest(
        name,
        services.map((each) => each.name),
      );
      const expected = service
        ? 'a service without address'
        : `a service of the mesh${meant ? ` (${meant}?)` : ''}`;
      throw new OptionError('discovery', expected, name);
    }
  }

  async listen(): Promise<readonly string[]> {
    this.#throwIfClosed();
    this.#listening ??= this.#start().catch(async (error: unknown) => {
      await this.#end();
      // The next call starts anew.
      this.#listening = undefined;
      // What was cut off in the middle may say something else.
      this.#throwIfClosed();
      throw error;
    });
    return await this.#listening;
  }

  async #start(): Promise<readonly string[]> {
    this.#handover.begin();
    const { listen = DEFAULT_CONTROL, stateDir } = this.#options;
    this.#state = stateDir === undefined ? undefined : await StateFolder.open(stateDir);
    const known = (await this.#state?.endpoints()) ?? {};
    // What is begun from here on is ended by who closes meanwhile; what would be begun afterwards is not begun.
    this.#throwIfClosed();
    const { settings } = this.#mesh;
    for (const [service, sources] of Object.entries(known)) {
      this.#registry.restore(identityOf(service, settings), sources[REGISTERED] ?? []);
    }
    const directory = new Directory({
      known,
      changed: (services) => this.#endpointsChanged(services),
      tell: (event) => this.#tell('source', event),
    });
    this.#directory = directory;
    directory.apply(sourcesOf(this.#mesh, this.#registry, this.#options.discovery ?? {}));
    const given = await this.#handover.operators(this.#mesh.settings.issuer);
    this.#throwIfClosed();
    const issuer = await this.#share(given);
    this.#throwIfClosed();
    await Promise.all([directory.spoken(SETTLE_MS), this.#shared?.learn(SETTLE_MS)]);
    this.#throwIfClosed();
    await this.#serve(listed(listen), issuer);
    this.#throwIfClosed();
    this.#shared?.follow(this.#registry);
    this.#handover.follow();
    const { addresses } = this.#running();
    this.#tell('listening', addresses);
    this.#handover.look();
    return addresses;
  }

  /** Does what another control plane did, too. */
  #attempt(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#trouble(error);
    }
  }

  /** What several control planes share, the issuer too unless it is given. */
  async #share(given: IssuerPem | undefined): Promise<IssuerPem | undefined> {
    const { settings } = this.#mesh;
    if (!settings.shared) return given;
    const events: SharedEvents = {
      tell: (event) => this.#tell('source', event),
      renewed: (issuer) => this.#handover.renewed(issuer),
      revoked: (whom) => this.#attempt(() => this.#control?.revoke(whom)),
      allowed: (whom) => this.#attempt(() => void this.#control?.allow(whom)),
      knows: (knows) => this.#attempt(() => this.#control?.knowsRevoked(knows)),
      elsewhere: (change) => this.#attempt(() => this.#control?.elsewhere(change)),
      failed: (error) => this.#trouble(error),
    };
    this.#shared = new Shared(settings.shared, this.#core.start, settings, events, this.#state);
    return given ?? this.#shared.issuer();
  }

  #handovers(): IssuerHandover {
    const served: Served = {
      isClosing: () => this.#closing !== undefined,
      isServing: () => this.#control !== undefined,
      leave: () => this.#leave(),
      serve: (listen, issuer, before) => this.#serve(listen, issuer, before),
      tries: (issuer) => this.#tryIssuer(issuer),
      restarted: () => this.#tell('restarted'),
      ends: (standing, life) => this.#tell('issuer', standing, life),
      trouble: (error) => this.#trouble(error),
    };
    return new IssuerHandover(served, this.#options.issuer);
  }

  /** Makes room for another one of this process. */
  async #leave(): Promise<Omit<Left, 'issuer'>> {
    const before = this.#running();
    const revoked = before.revoked();
    this.#control = undefined;
    // Until it has ended it spends some.
    const tokens = await before.close();
    return { addresses: before.addresses, known: { revoked, ...(tokens !== undefined && { tokens }) } };
  }

  /** @throws when it makes no sense */
  async #tryIssuer(issuer: IssuerPem): Promise<void> {
    const { trustDomain, certificateTtlMs } = this.#mesh.settings;
    const settings = { trustDomain, certificateTtlMs, issuer };
    await (await this.#core.start({ ...settings, listen: [], onEvent: () => {} })).close();
  }

  /** Serves, and believes nobody who was revoked `before`, or is by what others have said since. */
  async #serve(
    listen: readonly string[],
    issuer: IssuerPem | undefined,
    before: Known = { revoked: [] },
  ): Promise<void> {
    const { telemetryIntervalMs, plaintextXds, attest } = this.#options;
    const decide = this.#decider();
    const { settings } = this.#mesh;
    const shared = this.#shared;
    const revoked = new Set(shared?.denied(before.revoked) ?? before.revoked);
    const own: { control?: ControlPlane } = {};
    const control = await this.#core.start({
      listen,
      trustDomain: settings.trustDomain,
      certificateTtlMs: settings.certificateTtlMs,
      initial: this.#told.all(this.#mesh),
      revoked: [...revoked],
      ...(before.tokens !== undefined && { tokens: before.tokens }),
      ...(shared && { allowed: shared.allowed }),
      awaitsRevoked: shared?.knowsDenied === false,
      onEvent: (event) => {
        const isPast = own.control !== undefined && own.control !== (this.#control ?? own.control);
        // Whoever was with one that made room may be with the next one by now.
        if (!isPast || event['sidecar'] === undefined) this.#heard(event);
      },
      ...(plaintextXds !== undefined && { plaintextXds: listed(plaintextXds) }),
      ...(this.#state && { stateDir: this.#state.authority }),
      ...(issuer && { issuer }),
      ...(attest && { attest }),
      ...(decide && { decide, knowsOtherTokens: shared !== undefined }),
      ...(telemetryIntervalMs !== undefined && { telemetryIntervalMs }),
    });
    own.control = control;
    this.#control = control;
    this.#registry.look(control.sidecars());
    this.#handover.signs(issuer);
    this.#throwIfClosed();
    // What was said while it started.
    for (const whom of shared?.denied([]) ?? []) {
      if (!revoked.has(whom)) this.#attempt(() => control.revoke(whom));
    }
    for (const whom of shared?.allowed ?? []) this.#attempt(() => void control.allow(whom));
    // Those of earlier days, too: etcd may have lost them, or be shared since this start.
    shared?.hold(control.revoked()).catch((error: unknown) => {
      if (!this.#closing) this.#trouble(error);
    });
    if (shared) {
      control.knowsRevoked(shared.knowsDenied);
      control.elsewhere(shared.elsewhere);
    }
    await this.#keepRoots();
  }

  /** Who may refuse certificates: whoever was named, and of tokens that are shared etcd has the last word. */
  #decider(): MeshControlOptions['decide'] {
    const { decide } = this.#options;
    const shared = this.#shared;
    if (!shared) return decide;
    return async ({ otherToken, ...request }) => {
      const end = performance.now() + DECISION_MS - SPEND_MS;
      const asked = decide ? await decide(request) : { allow: true as const };
      if (otherToken === undefined || !asked.allow) return asked;
      const spent = await shared.spend(otherToken, request.identity, end);
      return spent.allow ? asked : spent;
    };
  }

  async apply(config: MeshConfig | LoadedMesh): Promise<number> {
    const mesh = this.#checked(config);
    await this.#handover.settled;
    const control = this.#running();
    if (JSON.stringify(mesh.settings) !== JSON.stringify(this.#mesh.settings))
      throw new RestartError(['what holds for all services (mesh)']);
    this.#checkDiscovery(mesh);
    const sources = sourcesOf(mesh, this.#registry, this.#options.discovery ?? {});
    const resources = this.#told.apply(control, mesh);
    this.#mesh = mesh;
    this.#directory?.apply(sources);
    for (const sidecar of this.sidecars()) if (sidecar.phase === 'ready') this.#tellStranger(sidecar);
    this.#tell('applied', resources);
    return resources;
  }

  #endpointsChanged(names: ReadonlySet<string>): void {
    const directory = this.#directory;
    const control = this.#control;
    if (!directory) return;
    this.#state?.keep(
      () => directory.snapshot(),
      (error) => this.#trouble(error),
    );
    if (!control || this.#closing) return;
    this.#told.changed(control, this.#mesh, names);
  }

  #heard(event: ControlEvent): void {
    this.#registry.heard(event);
    if (event.kind === 'ready') this.#tellStranger(event['sidecar'] as Sidecar);
    if (event.kind === 'gone') this.#strange.delete((event['sidecar'] as Sidecar).name);
    if (event.kind === 'lost') this.#registry.look(this.sidecars());
    if (event.kind === 'rotated') void this.#keepRoots().catch((error: unknown) => this.#trouble(error));
    if (event.kind === 'policy') {
      const { kind: _, ...decision } = event as ControlEvent & PolicyDecision;
      this.#tell('policy', decision);
    } else this.#tell('control', event);
  }

  /** A sidecar that offers what nobody can call has been started with another name or port than the mesh file has. */
  #tellStranger({ name, identity, services }: Sidecar): void {
    const { services: known, settings } = this.#mesh;
    const own = known.find((service) => !service.outside && identityOf(service.name, settings) === identity);
    const offered = services.map(({ port }) => port);
    if (offered.length === 0 || own?.ports.some(({ port }) => offered.includes(port))) return;
    const has = own
      ? `${own.name} has ${own.ports.map(({ port }) => port).join(', ')}`
      : `no service is ${identity}`;
    const reason = `${name} offers port ${offered.join(', ')}, and ${has}`;
    if (this.#strange.get(name) === reason) return;
    this.#strange.set(name, reason);
    const service = own?.name ?? identity;
    const endpoints = own ? this.#answering(own) : 0;
    this.#tell('source', { kind: 'sourceProblem', service, source: REGISTERED, endpoints, reason });
  }

  /** How many answer for a service, on whichever of its ports. */
  #answering(service: Service): number {
    const groups = endpointsOf(this.#mesh, (name) => this.#directory?.endpoints(name) ?? [], [service]);
    return Math.max(0, ...groups.map(({ localities }) => localities[0]?.endpoints.length ?? 0));
  }

  async #keepRoots(): Promise<void> {
    await this.#state?.write('roots.pem', this.roots());
  }

  async token(service: string, options: TokenOptions = {}): Promise<string> {
    checkText('service', 'a service, or a SPIFFE id', service);
    checkTokenOptions(options);
    const { uses = TOKEN.uses, ttlMs = TOKEN.ttlMs } = options;
    const identity = identityFor(service, this.#mesh);
    await this.#handover.settled;
    const control = this.#running();
    return this.#shared?.token(identity, { uses, ttlMs }) ?? control.issueToken(identity, { uses, ttlMs });
  }

  roots(): string {
    return this.#running().bundle();
  }

  issuerLife(): IssuerLife | undefined {
    return this.#handover.life;
  }

  async revoke(whom: string): Promise<void> {
    const denied = deniedIn(whom);
    await this.#handover.settled;
    const control = this.#running();
    await this.#everywhere(
      () => control.revoke(denied),
      (shared) => shared.revoke(denied),
    );
  }

  async allow(whom: string): Promise<boolean> {
    const denied = deniedIn(whom);
    await this.#handover.settled;
    const control = this.#running();
    const was = await this.#everywhere(
      () => control.allow(denied),
      (shared) => shared.allow(denied),
    );
    return was.includes(true);
  }

  /** Does it here, and where others share it, whichever fails. What is refused here is told to nobody. */
  async #everywhere<T>(here: () => T, there: (shared: Shared) => Promise<T>): Promise<(T | undefined)[]> {
    const shared = this.#shared;
    const [own] = await Promise.allSettled([(async () => here())()]);
    if (own.status === 'rejected' && own.reason instanceof OptionError) throw own.reason;
    const both = [own, ...(await Promise.allSettled([shared && there(shared)]))];
    const failures = both.flatMap((done) => (done.status === 'rejected' ? [done.reason as unknown] : []));
    if (failures.length > 1)
      throw new MeshError('MESH_AUTHORITY', failures.map(messageOf).join('; '), {
        cause: new AggregateError(failures),
      });
    if (failures.length > 0) throw failures[0];
    return both.map((done) => (done.status === 'fulfilled' ? done.value : undefined));
  }

  rotateIssuer(): void {
    this.#withOwnAuthority().rotateIssuer();
  }

  rotateRoot(): void {
    this.#withOwnAuthority().rotateRoot();
  }

  /** The one that made its root and issuer. */
  #withOwnAuthority(): ControlPlane {
    const control = this.#running();
    if (!this.#handover.issuer) return control;
    const whose = this.#handover.isGiven
      ? 'given: give it another one'
      : 'shared, and renewed by all who share it';
    throw new StateError(`the issuer is ${whose}; docs/identity.md says how its root is replaced`);
  }

  sidecars(): readonly Sidecar[] {
    return this.#control?.sidecars() ?? [];
  }

  revoked(): readonly string[] {
    return this.#control?.revoked() ?? [];
  }

  strangers(): readonly Sidecar[] {
    const named = new Set(this.#mesh.workloads.map(({ name }) => name));
    const isStranger = ({ phase, identity }: Sidecar): boolean =>
      phase === 'ready' && !named.has(identity) && !this.#told.has(identity);
    return this.sidecars().filter(isStranger);
  }

  plaintextXds(): readonly string[] {
    return this.#control?.plaintextXds ?? [];
  }

  edges(): readonly Edge[] {
    return this.#control?.edges() ?? [];
  }

  sources(): SourceStatus[] {
    return [...(this.#directory?.status() ?? []), ...(this.#shared?.status() ?? [])];
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    const listening = this.#listening;
    await this.#end();
    // A start that was on its way ends what it had begun meanwhile; who called it hears why.
    await listening?.catch(() => {});
    this.#tell('close');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Ends all that was begun. What one part can't do any more is told, and holds up none behind it. */
  async #end(): Promise<void> {
    this.#handover.close();
    const directory = this.#directory;
    const parts: (() => unknown)[] = [
      // Before sidecars are cut off: their going is this one's end and not theirs.
      () => directory && this.#state?.close(() => directory.snapshot()),
      () => this.#shared?.close(),
      () => this.#registry.close(),
      () => directory?.close(),
      // What was begun is closed with the rest.
      () => this.#handover.settled,
    ];
    for (const end of parts) {
      try {
        await end();
      } catch (error) {
        this.#trouble(error);
      }
    }
    const control = this.#control;
    this.#control = undefined;
    await control?.close();
  }

  #running(): ControlPlane {
    this.#throwIfClosed();
    if (!this.#control) throw new StateError('the control plane does not listen');
    return this.#control;
  }

  #throwIfClosed(): void {
    if (!this.#closing) return;
    const { signal } = this.#options;
    throw signal?.aborted ? signal.reason : new StateError('the control plane was closed');
  }
}

/** Whom to believe no more, or again: an identity, or a serial number as it is kept. */
function deniedIn(whom: string): string {
  checkText('whom', 'a SPIFFE id, or the serial number of a certificate', whom);
  return serialIn(whom) ?? whom;
}
