// A world for commands: no process, no core, everything they say kept.

import { EventEmitter } from 'node:events';
import type { Core, World } from '../../src/cli/io.js';
import { runCommand } from '../../src/cli/program.js';
import type { LoadedConfig } from '../../src/config/index.js';
import { StateError } from '../../src/errors.js';
import { checkShape } from '../../src/config/load.js';
import type { ResourceIssue } from '../../src/config/resources.js';
import type {
  CreateProxy,
  DrainOptions,
  DurationStats,
  MeshProxy,
  ProxyOptions,
  ProxyStats,
  RouteStats,
} from '../../src/proxy/types.js';

/** What a command said and how it ended. */
export interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

export class FakeWorld implements World {
  readonly signals = new EventEmitter();
  readonly proxies: FakeProxy[] = [];
  readonly env: Record<string, string> = {};
  /** What the core finds wrong with any resources. */
  issues: readonly ResourceIssue[] = [];
  isTTY = false;
  out = '';
  err = '';
  readonly #news = new EventEmitter();

  readonly stdout = this.#stream((text) => {
    this.out += text;
  });
  readonly stderr = this.#stream((text) => {
    this.err += text;
  });

  #stream(keep: (text: string) => void): World['stdout'] {
    const isTTY = (): boolean => this.isTTY;
    return {
      write: (text) => {
        keep(text);
        this.#news.emit('news');
      },
      get isTTY() {
        return isTTY();
      },
    };
  }

  serves(): void {}

  loadCore(): Promise<Core> {
    const createProxy: CreateProxy = (config, options) => {
      const proxy = new FakeProxy(config as LoadedConfig, options);
      this.proxies.push(proxy);
      return proxy as unknown as MeshProxy;
    };
    const routeRequest: Core['routeRequest'] = () => ({ outcome: { kind: 'unclear', message: 'no core' } });
    return Promise.resolve({
      createProxy,
      validateResources: () => this.issues,
      checkResources: () => this.issues,
      routeRequest,
    });
  }

  loadControlPlane(): ReturnType<World['loadControlPlane']> {
    return Promise.reject(new StateError('no control plane'));
  }

  /** Resolves once standard output holds a text. */
  async said(text: string): Promise<void> {
    while (!this.out.includes(text) && !this.err.includes(text)) {
      await new Promise((resolve) => {
        this.#news.once('news', resolve);
      });
    }
  }

  async run(...args: string[]): Promise<Ended> {
    const code = await runCommand(args, this);
    return { code, stdout: this.out, stderr: this.err };
  }
}

/** A proxy that serves nothing and remembers what was asked of it. */
export class FakeProxy extends EventEmitter {
  readonly applied: LoadedConfig[] = [];
  readonly calls: string[] = [];
  drained: DrainOptions | undefined;
  refused = 0;
  listening = false;
  /** Thrown by the next `listen` or `apply`. */
  static refusal: Error | undefined;

  constructor(
    readonly config: LoadedConfig,
    readonly options: ProxyOptions | undefined,
  ) {
    super();
  }

  #take(): void {
    const error = FakeProxy.refusal;
    FakeProxy.refusal = undefined;
    if (error) throw error;
  }

  async listen(): Promise<object> {
    this.calls.push('listen');
    this.#take();
    const addresses = this.config.compiled.resources.listeners.map(({ name, address }) => ({
      listener: name,
      address,
    }));
    const { admin } = this.options ?? {};
    this.listening = true;
    return { addresses: admin ? [...addresses, { listener: 'admin', address: admin }] : addresses };
  }

  async apply(config: LoadedConfig): Promise<object> {
    this.calls.push('apply');
    this.#take();
    this.applied.push(checkShape(config.config));
    return { addresses: [] };
  }

  countRefused(): void {
    this.refused += 1;
  }

  reloadFiles(): void {
    this.#running('reloadFiles');
  }

  reopenLogs(): void {
    this.#running('reopenLogs');
  }

  /** As of a real one: it throws when there is nothing that could do it. */
  #running(call: string): void {
    if (!this.listening) throw new StateError('the proxy does not listen');
    this.calls.push(call);
  }

  async drain(options: DrainOptions): Promise<void> {
    this.calls.push('drain');
    this.drained = options;
  }

  async close(): Promise<void> {
    this.calls.push('close');
    this.listening = false;
    this.emit('close');
  }
}

const NO_DURATION: DurationStats = {
  count: 0,
  sumMs: 0,
  p50Ms: null,
  p95Ms: null,
  p99Ms: null,
  buckets: [],
};

const IDLE: RouteStats = {
  listener: 'web',
  route: 'idle',
  cluster: 'api',
  protocol: 'grpc',
  requests: 0,
  active: 0,
  failures: 0,
  successRate: null,
  retries: 0,
  audited: 0,
  bytesReceived: 0,
  bytesSent: 0,
  responses: {},
  reasons: {},
  grpcStatuses: {},
  duration: NO_DURATION,
};

/** Statistics as a proxy gives them. */
export const STATS: ProxyStats = {
  version: '1.2.3',
  routes: [
    {
      ...IDLE,
      route: 'api',
      protocol: 'http1',
      requests: 2000,
      failures: 10,
      successRate: 0.995,
      responses: { '2xx': 1990, '5xx': 10 },
      duration: { ...NO_DURATION, count: 2000, p50Ms: 0.42, p95Ms: 3.5, p99Ms: 120.4 },
    },
    IDLE,
  ],
  listeners: [],
  clusters: [
    {
      name: 'api',
      endpoints: [
        {
          address: '127.0.0.1:3001',
          state: 'available',
          active: 2,
          requests: 2000,
          connectFailures: 0,
          ejections: 0,
          latencyMs: 0.4,
        },
      ],
      connections: 1,
      active: 1,
      idle: 0,
      closed: 0,
      closedBy: {},
      connectFailures: {},
      connectDuration: NO_DURATION,
      poolHits: 1999,
      poolMisses: 1,
      pending: 0,
      limitHits: {},
      identityRejections: {},
    },
  ],
  threads: [
    { number: 0, cpuSeconds: 1, connections: 1 },
    { number: 1, cpuSeconds: 1, connections: 0 },
  ],
  threadImbalance: 1,
  updates: { applied: 1, refused: 0 },
  panics: 0,
  dns: { lookups: {}, names: [] },
  reloads: { done: 0, refused: 0 },
  certificates: [],
  accessLog: { written: 0, dropped: 0, errors: 0 },
  overflows: 0,
  endpointsOmitted: 0,
  process: {
    cpuSeconds: 2.04,
    residentBytes: 9_400_000,
    virtualBytes: null,
    openFds: 10,
    maxFds: 1024,
    startSeconds: null,
  },
};
