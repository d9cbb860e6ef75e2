// A world for commands: no process, no core, everything they say kept.

import { EventEmitter } from 'node:events';
import type { Core, World } from '../../src/cli/io.js';
import { runCommand } from '../../src/cli/program.js';
import type { LoadedConfig } from '../../src/config/index.js';
import { checkConfig } from '../../src/config/index.js';
import type { ResourceIssue } from '../../src/config/resources.js';
import type {
  CreateProxy,
  DrainOptions,
  MeshProxy,
  ProxyOptions,
  ProxyStats,
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

  loadCore(): Promise<Core> {
    const createProxy: CreateProxy = (config, options) => {
      const proxy = new FakeProxy(config as LoadedConfig, options);
      this.proxies.push(proxy);
      return proxy as unknown as MeshProxy;
    };
    return Promise.resolve({ createProxy, validateResources: () => this.issues });
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
    return { addresses: admin ? [...addresses, { listener: 'admin', address: admin }] : addresses };
  }

  async apply(config: LoadedConfig): Promise<object> {
    this.calls.push('apply');
    this.#take();
    this.applied.push(checkConfig(config.config));
    return { addresses: [] };
  }

  async drain(options: DrainOptions): Promise<void> {
    this.calls.push('drain');
    this.drained = options;
  }

  async close(): Promise<void> {
    this.calls.push('close');
    this.emit('close');
  }
}

/** Statistics as a proxy gives them. */
export const STATS: ProxyStats = {
  version: '1.2.3',
  uptimeSeconds: 61.4,
  state: 'serving',
  listeners: [],
  routes: [
    {
      listener: 'web',
      route: 'api',
      cluster: 'api',
      protocol: 'http1',
      requestsTotal: 2000,
      responses: { '2xx': 1990, '5xx': 10 },
      reasons: {},
      receivedBytes: 1,
      sentBytes: 2,
      latencyMs: { p50: 0.42, p95: 3.5, p99: 120.4 },
    },
    {
      listener: 'web',
      route: 'idle',
      cluster: 'api',
      protocol: 'grpc',
      requestsTotal: 0,
      responses: {},
      reasons: {},
      receivedBytes: 0,
      sentBytes: 0,
      latencyMs: null,
    },
  ],
  clusters: [
    {
      name: 'api',
      connections: 1,
      poolHitsTotal: 1,
      poolMissesTotal: 1,
      endpoints: [{ address: '127.0.0.1:3001', state: 'available', requestsInFlight: 2 }],
    },
  ],
  process: { cpuSeconds: 1, residentBytes: 9_400_000, openFiles: 10, threads: 4 },
};
