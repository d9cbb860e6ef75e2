/**
 * `mesh up`: the services of a mesh file, each with a sidecar, and their control plane in this process.
 *
 * The first SIGTERM or SIGINT drains everything, a second one ends at once. Whatever ends this process ends the rest.
 */

import { type Command, Option } from 'commander';
import type { RawIssue } from '../config/issues.js';
import { sensible } from '../config/meaning.js';
import type { ConfigWatcher } from '../config/watch.js';
import { type LoadedMesh, watchMesh } from '../mesh/load.js';
import type { CompiledMesh } from '../mesh/compile.js';
import type { ControlEvent, StartControlPlane } from '../mesh/control-plane.js';
import type { Copy } from '../mesh/up/copy.js';
import { discoveredIssues } from '../mesh/check.js';
import { findWithRoots } from '../mesh/roots.js';
import { identityFor } from '../mesh/services.js';
import type { MeshAdmin } from '../mesh/admin/server.js';
import { Witness } from '../mesh/admin/witness.js';
import { RunningMesh } from '../mesh/up/running.js';
import { MeshScreen } from '../mesh/up/screen.js';
import { type TakenPort, takenPorts } from '../mesh/up/ports.js';
import { sidecarFile } from '../mesh/up/sidecar-file.js';
import { MeshTable } from '../mesh/up/table.js';
import { loadCheckedMesh } from './check.js';
import { follow } from './follow.js';
import { type Core, ExitCode, type World } from './io.js';
import { answer, meshSource } from './mesh-source.js';
import { givenBy } from './mistyped.js';
import { type Format, coloursOf, errorJson, errorText, hasColours, plain } from './output.js';
import { checkTcpAddresses, outputOption } from './options.js';
import { hearSignals } from './signals.js';
import { BoundedOutput, Unread, droppedLine, droppedText } from './unread.js';

/** How often the table is drawn. */
const DRAW_MS = 1000;
/** Who is waited for this long is named. */
const SLOW_MS = 10_000;
/** A signal that comes this soon after another is its echo: npm sends on what the terminal has sent already. */
const ECHO_MS = 500;
/** Where a control plane listens that nobody else has to find. */
export const ANY_PORT = '127.0.0.1:0';

interface UpOptions {
  readonly listen?: string;
  readonly sidecar?: string;
  readonly output: Format;
}

export function addUp(program: Command, world: World, end: (code: ExitCode) => void): void {
  program
    .command('up')
    .description('run the services of a mesh file, each with a sidecar')
    .argument('[file]', 'the mesh file, YAML or JSON', 'mesh.yaml')
    .addOption(
      new Option('--listen <address>', 'where the control plane listens (default: a free port)').env(
        'MESH_LISTEN',
      ),
    )
    .addOption(new Option('--sidecar <file>', 'the program mesh-sidecar').env('MESH_SIDECAR'))
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
SIGTERM or SIGINT drains and ends everything; a second one ends at once. So does SIGHUP where a terminal is closed; without
one it looks at the file at once.

A mesh file, of which web calls http://basket:
  services:
    web: { run: node web.mjs }
    basket: { run: node basket.mjs, port: 3000 }

Examples:
  mesh up
  mesh up shop.yaml
  mesh up -o json`,
    )
    .action(async (file: string, options: UpOptions, command: Command) => {
      world.serves();
      checkTcpAddresses({ '--listen': options.listen }, givenBy(command));
      end(await up(world, file, options));
    });
}

async function up(world: World, file: string, options: UpOptions): Promise<ExitCode> {
  const listen = options.listen || ANY_PORT;
  const core = await world.loadCore();
  const mesh = runnable(await loadCheckedMesh(file, core));
  const taken = await takenPorts(mesh.compiled);
  if (taken.length > 0) throw mesh.refuse(taken.map(takenIssue));
  const sidecar = sidecarFile(world.env, options.sidecar || undefined);
  const running = new Up({ world, core, file, mesh, format: options.output });
  return await running.run(await world.loadControlPlane(), sidecar, listen);
}

function takenIssue({ service, of, port, why }: TakenPort): RawIssue {
  return {
    code: 'invalid',
    path: ['services', service, 'bind', of],
    part: 'value',
    message: `port ${port} of 127.0.0.1 can't be had: ${why}`,
    suggestion: 'free it, write another one, or none and it is a free one',
  };
}

/** @throws {ConfigError} when there is a service that `mesh up` can't run */
function runnable(mesh: LoadedMesh): LoadedMesh {
  const issues = discoveredIssues(mesh.config);
  if (issues.length > 0) throw mesh.refuse(issues);
  return mesh;
}

