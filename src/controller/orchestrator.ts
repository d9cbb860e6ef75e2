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
import { isDeepStrictEqual } from 'node:util';
import { Directory } from '../discovery/directory.js';
import type { SourceStatus } from '../discovery/types.js';
import type { ResourceIssue } from '../config/resources.js';
import { listed } from '../config/compile-values.js';
import { sensible } from '../config/meaning.js';
import { nearest } from '../config/suggest.js';
import { OptionError, StateError } from '../errors.js';
import { RestartError, batchBetween, sizeOf } from '../mesh/batch.js';
import { type CompiledMesh, endpointsOf } from '../mesh/compile.js';
import type {
  ControlEvent,
  PolicyDecision,
  ControlPlane,
  Edge,
  MeshBatch,
  Sidecar,
  StartControlPlane,
} from '../mesh/control-plane.js';
import { LoadedMesh, checkMeshConfig } from '../mesh/load.js';
import { type IssuerLife, type IssuerStanding, lifeOf, standingOf } from '../mesh/issuer-life.js';
import { identityOf } from '../mesh/names.js';
import { withRoots } from '../mesh/roots.js';
import { type Service, identityFor, serialIn } from '../mesh/services.js';
import type { MeshConfig } from '../mesh/types.js';
import { Turns } from '../turns.js';
import { Others } from './others.js';
import { Registry } from './registered.js';
import { REGISTERED, sourcesOf } from './sources.js';
import { IssuerFiles } from './issuer-files.js';
import { type Known, type Left, LeftBehind, nowhere } from './left.js';
import { Shared, type SharedEvents } from './shared.js';
import { StateFolder } from './state.js';
import {
  DEFAULT_CONTROL,
  type MeshControl,
  type MeshControlEvents,
  type MeshControlOptions,
  type TokenOptions,
} from './types.js';
import type { IssuerPem } from './vault.js';

/** How long a start waits for sources. One that is gone must not keep a control plane from those who need it. */
export const SETTLE_MS = 5000;
/** How often it is looked when the issuer ends. It keeps the process alive, too. */
const LOOK_MS = 60_000;
const TOKEN = { uses: 3, ttlMs: 10 * 60_000 };

/** What it needs of the core. */
export interface ControlCore {
  readonly start: StartControlPlane;
  validateResources(json: string): readonly ResourceIssue[];
}

/** A control plane that stands alone. */
export class Orchestrator extends EventEmitter<MeshControlEvents> implements MeshControl {
  readonly #core: ControlCore;
  readonly #options: MeshControlOptions;
  readonly #registry = new Registry();
  /** What is live, or will be. */
  #mesh: CompiledMesh;
  #directory: Directory | undefined;
  #state: StateFolder | undefined;
  #shared: Shared | undefined;
  #issuerFiles: IssuerFiles | undefined;
  /** The one that signs, unless it was made by the core. */
  #issuer: IssuerPem | undefined;
  #control: ControlPlane | undefined;
  readonly #behind = new LeftBehind();
  /** What was told of services whose addresses are not written, by cluster. */
  #endpoints = new Map<string, string>();
  /** Who answers for a service by another identity, as it was told. */
  #others = Others.none;
  #listening: Promise<readonly string[]> | undefined;
  /** Every other issuer that came serves, or is known to make no sense. */
  readonly #issuers = new Turns();
  #closing: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** What was told last of the issuer's end. */
  #stood: IssuerStanding = 'good';

  constructor(config: MeshConfig | LoadedMesh, core: ControlCore, options: MeshControlOptions = {}) {
    super();
    this.#core = core;
    this.#options = options;
    this.#mesh = this.#checked(config);
    this.#checkDiscovery(this.#mesh);
    options.signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (options.signal?.aborted) this.#onAbort();
  }

