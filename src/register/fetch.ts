/**
 * How does the global `fetch` reach the mesh's names? By a dispatcher of ours, given with each request to them.
 *
 * Other requests, and those that bring a dispatcher along, never see it. Node's own copy of undici is loaded by the
 * first `fetch`, as always.
 */

import tls from 'node:tls';
import { type Mesh, isOfMesh } from './names.js';
import { tunnel } from './tunnel.js';

/** What undici's dispatchers take, as far as it is touched here. */
interface Dispatch {
  origin?: string | URL;
  path: string;
  headers?: unknown;
}

interface Dispatcher {
  dispatch(options: Dispatch, handler: unknown): boolean;
}

type Connector = (
  options: { hostname: string; port?: string; servername?: string },
  done: (error: Error | null, socket: tls.TLSSocket | null) => void,
) => void;

type DispatcherClass = new (options: object) => Dispatcher;

/** Where all copies of undici in a process keep what they use by default. */
const GLOBAL = Symbol.for('undici.globalDispatcher.1');

/** Makes `fetch` know the mesh. */
export function patchFetch(mesh: Mesh): void {
  const original = globalThis.fetch;
  const dispatcher = new MeshDispatcher(mesh);
  globalThis.fetch = function fetch(input, init) {
    const own = (init as { dispatcher?: unknown } | undefined)?.dispatcher !== undefined;
    if (own || !isOfMesh(mesh, hostOf(input))) return original(input, init);
    return original(input, { ...init, dispatcher } as unknown as RequestInit);
  };
}

function hostOf(input: string | URL | Request): string | undefined {
  const url = typeof input === 'object' && 'url' in input ? input.url : String(input);
  return URL.canParse(url) ? new URL(url).hostname : undefined;
}

class MeshDispatcher implements Dispatcher {
  readonly #mesh: Mesh;
  #secure: Dispatcher | undefined;

  constructor(mesh: Mesh) {
    this.#mesh = mesh;
  }

  dispatch(options: Dispatch, handler: unknown): boolean {
    const usual = (globalThis as unknown as Record<symbol, Dispatcher>)[GLOBAL];
    if (!usual) throw new Error('fetch has no dispatcher');
    const { protocol, hostname, host } = new URL(String(options.origin));
    // A redirect may lead out of the mesh.
    if (!isOfMesh(this.#mesh, hostname)) return usual.dispatch(options, handler);
    if (protocol === 'https:') {
      this.#secure ??= this.#throughTunnels(usual);
      return this.#secure.dispatch(options, handler);
    }
    const { host: proxy, port } = this.#mesh;
    const changed = {
      ...options,
      origin: `http://${proxy.includes(':') ? `[${proxy}]` : proxy}:${port}`,
      path: `http://${host}${options.path}`,
      headers: withHost(options.headers, host),
    };
    return usual.dispatch(changed, handler);
  }

  /** A dispatcher like the usual one, whose connections are tunnels. */
  #throughTunnels(usual: Dispatcher): Dispatcher {
    const connect: Connector = ({ hostname, port, servername }, done) => {
      tunnel(this.#mesh, hostname, Number(port || 443), (error, socket) => {
        if (error || !socket) {
          done(error ?? new Error('no connection'), null);
          return;
        }
        const secure = tls.connect({
          socket,
          servername: servername ?? hostname,
          ALPNProtocols: ['http/1.1'],
        });
        const failed = (cause: Error): void => done(cause, null);
        secure.once('error', failed);
        secure.once('secureConnect', () => {
          secure.off('error', failed);
          done(null, secure);
        });
      });
    };
    // Where Node was told to follow HTTP_PROXY, the usual one would send tunnels through tunnels.
    const options = { connect, httpProxy: '', httpsProxy: '' };
    return new (usual.constructor as DispatcherClass)(options);
  }
}

/** The headers, of whatever form, with the host that is meant instead of the proxy's. */
function withHost(headers: unknown, host: string): unknown {
  if (Array.isArray(headers)) {
    const named = headers.some((name, index) => index % 2 === 0 && String(name).toLowerCase() === 'host');
    return named ? headers : [...(headers as unknown[]), 'host', host];
  }
  const entries =
    headers && typeof headers === 'object' && Symbol.iterator in headers
      ? Object.fromEntries(headers as Iterable<[string, unknown]>)
      : { ...(headers as Record<string, unknown> | undefined) };
  const named = Object.keys(entries).some((name) => name.toLowerCase() === 'host');
  return named ? entries : { ...entries, host };
}
