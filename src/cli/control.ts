/**
 * `mesh control`: the control plane of a mesh file alone, for sidecars that somebody else starts, on this machine or on
 * others.
 *
 * SIGTERM or SIGINT ends it, and sidecars go on with what they know. SIGHUP applies the mesh file again.
 */

import path from 'node:path';
import { type Command, Option } from 'commander';
import type { ConfigWatcher } from '../config/watch.js';
import { Orchestrator } from '../controller/orchestrator.js';
import { StateFolderError } from '../controller/state.js';
import { DEFAULT_CONTROL, type MeshControl } from '../controller/types.js';
import type { SourceEvent } from '../discovery/types.js';
import { replaceFile } from '../files.js';
import type { MeshAdmin } from '../mesh/admin/server.js';
import type { LackingStatus, ServiceStatus } from '../mesh/admin/types.js';
import { Witness } from '../mesh/admin/witness.js';
import type { ControlEvent, PolicyDecision, Sidecar } from '../mesh/control-plane.js';
import { type CompiledMesh, portNames } from '../mesh/compile.js';
import { type LoadedMesh, watchMesh } from '../mesh/load.js';
import { identityOf } from '../mesh/names.js';
import { findWithRoots } from '../mesh/roots.js';
import type { MeshSettings, Service } from '../mesh/services.js';
import { loadCheckedMesh } from './check.js';
import { follow } from './follow.js';
import { ExitCode, type World } from './io.js';
import { answer, meshSource } from './mesh-source.js';
import { givenBy } from './mistyped.js';
import { checkTcpAddresses, outputOption } from './options.js';
import { type Format, UsageError, errorJson, errorText, hasColours, plain } from './output.js';
import { hearSignals } from './signals.js';
import { BoundedOutput, type Whose, droppedLine } from './unread.js';

/** Beside the mesh file, where its socket is. */
const STATE = path.join('.mesh', 'state');

interface ControlOptions {
  readonly listen: string;
  readonly plaintextXds?: string;
  readonly stateDir?: string;
  readonly trustAnchorsOut?: string;
  readonly output: Format;
}