/** What is run, and what a program that runs it wants beside. */
interface UpPlan {
  readonly world: World;
  readonly core: Core;
  /** Is followed. */
  readonly file: string;
  /** Its content now. */
  readonly mesh: LoadedMesh;
  readonly format: Format;
  /** Whether people read the table in a pipe, too, once all are ready. Default: on a terminal only. */
  readonly tableInPipes?: boolean;
  /** What is run instead of what the file says. Default: just that. */
  readonly adjust?: (mesh: CompiledMesh) => CompiledMesh;
  /** All are ready for the first time. `say` tells people a line; `answers`: `mesh stat` and the like can ask it. */
  readonly opened?: (running: RunningMesh, say: (line: string) => void, answers: boolean) => void;
  /** The first signal has come, and what is under way may still end. */
  readonly draining?: () => void;
}

/** One mesh, from its start to its end. */
export class Up {
  readonly #plan: UpPlan;
  readonly #world: World;
  /** What is run. */
  readonly #mesh: CompiledMesh;
  readonly #format: Format;
  readonly #screen: MeshScreen;
  readonly #unread: Unread;
  readonly #stderr: BoundedOutput;
  #watcher: ConfigWatcher<LoadedMesh> | undefined;
  #running: RunningMesh | undefined;
  #admin: MeshAdmin | undefined;
  readonly #witness = new Witness();
  #allReady = false;
  #firstSignal: number | undefined;
  #forced = false;
  #asked: () => void = () => {};

  constructor(plan: UpPlan) {
    const { world, mesh, format } = plan;
    this.#plan = plan;
    this.#world = world;
    this.#mesh = this.#adjusted(mesh);
    this.#format = format;
    this.#screen = new MeshScreen(world.stdout, coloursOf(world.stdout, world.env));
    this.#unread = new Unread(world.stdout);
    this.#stderr = new BoundedOutput(world.stderr, droppedLine('text'));
  }

