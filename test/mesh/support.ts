// How does a test get a mesh that is real? A control plane in this process, sidecars as processes, applications that the
// test can look into.

import { writeFileSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { AuthorizationPolicy, Endpoint } from '../../src/config/resources.js';
import type { ControlEvent, ControlPlane, ControlPlaneOptions } from '../../src/mesh/control-plane.js';
import { startControlPlane } from '../../src/mesh/native-control-plane.js';
import { temporaryFolder } from '../support/files.js';
import { request } from '../support/http.js';
import { type Running, start } from '../support/processes.js';
import { cleanEnvironment, sidecarFile } from '../support/sidecar.js';
import { closedPort } from '../support/tcp.js';
import { until } from '../support/wait.js';

type Test = Pick<ExecutionContext, 'teardown'>;

export const idOf = (service: string, namespace = 'shop'): string =>
  `spiffe://mesh.test/ns/${namespace}/sa/${service}`;
const NAMES = ['', '.shop', '.shop.mesh.test'];

/** What a service is called by, and that its hosts are of the mesh. */
const namesOf = (service: string, port: number): string[] =>
  NAMES.flatMap((more) => [80, port, '*'].map((called) => `${service}${more}:${called}`));

/** A port to listen on. */
export const freePort = closedPort;

/** A control plane with what it has told. */
export class Mesh {
  readonly events: ControlEvent[] = [];
  control!: ControlPlane;

  private constructor(
    readonly options: Partial<ControlPlaneOptions>,
    readonly folder: string,
  ) {}

  static async start(t: Test, options: Partial<ControlPlaneOptions> = {}): Promise<Mesh> {
    const mesh = new Mesh(options, temporaryFolder(t));
    // Another one may take its place later: meanwhile no outgoing connection is to be given its port.
    await mesh.open(`127.0.0.1:${await freePort()}`);
    t.teardown(() => mesh.control.close());
    return mesh;
  }

  /** Starts the control plane, or another one. */
  async open(listen: string, more: Partial<ControlPlaneOptions> = {}): Promise<void> {
    this.control = await startControlPlane({
      listen: [listen],
      trustDomain: 'mesh.test',
      certificateTtlMs: 3_600_000,
      telemetryIntervalMs: 200,
      onEvent: (event) => void this.events.push(event),
      ...this.options,
      ...more,
    });
    writeFileSync(join(this.folder, 'roots.pem'), this.control.bundle());
  }

  /** Makes a service known, at these addresses; `by` is the workload that offers it. */
  serve(
    service: string,
    addresses: readonly string[],
    port = 3000,
    protocol: 'auto' | 'http2' | 'tcp' = 'auto',
    by = service,
  ): void {
    const cluster = `${service}.shop:${port}`;
    const endpoints: Endpoint[] = addresses.map((address) => ({ address, identity: idOf(by) }));
    this.control.apply({
      upsert: {
        routeTables: [
          {
            name: cluster,
            virtualHosts: [
              { hosts: ['*'], routes: [{ name: service, action: { kind: 'forward', to: [{ cluster }] } }] },
            ],
          },
        ],
        clusters: [{ name: cluster, protocol, workload: { serverName: `p${port}.${by}.shop.mesh.test` } }],
        endpoints: [{ cluster, localities: [{ endpoints }] }],
        services: namesOf(service, port).map((name) => ({ name, routeTable: cluster })),
      },
    });
  }

  /** Makes a service unknown. */
  remove(service: string, port = 3000): void {
    const cluster = `${service}.shop:${port}`;
    this.control.apply({
      delete: {
        routeTables: [cluster],
        clusters: [cluster],
        endpoints: [cluster],
        services: namesOf(service, port),
      },
    });
  }

  /** Says who may call a service. */
  protect(
    service: string,
    policies: readonly AuthorizationPolicy[],
    defaultPolicy: 'allow' | 'allowAuthenticated' | 'deny' = 'allowAuthenticated',
  ): void {
    this.control.apply({
      upsert: { workloads: [{ name: idOf(service), defaultPolicy, policies: [...policies] }] },
    });
  }

  /** A file with a token for a service. */
  token(service: string, uses = 1, namespace?: string): string {
    const file = join(this.folder, `${service}-${Math.random().toString(36).slice(2)}.token`);
    writeFileSync(file, this.control.issueToken(idOf(service, namespace), { uses, ttlMs: 60_000 }), {
      mode: 0o600,
    });
    return file;
  }

  /** Starts a sidecar, and waits until it is ready unless `ready` says no. */
  sidecar(t: Test, service: string, options: SidecarOptions = {}): Promise<MeshSidecar> {
    return startMeshSidecar(t, {
      ...options,
      identity: idOf(service, options.namespace),
      name: options.name ?? service,
      control: this.control.addresses,
      trustAnchors: join(this.folder, 'roots.pem'),
      ...(options.attestation === undefined && {
        token: options.token ?? this.token(service, 1, options.namespace),
      }),
    });
  }

  /** Waits for an event. */
  happened(kind: string, is: (event: ControlEvent) => boolean = () => true): Promise<ControlEvent> {
    return until(`an event ${kind}`, () => this.events.find((event) => event.kind === kind && is(event)));
  }
}

export interface SidecarOptions {
  /** Where its application is: `3000=127.0.0.1:41000`. */
  readonly ports?: string;
  readonly name?: string;
  /** Default: `shop`. */
  readonly namespace?: string;
  /** The file with its token. */
  readonly token?: string;
  /** `KIND=FILE` instead of a token. */
  readonly attestation?: string;
  readonly flags?: Readonly<Record<string, string>>;
  /** What it starts beside itself. */
  readonly command?: readonly string[];
  /** Whether to wait until it is ready. */
  readonly ready?: boolean;
}

/** Starts a sidecar of any mesh, and waits until it is ready unless `ready` says no. */
export async function startMeshSidecar(t: Test, options: JoinOptions): Promise<MeshSidecar> {
  const [inbound, outbound, admin] = [
    options.inbound ?? (await freePort()),
    await freePort(),
    await freePort(),
  ];
  const flags: Record<string, string> = {
    '--control': options.control.join(','),
    '--trust-anchors': options.trustAnchors,
    ...(options.token !== undefined && { '--token-file': options.token }),
    ...(options.attestation !== undefined && { '--attestation': options.attestation }),
    '--identity': options.identity,
    ...(options.name !== undefined && { '--name': options.name }),
    '--inbound': `127.0.0.1:${inbound}`,
    '--outbound': `127.0.0.1:${outbound}`,
    '--admin': `127.0.0.1:${admin}`,
    '--lame-duck': '0s',
    // A test that is killed has no teardown. What another program starts has to see to that itself.
    ...(options.under === undefined && { '--with-parent': String(process.pid) }),
    ...(options.ports && { '--ports': options.ports }),
    ...options.flags,
  };
  const command = options.command === undefined ? [] : ['--', ...options.command];
  const own = [sidecarFile(), ...Object.entries(flags).flat(), ...command] as const;
  const [program, ...args] = options.under ? ([...options.under, ...own] as const) : own;
  const started = start(t, program, args, {
    env: { ...cleanEnvironment(), RUST_BACKTRACE: '1' },
  });
  const sidecar = new MeshSidecar(started, inbound, outbound, admin);
  t.teardown(async () => {
    await started.kill();
    if (/panicked at/.test(started.stderr())) throw new Error(`the sidecar panicked: ${started.stderr()}`);
  });
  if (options.ready !== false) {
    await started.said(/^mesh-sidecar: ready$/m).catch((error: unknown) => {
      throw new Error(`${String(error)}: ${started.stderr()}`);
    });
  }
  return sidecar;
}

/** How a sidecar joins. */
export interface JoinOptions extends SidecarOptions {
  readonly identity: string;
  /** The command that starts it, which ends it with itself and is killed with this process. */
  readonly under?: readonly [string, ...string[]];
  readonly control: readonly string[];
  readonly trustAnchors: string;
  readonly inbound?: number;
}

/** Asks for a name through a sidecar's outbound port. */
export function ask(
  sidecar: MeshSidecar,
  path = '/',
  host = 'basket',
  headers: http.OutgoingHttpHeaders = {},
  agent?: http.Agent,
) {
  return request(sidecar.outbound, {
    path: `http://${host}${path}`,
    headers: { host, ...headers },
    ...(agent && { agent }),
  });
}

/** What a series of its metrics says; 0 where there is none. */
export async function numberOf(sidecar: MeshSidecar, series: RegExp): Promise<number> {
  const { text } = await request(sidecar.admin, { path: '/metrics' });
  return Number(series.exec(text)?.[1] ?? 0);
}

/** Requests without end, until `stop`: how many went well, and what did not. */
export function load(sidecar: MeshSidecar): {
  stop(): Promise<{ good: number; bad: string[] }>;
  good(): number;
} {
  let good = 0;
  const state = { going: true };
  const bad: string[] = [];
  const agent = new http.Agent({ keepAlive: true });
  const work = Array.from({ length: 4 }, async () => {
    while (state.going) {
      try {
        const { status, text } = await ask(sidecar, '/', 'basket', {}, agent);
        if (status === 200) good += 1;
        else bad.push(`${status} ${text}`);
      } catch (error) {
        bad.push(String(error));
      }
    }
  });
  return {
    good: () => good,
    stop: async () => {
      state.going = false;
      await Promise.all(work);
      agent.destroy();
      return { good, bad };
    },
  };
}

/** A sidecar and its ports. */
export class MeshSidecar {
  constructor(
    readonly process: Running,
    readonly inbound: number,
    readonly outbound: number,
    readonly admin: number,
  ) {}

  get address(): string {
    return `127.0.0.1:${this.inbound}`;
  }
}
