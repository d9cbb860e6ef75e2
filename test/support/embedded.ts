// How does a test see a proxy's numbers? It runs the core in its own process and asks.

import type { ExecutionContext } from 'ava';
import { type Config, createProxy } from '../../src/index.js';
import type {
  ClusterStats,
  ListenerStats,
  MeshProxy,
  ProxyStats,
  RouteStats,
} from '../../src/proxy/types.js';
import { until } from './wait.js';

/** A proxy in this process. */
export class Embedded {
  constructor(
    readonly proxy: MeshProxy,
    readonly ports: Map<string, number>,
  ) {}

  /** A listener's port. Without a name: of the only one. */
  port(name?: string): number {
    const port = name === undefined ? [...this.ports.values()][0] : this.ports.get(name);
    if (port === undefined) throw new Error(`no listener is called ${name ?? 'anything'}`);
    return port;
  }

  stats(): Promise<ProxyStats> {
    return this.proxy.stats();
  }

  async listener(name = 'web'): Promise<ListenerStats> {
    const found = (await this.stats()).listeners.find((listener) => listener.name === name);
    if (!found) throw new Error(`no numbers of the listener ${name}`);
    return found;
  }

  async cluster(name: string): Promise<ClusterStats> {
    const found = (await this.stats()).clusters.find((cluster) => cluster.name === name);
    if (!found) throw new Error(`no numbers of the cluster ${name}`);
    return found;
  }

  /** All routes' numbers. */
  async routes(): Promise<readonly RouteStats[]> {
    return (await this.stats()).routes;
  }

  /** Waits until a connection of the listener was closed for this reason. */
  closedBy(reason: string, listener?: string, patienceMs?: number): Promise<number | undefined> {
    const look = async (): Promise<number | undefined> => (await this.listener(listener)).closedBy[reason];
    return until(`a connection closed by ${reason}`, look, patienceMs);
  }

  /** Waits until a request or stream ended for this reason. */
  endedBy(reason: string): Promise<number | undefined> {
    const look = async (): Promise<number | undefined> =>
      (await this.routes()).map(({ reasons }) => reasons[reason] ?? 0).reduce((a, b) => a + b, 0) ||
      undefined;
    return until(`something ended by ${reason}`, look);
  }
}

/** Starts a proxy in this process; it is closed with the test and must not have panicked by then. */
export async function startEmbedded(
  t: Pick<ExecutionContext, 'teardown'>,
  config: Config,
  { threads = 1 }: { threads?: number } = {},
): Promise<Embedded> {
  const proxy = createProxy(config, { threads });
  t.teardown(async () => {
    const { panics } = await proxy.stats();
    await proxy.close();
    if (panics > 0) throw new Error(`${panics} panics`);
  });
  const { addresses } = await proxy.listen();
  return new Embedded(proxy, new Map(addresses.map(({ listener, port = 0 }) => [listener, port])));
}