  #adjusted({ compiled }: LoadedMesh): CompiledMesh {
    return this.#plan.adjust?.(compiled) ?? compiled;
  }

  async run(startControlPlane: StartControlPlane, sidecar: string, listen: string): Promise<ExitCode> {
    const { signals, env } = this.#world;
    const asked = new Promise<void>((resolve) => {
      this.#asked = resolve;
    });
    const stopHearing = hearSignals(signals, {
      SIGTERM: this.#onSignal,
      SIGINT: this.#onSignal,
      SIGHUP: this.#onHangUp,
    });
    const timers: NodeJS.Timeout[] = [];
    try {
      this.#running = await RunningMesh.start({
        mesh: this.#mesh,
        startControlPlane,
        sidecar,
        listen,
        env: { ...env },
        events: {
          changed: (copy, why) => this.#changed(copy, why),
          line: (copy, stream, text) => this.#line(copy, stream, text),
          control: (event) => this.#control(event),
          trouble: (error) => this.#trouble(error),
        },
      });
      const { control } = this.#running;
      await this.#answer(this.#running);
      this.#event(
        'listening',
        { control: control.addresses },
        `the control plane listens on ${control.addresses.join(', ')}`,
      );
      timers.push(
        setInterval(() => this.#tellSlow(), SLOW_MS),
        ...this.#drawing(),
      );
      if (this.#running.copies.length === 0) this.#event('ready', {}, 'there is nothing to run');
      const following = this.#follow(this.#running);
      await asked;
      this.#watcher?.stop();
      await following;
      await this.#admin?.close();
      await this.#running.stop();
    } finally {
      this.#watcher?.stop();
      for (const timer of timers) clearInterval(timer);
      this.#screen.table([]);
      stopHearing();
    }
    this.#event('closed', {}, 'closed');
    return this.#forced ? ExitCode.failure : ExitCode.ok;
  }

  /** Answers `mesh stat` and the like. */
  async #answer(running: RunningMesh): Promise<void> {
    const { control } = running;
    const source = meshSource(control, () => this.#mesh, this.#witness, {
      // It makes its own.
      issuer: () => null,
      // Its copies listen on the loopback, and their sidecars are not transparent.
      isBypassable: running.copies.length > 0,
      // Its copies are all services.
      strangers: () => [],
      services: () => running.services(),
      declared: () => running.declared(),
      sources: () => [],
      token: ({ service, ...options }) => control.issueToken(identityFor(service, this.#mesh), options),
    });
    this.#admin = await answer(source, this.#plan.file, (error) => this.#trouble(error));
  }

  readonly #onSignal = (): void => {
    const now = performance.now();
    if (this.#firstSignal === undefined) {
      this.#firstSignal = now;
      this.#event('draining', {}, 'draining; a second signal ends at once');
      this.#plan.draining?.();
      this.#asked();
    } else if (now - this.#firstSignal > ECHO_MS) {
      this.#forced = true;
      this.#running?.kill().catch((error: unknown) => this.#trouble(error));
    }
  };

  /** The terminal is closed; who has none means a look at the file, as all commands do that serve. */
  readonly #onHangUp = (): void => {
    if (this.#world.stdout.isTTY === true) this.#onSignal();
    else this.#watcher?.check();
  };

  #event(event: string, details: object, text: string): void {
    this.#tellDropped();
    if (this.#unread.takes('own')) this.#write({ event, ...details }, () => this.#screen.say(text));
  }

  /** What programs are told of otherwise. */
  #say(text: string): void {
    if (this.#format !== 'text') return;
    this.#tellDropped();
    if (this.#unread.takes('own')) this.#screen.say(plain(text));
  }

  #write(forPrograms: object, forPeople: () => void): void {
    if (this.#format === 'json') this.#world.stdout.write(`${JSON.stringify(forPrograms)}\n`);
    else forPeople();
  }

  #tellDropped(): void {
    const lines = this.#unread.dropped();
    if (lines > 0) this.#write({ event: 'dropped', lines }, () => this.#screen.say(droppedText(lines)));
  }

  /** Makes each new content of the file live, as far as that goes while everything runs. */
  #follow(running: RunningMesh): Promise<void> {
    const { core, file, mesh } = this.#plan;
    this.#watcher = watchMesh(file, { since: mesh });
    const apply = (now: LoadedMesh): number =>
      running.apply(this.#adjusted(runnable(sensible(now, findWithRoots(core)))));
    return follow(this.#watcher, apply, {
      event: (...said) => this.#event(...said),
      trouble: (...said) => this.#trouble(...said),
      say: (text) => this.#say(text),
    });
  }

  /** What people have to know of the control plane; programs get all. */
  #control(event: ControlEvent): void {
    const { kind } = event;
    this.#witness.heard(event, Date.now());
    if (this.#format === 'json') this.#event('control', event, '');
    else if (kind === 'nack')
      this.#say(`${String(event['node'])} refuses what it was sent: ${JSON.stringify(event['nacks'])}`);
    else if (kind === 'authorityFailed') this.#say(`certificates: ${String(event['reason'])}`);
  }

  #trouble(error: unknown, event = 'error'): void {
    if (this.#format === 'json') this.#event(event, { error: errorJson(error) }, '');
    else this.#stderr.write(errorText(error, hasColours(this.#stderr, this.#world.env)));
  }

  #line(copy: Copy, stream: 'stdout' | 'stderr', text: string): void {
    const { label, plan } = copy;
    this.#tellDropped();
    if (!this.#unread.takes('others')) return;
    this.#write({ event: 'line', copy: label, stream, text }, () =>
      this.#screen.line(plan.service.name, label, text),
    );
  }

  #changed(copy: Copy, why: string): void {
    const { phase, label, places, plan } = copy;
    const own = places?.ports.get(plan.service.ports[0]?.port ?? 0);
    const details = {
      copy: label,
      phase,
      why,
      ...(phase === 'ready' &&
        places && { application: own, admin: places.admin, outbound: places.outbound }),
    };
    const { bold } = coloursOf(this.#world.stdout, this.#world.env);
    const text =
      phase === 'ready' ? `ready on ${own}, its sidecar's health and metrics on ${places?.admin}` : why;
    this.#event('copy', details, `${bold(label)}: ${text}`);
    const copies = this.#running?.copies ?? [];
    if (this.#allReady || copies.length === 0 || !copies.every((each) => each.phase === 'ready')) return;
    this.#allReady = true;
    this.#event('ready', { copies: copies.length }, `all are ready: ${copies.length} of ${copies.length}`);
    if (!this.#running) return;
    this.#plan.opened?.(this.#running, (line) => this.#say(line), this.#admin !== undefined);
  }

  #tellSlow(): void {
    if (this.#allReady || this.#firstSignal !== undefined) return;
    for (const { label, missing } of this.#running?.copies ?? []) {
      if (missing === undefined) continue;
      const { what, mend } = missing;
      const text = mend === undefined ? what : `${what}: ${mend}`;
      this.#event('waiting', { copy: label, missing: what }, `${label}: ${text}`);
    }
  }

  /** The table: below all else on a terminal, as lines among the others in a pipe. */
  #drawing(): NodeJS.Timeout[] {
    const running = this.#running;
    const isTTY = this.#world.stdout.isTTY === true;
    if (this.#format === 'json' || !running || !(isTTY || this.#plan.tableInPipes)) return [];
    const table = new MeshTable(this.#mesh);
    const draw = (): void => {
      const lines = table.lines(running.copies, running.control.edges(), performance.now());
      if (isTTY) this.#screen.table(lines);
      else if (this.#allReady && this.#firstSignal === undefined && this.#unread.takes('own'))
        this.#screen.say(lines.join('\n'));
    };
    return [setInterval(draw, DRAW_MS)];
  }
}