export function addControl(program: Command, world: World, end: (code: ExitCode) => void): void {
  program
    .command('control')
    .description('run the control plane of a mesh file alone')
    .argument('[file]', 'the mesh file, YAML or JSON', 'mesh.yaml')
    .addOption(
      new Option('--listen <address>', 'where sidecars reach it, always with TLS')
        .env('MESH_LISTEN')
        .default(DEFAULT_CONTROL),
    )
    .addOption(
      new Option(
        '--plaintext-xds <address>',
        'where gRPC clients and Envoy on this machine are told resources, without TLS (default: nowhere)',
      ).env('MESH_PLAINTEXT_XDS'),
    )
    .addOption(
      new Option(
        '--state-dir <folder>',
        'root, issuer and known endpoints (default: .mesh/state beside the file)',
      ).env('MESH_STATE_DIR'),
    )
    .addOption(
      new Option('--trust-anchors-out <file>', 'where to write the roots too, beside the state folder').env(
        'MESH_TRUST_ANCHORS_OUT',
      ),
    )
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
It follows its file, and applies it again on SIGHUP. mesh stat, edges, check and config tell how it is; mesh token lets a sidecar in.

Examples:
  mesh control
  mesh control shop.yaml --listen 10.0.0.5:4144 --state-dir /var/lib/mesh`,
    )
    .action(async (file: string, options: ControlOptions, command: Command) => {
      world.serves();
      const { listen, plaintextXds } = options;
      checkTcpAddresses({ '--listen': listen, '--plaintext-xds': plaintextXds }, givenBy(command));
      end(await control(world, file, options));
    });
}

async function control(world: World, file: string, options: ControlOptions): Promise<ExitCode> {
  const { listen, plaintextXds } = options;
  const core = await world.loadCore();
  const mesh = await loadCheckedMesh(file, core);
  const stateDir = path.resolve(options.stateDir || path.join(path.dirname(file), STATE));
  const start = await world.loadControlPlane();
  const plane = new Orchestrator(
    mesh,
    { start, validateResources: findWithRoots(core) },
    { listen, stateDir, ...(plaintextXds && { plaintextXds }) },
  );
  return await new Control(world, file, mesh, plane, stateDir, options).run();
}

/** What can't be a folder of state is wrong usage. */
function namingFolder(error: unknown): never {
  if (!(error instanceof StateFolderError)) throw error;
  throw new UsageError([`${error.message}; --state-dir names another one`]);
}

/** One control plane, from its start to its end. */
class Control {
  readonly #world: World;
  readonly #stdout: BoundedOutput;
  readonly #stderr: BoundedOutput;
  readonly #file: string;
  /** What is live. */
  #mesh: LoadedMesh;
  readonly #witness = new Witness();
  readonly #plane: MeshControl;
  readonly #stateDir: string;
  readonly #options: ControlOptions;
  #watcher: ConfigWatcher<LoadedMesh> | undefined;
  #admin: MeshAdmin | undefined;

  constructor(
    world: World,
    file: string,
    mesh: LoadedMesh,
    plane: MeshControl,
    stateDir: string,
    options: ControlOptions,
  ) {
    this.#world = world;
    const dropped = droppedLine(options.output);
    this.#stdout = new BoundedOutput(world.stdout, dropped);
    this.#stderr = new BoundedOutput(world.stderr, dropped);
    this.#file = file;
    this.#mesh = mesh;
    this.#plane = plane;
    this.#stateDir = stateDir;
    this.#options = options;
  }

  async run(): Promise<ExitCode> {
    const plane = this.#plane;
    let end = (): void => {};
    const asked = new Promise<void>((resolve) => {
      end = resolve;
    });
    const stopHearing = hearSignals(this.#world.signals, {
      SIGTERM: end,
      SIGINT: end,
      SIGHUP: () => this.#watcher?.check(),
    });
    plane.on('control', (event) => this.#control(event));
    plane.on('policy', (decision) => this.#event('policy', decision, policyLine(decision), 'others'));
    plane.on('source', (event) => this.#source(event));
    plane.on('endpoints', (service, count) =>
      this.#event('endpoints', { service, count }, `${service}: ${count} endpoints`),
    );
    plane.on('issuer', (standing, { notAfterMs }) =>
      this.#event('issuer', { standing, notAfterMs }, issuerLine(standing, notAfterMs)),
    );
    plane.on('restarted', () => {
      this.#admin?.countAnew();
      this.#keepAnchors();
    });
    plane.on('error', (error) => this.#trouble(error));
    try {
      const listening = plane.listen();
      // A start that waits for its sources ends when asked, too.
      const addresses = await Promise.race([listening, asked.then(() => undefined)]).catch(namingFolder);
      if (!addresses) {
        listening.catch(() => {});
        this.#event('closed', {}, 'closed');
        return ExitCode.ok;
      }
      await this.#answer();
      await this.#writeAnchors();
      const { roots } = this;
      this.#event(
        'listening',
        { control: addresses, trustAnchors: roots },
        `the control plane listens on ${addresses.join(', ')}; sidecars trust ${roots}`,
      );
      const plaintextXds = plane.plaintextXds();
      if (plaintextXds.length > 0) {
        const text = `gRPC clients and Envoy on this machine ask ${plaintextXds.join(', ')}, without TLS`;
        this.#event('plaintextXds', { plaintextXds }, text);
      }
      const following = this.#follow();
      await asked;
      this.#watcher?.stop();
      await following;
    } finally {
      this.#watcher?.stop();
      stopHearing();
      await this.#admin?.close();
      await plane.close();
    }
    this.#event('closed', {}, 'closed');
    return ExitCode.ok;
  }

  /** Where the roots are, for those who start sidecars. */
  get roots(): string {
    const { trustAnchorsOut } = this.#options;
    return trustAnchorsOut ? path.resolve(trustAnchorsOut) : path.join(this.#stateDir, 'roots.pem');
  }

  async #writeAnchors(): Promise<void> {
    if (this.#options.trustAnchorsOut) await replaceFile(this.roots, this.#plane.roots());
  }

  #keepAnchors(): void {
    void this.#writeAnchors().catch((error: unknown) => this.#trouble(error));
  }

  /** Answers `mesh stat` and the like. */
  async #answer(): Promise<void> {
    const plane = this.#plane;
    const { shared } = this.#mesh.compiled.settings;
    const mesh = (): CompiledMesh => this.#mesh.compiled;
    const source = meshSource(plane, mesh, this.#witness, {
      issuer: () => plane.issuerLife() ?? null,
      // How sidecars are run is for others to know.
      isBypassable: false,
      strangers: () => plane.strangers(),
      services: () => (shared ? [] : this.#services()),
      declared: () => portNames(mesh()),
      sources: () => plane.sources(),
      token: ({ service, ...options }) => plane.token(service, options),
      // Where there are several control planes, who is not with this one may be with another.
      ...(shared && { missing: () => [] }),
    });
    this.#admin = await answer(source, this.#file, (error) => this.#trouble(error));
  }

  /** Services whose endpoints come and go, but for those that have none since they only call others. */
  #services(): ServiceStatus[] {
    const { services, settings } = this.#mesh.compiled;
    const plane = this.#plane;
    const counts = new Map<string, number>();
    for (const { service, endpoints } of plane.sources())
      counts.set(service, (counts.get(service) ?? 0) + endpoints);
    const sidecars = plane.sidecars();
    const callers = new Set(sidecars.flatMap((each) => (each.services.length === 0 ? [each.identity] : [])));
    return services
      .filter(({ discover }) => discover !== undefined)
      .map((service) => {
        const { name } = service;
        const [lacking, none] = lackingOf(service, settings, sidecars);
        const endpoints = Math.max((counts.get(name) ?? 0) - none, 0);
        return { name, endpoints, ...(lacking.length > 0 && { lacking }) };
      })
      .filter(({ name, endpoints }) => endpoints > 0 || !callers.has(identityOf(name, settings)));
  }

  /** Makes each new content of the file live. */
  #follow(): Promise<void> {
    this.#watcher = watchMesh(this.#file, { since: this.#mesh });
    const apply = async (mesh: LoadedMesh): Promise<number> => {
      const resources = await this.#plane.apply(mesh);
      this.#mesh = mesh;
      return resources;
    };
    return follow(this.#watcher, apply, {
      event: (...said) => this.#event(...said),
      trouble: (...said) => this.#trouble(...said),
      say: (text) => this.#say(text),
    });
  }

  #control(event: ControlEvent): void {
    this.#witness.heard(event, Date.now());
    if (event.kind === 'rotated') this.#keepAnchors();
    this.#event('control', event, controlLine(event), 'others');
  }

  #source(event: SourceEvent): void {
    const { service, source, kind, reason, retryMs, endpoints } = event;
    const has = endpoints > 0 ? `its ${endpoints} endpoints serve on` : 'it has no endpoints';
    const again = retryMs === undefined ? '' : `, again in ${retryMs} ms`;
    const text = kind === 'sourceLive' ? `tells ${endpoints} endpoints` : `${reason}; ${has}${again}`;
    this.#event('source', event, `${service}: ${source}: ${text}`);
  }

  #event(event: string, details: object, text: string | undefined, whose: Whose = 'own'): void {
    if (this.#options.output === 'json')
      this.#stdout.write(`${JSON.stringify({ event, ...details })}\n`, whose);
    else if (text !== undefined) this.#say(text, whose);
  }

  /** Tells people alone. */
  #say(text: string, whose: Whose = 'own'): void {
    if (this.#options.output === 'text') this.#stdout.write(`${plain(text)}\n`, whose);
  }

  #trouble(error: unknown, event = 'error'): void {
    if (this.#options.output === 'json')
      this.#stdout.write(`${JSON.stringify({ event, error: errorJson(error) })}\n`);
    else this.#stderr.write(errorText(error, hasColours(this.#stderr, this.#world.env)));
  }
}

/** Whose sidecars offer not all ports of a service, and how many offer none of them: those answer for nothing. */
function lackingOf(
  { name, ports }: Service,
  settings: MeshSettings,
  sidecars: readonly Sidecar[],
): [lacking: LackingStatus[], none: number] {
  const identity = identityOf(name, settings);
  const own = sidecars.filter(
    (each) => each.identity === identity && each.phase === 'ready' && each.services.length > 0,
  );
  const lacking = own.flatMap((sidecar) => {
    const offered = new Set(sidecar.services.map(({ port }) => port));
    const missing = ports.map(({ port }) => port).filter((port) => !offered.has(port));
    return missing.length > 0 ? [{ sidecar: sidecar.name, ports: missing }] : [];
  });
  return [lacking, lacking.filter((each) => each.ports.length === ports.length).length];
}

function issuerLine(standing: 'ending' | 'ended', notAfterMs: number): string {
  const at = new Date(notAfterMs).toISOString();
  return standing === 'ended'
    ? `warning: the issuer ended at ${at}: nobody gets a certificate before there is another one`
    : `warning: the issuer ends at ${at}: put another one in its place`;
}

/** What people have to know; programs get all. */
function controlLine(event: ControlEvent): string | undefined {
  const { kind, sidecar } = event as ControlEvent & { sidecar?: Sidecar };
  if (sidecar) {
    const isShared = kind === 'connected' && sidecar.sharesName;
    const more = isShared ? '; another one is called so too: give each a --name of its own' : '';
    return `${sidecar.name}: ${kind}, ${sidecar.identity}${more}`;
  }
  if (kind === 'audit') {
    const { identity, address, proof, refused, serial } = event;
    const came = refused === null ? `a certificate, serial ${String(serial)}` : `refused, ${String(refused)}`;
    return `audit: ${String(identity ?? 'nobody')} from ${String(address)} by ${String(proof)}: ${came}`;
  }
  if (kind === 'nack')
    return `${String(event['node'])} refuses what it was sent: ${JSON.stringify(event['nacks'])}`;
  if (kind === 'rotated') return `certificates: ${(event['changes'] as string[]).join(', ')}`;
  if (kind === 'authorityFailed') return `certificates: ${String(event['reason'])}`;
  return undefined;
}

/** Sidecars have escaped what callers sent. */
function policyLine(decision: PolicyDecision): string {
  const { node, mode, why, policies, port, caller, unsaid } = decision;
  const verb = mode === 'audit' ? 'would deny' : 'denied';
  const what = [decision.method, decision.path].filter((part) => part !== null).join(' ') || 'a stream';
  const to = port === null ? '' : ` to port ${port}`;
  const by = policies.length > 0 ? `${why} of ${policies.join(', ')}` : why;
  return `policy: ${node} ${verb} ${caller} ${what}${to}: ${by}${unsaid > 0 ? `, and ${unsaid} more` : ''}`;
}
