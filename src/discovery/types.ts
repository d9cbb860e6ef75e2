/**
 * What does a source of endpoints say?
 *
 *     const basket: Source = async function* (signal) {
 *       for await (const addresses of mine.watch({ signal })) yield { set: addresses };
 *     };
 *
 * A source is called each time it is begun: at the start, and after it threw or returned. Its signal aborts when nobody
 * listens any more.
 */

/** A place where a service answers. */
export interface DiscoveredEndpoint {
  /** `10.0.0.7:8443`, `[::1]:8443` or `unix:/run/app.sock`; inside the mesh, where its sidecar answers others. */
  readonly address: string;
  /** Its share of the requests, 1 to 1,000. Default: 1, an equal one. */
  readonly weight?: number;
  /** Whether it ends what it has and gets nothing new. Default: false. */
  readonly draining?: boolean;
  /** The ports of its service that it answers for. Default: all. */
  readonly ports?: readonly number[];
  /** The SPIFFE id that it must prove. Default: inside the mesh that of its service, outside none. */
  readonly identity?: string;
}

/** An endpoint, or its address where there is nothing else to say. */
export type EndpointLike = string | DiscoveredEndpoint;

/**
 * Something that a source says. What is none of these, or names what can't be an endpoint or says of one what nobody knows,
 * is refused whole.
 */
export type EndpointChange =
  /** This is all there is; `problem` is what of it could not be understood. */
  | { readonly set: readonly EndpointLike[]; readonly problem?: unknown }
  /** One more, or one that is another now. */
  | { readonly add: EndpointLike }
  /** The one at this address is gone. */
  | { readonly remove: string }
  /** What was added since the source was begun is all there is. What it had before, and did not add again, goes now. */
  | { readonly complete: true }
  /** Something is wrong, and it is no reason to begin anew: what is known stays. */
  | { readonly problem: unknown };

/** Where endpoints of one service come from. */
export type Source = (signal: AbortSignal) => AsyncIterable<EndpointChange>;

/** A source with what it is known by. */
export interface NamedSource {
  /** For people: `file endpoints.yaml`. */
  readonly name: string;
  /** Two sources with the same key are the same one, which is not begun anew. */
  readonly key: unknown;
  /** Where the endpoints come from. */
  readonly source: Source;
}

/** How a source is. */
export interface SourceStatus {
  /** The service whose endpoints it tells. */
  readonly service: string;
  /** For people: `file endpoints.yaml`. */
  readonly name: string;
  /** `waiting`: it has not yet said all there is. `failing`: what it said before serves on. */
  readonly state: 'waiting' | 'live' | 'failing';
  /** How many it has. */
  readonly endpoints: number;
  /** When it said last what there is, in milliseconds since 1970; null before. */
  readonly saidAtMs: number | null;
  /** Since when it fails, in milliseconds since 1970; null when it does not. */
  readonly failingSinceMs: number | null;
  /** How often it was begun anew. */
  readonly restarts: number;
  /** What is wrong; null when nothing is. */
  readonly problem: string | null;
}

/** Something happened to a source. */
export interface SourceEvent {
  /** `sourceFailed`: it is begun anew after a while. `sourceProblem`: it goes on. `sourceLive`: all is well again. */
  readonly kind: 'sourceFailed' | 'sourceProblem' | 'sourceLive';
  /** The service whose endpoints it tells. */
  readonly service: string;
  /** The source's name. */
  readonly source: string;
  /** How many it has. */
  readonly endpoints: number;
  /** What is wrong. */
  readonly reason?: string;
  /** When it is begun again, in milliseconds from now. */
  readonly retryMs?: number;
}
