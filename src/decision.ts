/**
 * What would the proxy do with a request?
 *
 * The shapes of `crates/model/src/decide` in their JSON form: a request in words, and the way it takes. Nothing is
 * drawn at random and nothing is known of the outside: all clusters are listed with their shares, whether or not
 * their endpoints answer.
 */

import type { ResourceIssue } from './config/resources.js';
import { InputError } from './mesh-error.js';

/** A request in words. Everything is optional; what is absent is the plainest there is. */
export interface DescribedRequest {
  /** The name of the listener it comes to. Default: the one with the URL's port, or the only one. */
  readonly listener?: string;
  /** What is spoken: HTTP of any version, gRPC, or anything else. Default: `http`, unless the URL's scheme is `tcp` or `tls`. */
  readonly protocol?: 'http' | 'grpc' | 'tcp';
  /** The method. Default GET; POST for gRPC. */
  readonly method?: string;
  /**
   * `https://shop.test/api?x=1`, `shop.test/api` or `/api`. Its scheme (http, https, ws, wss, tcp, tls) says whether
   * TLS is spoken; without one, that is what the listener expects.
   */
  readonly url?: string;
  /** The host, where it is another than the URL's. */
  readonly host?: string;
  /** The path with its query, where it is another than the URL's. */
  readonly path?: string;
  /** Headers; names in any case. */
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  /** The server name of the ClientHello; says that TLS is spoken. Default: the host, when TLS is spoken. */
  readonly sni?: string;
}

/** What the proxy would do with a request. */
export interface Decision {
  /** The listener that takes it. */
  readonly listener?: string;
  /** The route that takes it. */
  readonly route?: DecidedRoute;
  /** Routes that are more specific and take its host and path, but not its method, headers or query; at most 20. */
  readonly passedOver?: readonly PassedOver[];
  /** What happens. */
  readonly outcome: Outcome;
}

/** The route of a decision. */
export interface DecidedRoute {
  /** Its name, given or made from its match. */
  readonly name: string;
  /** The name of its route table. */
  readonly table: string;
  /** The hosts that it stands under. */
  readonly hosts: readonly string[];
  /** Its place in the resources: `routeTables[0].virtualHosts[1].routes[2]`. */
  readonly path: string;
}

/** A route that was more specific and did not take the request. */
export interface PassedOver {
  /** Its name, given or made from its match. */
  readonly name: string;
  /** Its place in the resources: `routeTables[0].virtualHosts[1].routes[2]`. */
  readonly path: string;
  /** The first condition that does not hold, in words. */
  readonly why: string;
}

/** What happens to a request. */
export type Outcome =
  | {
      /** It is sent on. */
      readonly kind: 'forward';
      /** Where to. */
      readonly clusters: readonly Share[];
      /** The path that is sent on, with its query. */
      readonly path: string;
      /** The host that is sent on. Absent when it is the server's own name. */
      readonly host?: string;
      /** How long it may take in all: `15s`. Absent: as long as it needs. */
      readonly timeout?: string;
    }
  | {
      /** Its connection's bytes are sent on as they are. */
      readonly kind: 'stream';
      /** Where to. */
      readonly clusters: readonly Share[];
    }
  | {
      /** It is sent elsewhere. */
      readonly kind: 'redirect';
      readonly status: number;
      /** The `location` header. */
      readonly location: string;
    }
  | {
      /** The route answers it. */
      readonly kind: 'respond';
      readonly status: number;
      readonly contentType: string;
      readonly body: string;
    }
  | {
      /** The proxy refuses it. */
      readonly kind: 'refused';
      /** Why: the label that metrics and the access log use, such as `no_route`. */
      readonly reason: string;
      readonly status: number;
      /** The gRPC status, for gRPC calls. */
      readonly grpcStatus?: number;
      /** Why, in words. */
      readonly message: string;
    }
  | {
      /** The description does not say enough, or something that is not there. */
      readonly kind: 'unclear';
      /** What is missing. */
      readonly message: string;
    };

/** A cluster and its part of the traffic. */
export interface Share {
  /** The cluster's name. */
  readonly cluster: string;
  /** Its part, 0 to 100. */
  readonly percent: number;
}

/** What the core is given, as JSON: what is text is that already, and what JSON can't say is nothing. */
export function asJson(value: unknown): string {
  return typeof value === 'string' ? value : ((JSON.stringify(value) as string | undefined) ?? '');
}

/** The decision in an answer of the core. @throws {InputError} when the resources or the request are wrong */
export function readDecision(answer: string): Decision {
  const decision = JSON.parse(answer) as Decision | { issues: ResourceIssue[] };
  if ('issues' in decision) throw new InputError(decision.issues);
  return decision;
}