  readonly #onAbort = (): void => {
    void this.close();
  };

  /** An `error` that nobody listens for is no reason to end the process. */
  #trouble(error: unknown): void {
    if (this.listenerCount('error') > 0) this.emit('error', error);
  }

  #checked(config: MeshConfig | LoadedMesh): CompiledMesh {
    const loaded = config instanceof LoadedMesh ? config : checkMeshConfig(config);
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

  listen(): Promise<readonly string[]> {
    this.#listening ??= this.#start().catch(async (error: unknown) => {
      await this.#end();
      throw error;
    });
    return this.#listening;
  }

  async #start(): Promise<readonly string[]> {
    this.#throwIfClosed();
    this.#timer = setInterval(() => this.#lookAtIssuer(), LOOK_MS);
    const { listen = DEFAULT_CONTROL, stateDir } = this.#options;
    this.#state = stateDir === undefined ? undefined : await StateFolder.open(stateDir);
    const known = (await this.#state?.endpoints()) ?? {};
    const { settings } = this.#mesh;
    for (const [service, sources] of Object.entries(known)) {
      this.#registry.restore(identityOf(service, settings), sources[REGISTERED] ?? []);
    }
    const directory = new Directory({
      known,
      changed: (services) => this.#endpointsChanged(services),
      tell: (event) => this.emit('source', event),
    });
    this.#directory = directory;
    directory.apply(sourcesOf(this.#mesh, this.#registry, this.#options.discovery ?? {}));
    const given = this.#options.issuer ?? (await this.#ownIssuer());
    const issuer = await this.#share(given);
    await Promise.all([directory.spoken(SETTLE_MS), this.#shared?.learn(SETTLE_MS)]);
    this.#throwIfClosed();
    await this.#serve(listed(listen), issuer);
    this.#shared?.follow(this.#registry);
    this.#issuerFiles?.follow();
    const { addresses } = this.#running();
    this.emit('listening', addresses);
    this.#lookAtIssuer();
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

  /** One after the other: who asks for something meanwhile waits. Rejects when the issuer does not serve. */
  #renewed(issuer: IssuerPem): Promise<void> {
    return this.#issuers.run(() => this.#serveAgain(issuer));
  }

  /** The same where nobody waits for it: what went wrong is told, once while it goes on. */
  #renewSoon(issuer: IssuerPem): void {
    this.#renewed(issuer).catch((error: unknown) => {
      if (this.#behind.isNews(error)) this.#trouble(error);
    });
  }

  /** Says once when the issuer that was given ends soon, and when it has ended. */
  #lookAtIssuer(): void {
    const life = this.issuerLife();
    const stands = life ? standingOf(life, Date.now()) : 'good';
    if (life && stands !== 'good' && stands !== this.#stood) this.emit('issuer', stands, life);
    this.#stood = stands;
  }

  /** The issuer of the operator's, where the mesh file names its files. */
  async #ownIssuer(): Promise<IssuerPem | undefined> {
    const { issuer } = this.#mesh.settings;
    if (!issuer) return undefined;
    this.#issuerFiles = new IssuerFiles(issuer, {
      renewed: (now) => this.#renewSoon(now),
      failed: (error) => this.#trouble(error),
    });
    return this.#issuerFiles.issuer();
  }

  /** What several control planes share, the issuer too unless it is given. */
  async #share(given: IssuerPem | undefined): Promise<IssuerPem | undefined> {
    const { settings } = this.#mesh;
    if (!settings.shared) return given;
    const events: SharedEvents = {
      tell: (event) => this.emit('source', event),
      renewed: (issuer) => this.#renewed(issuer),
      revoked: (whom) => this.#attempt(() => this.#control?.revoke(whom)),
      allowed: (whom) => this.#attempt(() => void this.#control?.allow(whom)),
      spoken: () => this.#attempt(() => this.#control?.knowsRevoked()),
      failed: (error) => this.#trouble(error),
    };
    this.#shared = new Shared(settings.shared, this.#core.start, settings, events, this.#state?.shared);
    return given ?? this.#shared.issuer();
  }

  /**
   * With another issuer. Sidecars find it again within moments. One that makes no sense, as where its files are replaced one
   * after the other, changes nothing.
   */
  async #serveAgain(issuer: IssuerPem): Promise<void> {
    if (this.#closing || (this.#control && isDeepStrictEqual(issuer, this.#issuer))) return;
    if (!this.#behind.left) await this.#tryIssuer(issuer);
    if (this.#closing) return;
    const left = this.#behind.left ?? (await this.#leave());
    if (this.#closing) return;
    try {
      await this.#serve(left.addresses, issuer, left.known);
    } catch (error) {
      if (this.#closing || this.#control) throw error;
      await this.#serve(left.addresses, left.issuer, left.known).catch((cause: unknown) => {
        throw this.#closing || this.#control ? cause : nowhere(error, cause);
      });
      throw error;
    } finally {
      if (!this.#closing) this.#stands(left, issuer);
    }
  }

  async #leave(): Promise<Left> {
    const before = this.#running();
    const known = { revoked: before.revoked(), tokens: before.tokens() };
    this.#control = undefined;
    await before.close();
    return { addresses: before.addresses, known, issuer: this.#issuer };
  }

  /** Either it serves, or it tries again: with what is in the issuer's files then, and with the one before. */
  #stands(left: Left, issuer: IssuerPem): void {
    if (this.#control) {
      this.#behind.end();
      this.emit('restarted');
      this.#lookAtIssuer();
      return;
    }
    this.#behind.keep(left, async () => {
      const now = await this.#issuerFiles?.issuer().catch(() => undefined);
      this.#renewSoon(now ?? issuer);
    });
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
    this.#endpoints.clear();
    this.#others = Others.none;
    const control = await this.#core.start({
      listen,
      trustDomain: settings.trustDomain,
      certificateTtlMs: settings.certificateTtlMs,
      initial: this.#batchTo(undefined, this.#mesh),
      revoked: [...revoked],
      ...(before.tokens !== undefined && { tokens: before.tokens }),
      ...(shared && { allowed: shared.allowed }),
      awaitsRevoked: shared?.knowsDenied === false,
      onEvent: (event) => this.#heard(event),
      ...(plaintextXds !== undefined && { plaintextXds: listed(plaintextXds) }),
      ...(this.#state && { stateDir: this.#state.authority }),
      ...(issuer && { issuer }),
      ...(attest && { attest }),
      ...(decide && { decide, knowsOtherTokens: shared !== undefined }),
      ...(telemetryIntervalMs !== undefined && { telemetryIntervalMs }),
    });
    this.#control = control;
    this.#issuer = issuer;
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
    if (shared?.knowsDenied) control.knowsRevoked();
    await this.#keepRoots();
  }

  /** Who may refuse certificates: whoever was named, and of tokens that are shared etcd has the last word. */
  #decider(): MeshControlOptions['decide'] {
    const { decide } = this.#options;
    const shared = this.#shared;
    if (!shared) return decide;
    return async ({ otherToken, ...request }) => {
      const asked = decide ? await decide(request) : { allow: true as const };
      if (otherToken === undefined || !asked.allow) return asked;
      const spent = await shared.spend(otherToken, request.identity);
      return spent.allow ? asked : spent;
    };
  }

  async apply(config: MeshConfig | LoadedMesh): Promise<number> {
    const mesh = this.#checked(config);
    await this.#issuers.settled;
    const control = this.#running();
    if (JSON.stringify(mesh.settings) !== JSON.stringify(this.#mesh.settings))
      throw new RestartError(['what holds for all services (mesh)']);
    this.#checkDiscovery(mesh);
    const sources = sourcesOf(mesh, this.#registry, this.#options.discovery ?? {});
    const [endpoints, told] = [this.#endpoints, this.#others];
    const batch = this.#batchTo(this.#mesh, mesh);
    try {
      if (sizeOf(batch) > 0) control.apply(batch);
    } catch (error) {
      [this.#endpoints, this.#others] = [endpoints, told];
      throw error;
    }
    this.#mesh = mesh;
    this.#directory?.apply(sources);
    this.emit('applied', sizeOf(batch));
    return sizeOf(batch);
  }

  /** From one mesh to another, with who answers now. */
  #batchTo(before: CompiledMesh | undefined, after: CompiledMesh): MeshBatch {
    const batch = withRoots(batchBetween(before, after));
    const answering = (service: string) => this.#directory?.endpoints(service) ?? [];
    const groups = endpointsOf(after, answering);
    const now = new Map(groups.map((group) => [group.cluster, JSON.stringify(group)]));
    const fixed = new Set(after.endpoints.map(({ cluster }) => cluster));
    const gone = [...this.#endpoints.keys()].filter((cluster) => !now.has(cluster) && !fixed.has(cluster));
    const others = groups.filter(({ cluster }) => this.#endpoints.get(cluster) !== now.get(cluster));
    this.#endpoints = now;
    const known = this.#others;
    this.#others = Others.none.after(after, after.services, answering);
    const { upsert, gone: left } = this.#others.since(known);
    // The file knows some of them, and sources more.
    const written = batch.upsert?.workloads?.filter(({ name }) => !this.#others.has(name)) ?? [];
    const deleted = batch.delete?.workloads?.filter((name) => !this.#others.has(name)) ?? [];
    const stays = new Set(after.workloads.map(({ name }) => name));
    return {
      upsert: {
        ...batch.upsert,
        endpoints: [...(batch.upsert?.endpoints ?? []), ...others],
        workloads: [...written, ...upsert],
      },
      delete: {
        ...batch.delete,
        endpoints: [...(batch.delete?.endpoints ?? []), ...gone],
        workloads: [...new Set([...deleted, ...left.filter((name) => !stays.has(name))])],
      },
    };
  }

  /** Each service by itself: what the core refuses of one holds up no other. */
  #endpointsChanged(names: ReadonlySet<string>): void {
    const directory = this.#directory;
    const control = this.#control;
    if (!directory) return;
    this.#state?.keep(
      () => directory.snapshot(),
      (error) => this.#trouble(error),
    );
    if (!control || this.#closing) return;
    const changed = this.#mesh.services.filter(({ name }) => names.has(name));
    // Before anybody is sent there.
    if (!this.#tellOthers(control, changed, directory)) return;
    for (const service of changed) {
      const answering = directory.endpoints(service.name);
      const groups = endpointsOf({ settings: this.#mesh.settings, services: [service] }, () => answering);
      const others = groups.filter((group) => this.#endpoints.get(group.cluster) !== JSON.stringify(group));
      if (others.length === 0) continue;
      try {
        control.apply({ upsert: { endpoints: others } });
        for (const group of others) this.#endpoints.set(group.cluster, JSON.stringify(group));
        this.emit('endpoints', service.name, answering.length);
      } catch (error) {
        this.#trouble(error);
      }
    }
  }

  /** Tells those who answer for these services by another identity what holds for them; whether that went well. */
  #tellOthers(control: ControlPlane, changed: readonly Service[], directory: Directory): boolean {
    const others = this.#others.after(this.#mesh, changed, (service) => directory.endpoints(service));
    const { upsert, gone } = others.since(this.#others);
    try {
      if (upsert.length + gone.length > 0) {
        control.apply({ upsert: { workloads: upsert }, delete: { workloads: gone } });
      }
      this.#others = others;
      return true;
    } catch (error) {
      this.#trouble(error);
      return false;
    }
  }

  #heard(event: ControlEvent): void {
    this.#registry.heard(event);
    if (event.kind === 'ready') this.#tellStranger(event['sidecar'] as Sidecar);
    if (event.kind === 'lost') this.#registry.look(this.sidecars());
    if (event.kind === 'rotated') void this.#keepRoots().catch((error: unknown) => this.#trouble(error));
    if (event.kind === 'policy') {
      const { kind: _, ...decision } = event as ControlEvent & PolicyDecision;
      this.emit('policy', decision);
    } else this.emit('control', event);
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
    const service = own?.name ?? identity;
    this.emit('source', { kind: 'sourceProblem', service, source: REGISTERED, endpoints: 0, reason });
  }

  async #keepRoots(): Promise<void> {
    await this.#state?.write('roots.pem', this.roots());
  }

  async token(service: string, options: TokenOptions = {}): Promise<string> {
    const { uses = TOKEN.uses, ttlMs = TOKEN.ttlMs } = options;
    const identity = identityFor(service, this.#mesh);
    await this.#issuers.settled;
    const control = this.#running();
    return this.#shared?.token(identity, { uses, ttlMs }) ?? control.issueToken(identity, { uses, ttlMs });
  }

  roots(): string {
    return this.#running().bundle();
  }

  issuerLife(): IssuerLife | undefined {
    return this.#isGiven && this.#issuer ? lifeOf(this.#issuer.chain) : undefined;
  }

  async revoke(whom: string): Promise<void> {
    const denied = serialIn(whom) ?? whom;
    await this.#issuers.settled;
    this.#running().revoke(denied);
    await this.#shared?.revoke(denied);
  }

  async allow(whom: string): Promise<boolean> {
    const denied = serialIn(whom) ?? whom;
    await this.#issuers.settled;
    const here = this.#running().allow(denied);
    return (await this.#shared?.allow(denied)) || here;
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
    if (!this.#issuer) return control;
    const whose = this.#isGiven ? 'given: give it another one' : 'shared, and renewed by all who share it';
    throw new StateError(`the issuer is ${whose}; docs/identity.md says how its root is replaced`);
  }

  /** Whether the issuer is the operator's. */
  get #isGiven(): boolean {
    return (this.#options.issuer ?? this.#issuerFiles) !== undefined;
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
      phase === 'ready' && !named.has(identity) && !this.#others.has(identity);
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
    this.#closing ??= this.#end().then(() => void this.emit('close'));
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #end(): Promise<void> {
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    clearInterval(this.#timer);
    this.#behind.end();
    const directory = this.#directory;
    // Before sidecars are cut off: their going is this one's end and not theirs.
    if (directory) await this.#state?.close(() => directory.snapshot());
    this.#issuerFiles?.close();
    await this.#shared?.close();
    this.#registry.close();
    await directory?.close();
    // What was begun is closed with the rest.
    await this.#issuers.settled;
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
