// Made from schema.ts by generate.ts: change the schema, then run `node dist/generate.js --sources`.

/** A configuration of the proxy. */
export interface Config {
  /** The JSON Schema, for editors. */
  $schema?: string;
  /** Where connections are accepted. Default: []. */
  listeners?: ListenerConfig[];
  /** Routes that several listeners share, by name. Default: {}. */
  routeTables?: Record<string, RouteConfig[]>;
  /** Where requests may go, by name. Default: {}. */
  clusters?: Record<string, ClusterConfig>;
  /** Where health, metrics and statistics are served, or `off`; fixed at start. Default: 127.0.0.1:4191; off when embedded. */
  admin?: false | string;
  /** Data threads; fixed at start. Default: CPU quota, at most 4. */
  threads?: number;
  /** How long new connections are still served once a drain begins. Default: 3s; 0s when embedded. */
  lameDuck?: string;
}

/** One socket that accepts connections. It needs `to`, or any of `routes`, `tcp` and `sni`. */
export interface ListenerConfig {
  /** Unique name, a metric label. Default: the address. */
  name?: string;
  /** Where to listen: `IP:PORT`, `:PORT` (all addresses), `unix:PATH`. Port 0 takes a free one. */
  address: string;
  /** Which way traffic flows through it. Default: gateway. */
  direction?: 'inbound' | 'outbound' | 'gateway';
  /** What may be spoken, after TLS where it is terminated; `auto` detects it from the first bytes. Default: auto. */
  protocol?: 'auto' | 'http1' | 'http2' | 'tcp' | 'tlsPassthrough';
  /** TLS to terminate. */
  tls?: ServerTlsConfig;
  /** Everything goes there: HTTP, other streams, and TLS unopened unless `tls` is given. */
  to?: TargetsConfig;
  /** Routes for HTTP requests, or the name of one of `routeTables`. */
  routes?: string | RouteConfig[];
  /** Where streams go that are not HTTP. Absent: they are refused. */
  tcp?: TargetsConfig;
  /** TLS streams passed through unopened, chosen by server name. */
  sni?: SniRouteConfig[];
  /** Bounds of what it may hold. */
  limits?: ListenerLimitsConfig;
  /** Deadlines towards its clients. */
  timeouts?: ListenerTimeoutsConfig;
  /** Networks whose `forwarded`, `x-forwarded-*` and `x-request-id` headers are believed; `unix`: those of whoever comes by a Unix socket. Default: []. */
  trustedNetworks?: string[];
  /** Whether connections from `trustedNetworks` begin with a header of the PROXY protocol (version 1 or 2), and are those of the client that it names. Others are taken as they are. Default: false. */
  proxyProtocol?: boolean;
  /** The pseudonym sent in `via`. Absent: no `via` is added. */
  via?: string;
  /** Whether absolute-form requests and CONNECT are served, for hosts the routes know. Absolute-form requests for `https` are passed on to clusters with `tls` alone. Default: false. */
  forwardProxy?: boolean;
  /** What to do with `%2f` and `%5c` in a path: answer 400, or forward them as they are. Default: reject. */
  escapedSlashes?: 'reject' | 'keep';
  /** Whether finished requests are written down: `true`, or `{ sample: 0.1 }`. Default: false. */
  accessLog?: boolean | AccessLogConfig;
}

/** TLS terminated by a listener. */
export interface ServerTlsConfig {
  /** The chain, leaf first: a PEM file or PEM text. */
  certificate?: string;
  /** The key of `certificate`. */
  key?: string;
  /** Or several, chosen by the names in them; the first serves clients that name none of them. */
  certificates?: CertificateConfig[];
  /** Client certificates asked for. Absent: none. */
  clientCertificates?: ClientCertificatesConfig;
  /** The oldest version spoken, in quotes. Default: 1.2. */
  minimumVersion?: '1.2' | '1.3';
  /** Protocols offered by ALPN, in order: those that `protocol` speaks. None by default where no requests are read. Default: ["h2","http/1.1"]. */
  alpn?: string[];
}

/** A certificate chain and its key. Files are read again when they change. */
export interface CertificateConfig {
  /** The chain, leaf first: a PEM file or PEM text. */
  certificate: string;
  /** Its private key: PKCS#8, SEC1 or PKCS#1. */
  key: string;
}

/** Client certificates asked for. */
export interface ClientCertificatesConfig {
  /** The roots that sign the clients. */
  roots: string;
  /** Whether a client without a certificate is let in. Default: false. */
  optional?: boolean;
}

/** Where to: the name of a cluster, an address (`127.0.0.1:3000`, `site.internal:80`, `unix:/run/app.sock`) that stands for a cluster by itself, or a list of these from which one is drawn by weight. */
export type TargetsConfig = string | WeightedTargetConfig | (string | WeightedTargetConfig)[];

/** A cluster or address and its share of the requests. */
export interface WeightedTargetConfig {
  /** The cluster, by name, or an address that stands for a cluster by itself. */
  cluster: string;
  /** Share relative to the others. Default: 1. */
  weight?: number;
}

/** One route: which requests, what is changed, where they go. The most specific route wins, wherever it stands. */
export interface RouteConfig {
  /** A metric label, unique within its table. Default: made from the match. */
  name?: string;
  /** Which requests it takes. Absent: all. */
  match?: MatchConfig;
  /** The cluster, address or weighted clusters that get the requests. */
  to?: TargetsConfig;
  /** Or: a redirect. */
  redirect?: RedirectConfig;
  /** Or: a response made here, `204` or `{ status: 200, body: hello }`. */
  respond?: number | RespondConfig;
  /** Headers set, replacing earlier values. */
  setHeaders?: Record<string, string>;
  /** Headers added beside earlier values. */
  addHeaders?: Record<string, string | string[]>;
  /** Headers removed; before any is set or added. */
  removeHeaders?: string[];
  /** The same changes for the response. */
  response?: ResponseEditsConfig;
  /** The path that is sent on: `/this` whatever came, `/this/*` in place of the matched prefix. */
  rewritePath?: string | PathRewriteConfig;
  /** The host that is sent on: `keep` as it came, `upstream` for the cluster's own name, or a host. Default: keep. */
  host?: string | HostNameConfig;
  /** The deadline for the response's end: `2s`, or `{ request, streamIdle }`. Default: the listener's. */
  timeout?: string | RouteTimeoutsConfig;
  /** What consistent hashing hashes, the first that is present: `{ header: x-user }`, `{ cookie: id }`, `{ query: id }`, `sourceAddress`. Clusters of other balancers do without. */
  hashKey?: 'sourceAddress' | HashKeyConfig | ('sourceAddress' | HashKeyConfig)[];
}

/** Which requests a route takes: all conditions must hold. */
export interface MatchConfig {
  /** The host, without case and port: `shop.test`, `*.shop.test` (one label or more in front), `*`; or a list. Default: *. */
  host?: string | string[];
  /** `/exact`, `/prefix/*`, `/users/{id}` or `~regex`; without query, in normal form. Not together with `grpc`. */
  path?: PathConfig;
  /** The method, or a list of methods. */
  method?: string | string[];
  /** Header conditions: a text, `true` (present), `false` (absent), `{ prefix: v1 }`, or a list of conditions. Of a header that comes several times every value must match. */
  headers?: Record<string, string | boolean | ValueConditionConfig | ValueConditionConfig[]>;
  /** Query parameter conditions, on the decoded value, written like `headers`. Of one that comes several times every value must match. */
  query?: Record<string, string | boolean | ValueConditionConfig | ValueConditionConfig[]>;
  /** gRPC calls only: a full service name, or `service/Method`. Not together with `path`. */
  grpc?: string;
}

/** `/this` exactly, `/this/*` for it and everything below, `/users/{id}` (`{id}` takes one segment, `{rest*}` at the end takes all), `~regex` over the whole path. */
export type PathConfig = string | PathConditionConfig;

/** A path condition with its kind spelled out, for paths that hold `*`, `{` or `~` themselves. */
export interface PathConditionConfig {
  /** This very path. */
  exact?: string;
  /** This path and everything below it, on segment borders. */
  prefix?: string;
  /** `{name}` takes one segment, `{name*}` at the end takes the rest. */
  template?: string;
  /** A regular expression over the whole path, matched in linear time. */
  regex?: string;
}

/** What a value must be. */
export interface ValueConditionConfig {
  /** This very text. */
  exact?: string;
  /** It starts with this. */
  prefix?: string;
  /** It ends with this. */
  suffix?: string;
  /** The whole value matches this regular expression. */
  regex?: string;
  /** It is there, whatever it is. */
  present?: true;
  /** Turns the condition round. Default: false. */
  not?: boolean;
}

/** A redirect made by the proxy. What is absent stays as it came. */
export interface RedirectConfig {
  /** The status. Default: 302. */
  status?: 301 | 302 | 303 | 307 | 308;
  /** The scheme. */
  scheme?: 'http' | 'https';
  /** The host, with a port where wanted. */
  host?: string;
  /** The path: `/this`, or `/this/*` in place of the matched prefix. */
  path?: string | PathRewriteConfig;
}

/** A path with its kind spelled out. */
export interface PathRewriteConfig {
  /** This path, whatever came. */
  full?: string;
  /** This in place of the prefix that the route matched. */
  prefix?: string;
}

/** A response made by the proxy. */
export interface RespondConfig {
  /** The status. */
  status: number;
  /** The body, at most 64 KiB. Default: ''. */
  body?: string;
  /** The body's `content-type`. Default: text/plain; charset=utf-8. */
  contentType?: string;
}

/** Changes to the response, be it of a server or `redirect` or `respond`; not to errors of the proxy. */
export interface ResponseEditsConfig {
  /** Headers set, replacing earlier values. */
  setHeaders?: Record<string, string>;
  /** Headers added beside earlier values. */
  addHeaders?: Record<string, string | string[]>;
  /** Headers removed; before any is set or added. */
  removeHeaders?: string[];
}

/** A host that is called `keep` or `upstream`. */
export interface HostNameConfig {
  /** The host. */
  set: string;
}

/** Deadlines of a route. `0s` switches one off. */
export interface RouteTimeoutsConfig {
  /** From the request's head to the response's end. 504 after, or `grpc-status: 4`. */
  request?: string;
  /** A body on which nothing moves. */
  streamIdle?: string;
}

/** What is hashed. */
export interface HashKeyConfig {
  /** A request header's value. */
  header?: string;
  /** A cookie's value. */
  cookie?: string;
  /** A query parameter's value. */
  query?: string;
}

/** Where TLS streams of some server names go, unopened. */
export interface SniRouteConfig {
  /** Server names; the most specific wins. `*` takes every name, and clients that send none; what is no name in DNS only where it stands alone. */
  hosts: string | string[];
  /** The clusters or addresses that get the streams. */
  to: TargetsConfig;
}

/** Bounds of a listener. Reaching one is counted and answered, and never grows memory. */
export interface ListenerLimitsConfig {
  /** Open connections, over all threads. Above it the accept queue waits. Default: 65,536. */
  connections?: number;
  /** Bytes of a request head: 431 above; of an HTTP/1 server's response head: 502 above. Default: 65,536. */
  headerBytes?: number | string;
  /** Header fields of a request: 431 above; of a response: 502 above. Default: 128. */
  headerCount?: number;
  /** HTTP/2 streams open at once on a connection. Default: 100. */
  streams?: number;
  /** Requests on a connection before it is closed; 0: no bound. Default: 0. */
  requestsPerConnection?: number;
  /** Bytes of a request body; 0: no bound, bodies are streamed. 413 above. Default: 0. */
  requestBodyBytes?: number | string;
  /** Bytes of a request that an HTTP/2 client may send ahead of the server behind, on each stream. Default: 262,144. */
  http2StreamWindowBytes?: number | string;
  /** Bytes of a header of the PROXY protocol (see `proxyProtocol`). The connection closes above. Default: 4,096. */
  proxyHeaderBytes?: number | string;
}

/** Deadlines towards a listener's clients. `0s` switches one off. */
export interface ListenerTimeoutsConfig {
  /** To the end of the request head, from its first byte; also the wait for a first byte, and for a PROXY header. 408 after. Default: 10s. */
  header?: string;
  /** For a TLS handshake. Default: 10s. */
  handshake?: string;
  /** From the request's head to the response's end; a route's `timeout` says otherwise. Default: 0s. */
  request?: string;
  /** A kept-alive connection without a request. Default: 1m. */
  idle?: string;
  /** A body or an HTTP/2 stream on which nothing moves. Default: 1m. */
  streamIdle?: string;
  /** A TCP stream or upgraded connection on which nothing moves. Default: 1h. */
  tcpIdle?: string;
  /** An HTTP connection takes no new request after this age; what goes on after `drain` more is cut, WebSockets and CONNECT too. TCP and passthrough stay. Default: 0s. */
  maxConnectionAge?: string;
  /** How long streams may go on when a listener or the proxy is drained, or their connection is too old. Default: 30s. */
  drain?: string;
}

/** Lines for finished requests and streams, JSON, one a line. */
export interface AccessLogConfig {
  /** The share that is written. Errors that the proxy answers are always written. Default: 1. */
  sample?: number;
  /** The file to append to. Default: standard output. */
  path?: string;
}

/** A group of servers that answer alike: a list, or a name to look up. */
export interface ClusterConfig {
  /** The servers: addresses, or `{ address, weight, zone, priority }`. */
  endpoints?: (string | EndpointConfig)[];
  /** Or: the servers grouped by place, with a share for each place. */
  localities?: LocalityConfig[];
  /** Or: A and AAAA records, looked up again when their TTL ends. */
  dns?: string;
  /** Or: SRV records, with their targets, ports, priorities and weights. */
  srv?: string;
  /** What is spoken to them. `auto`: over TLS what the server chooses by ALPN, else HTTP/1.1, and HTTP/2 for gRPC. A server of HTTP/2 alone without TLS needs `http2`. Default: auto. */
  protocol?: 'auto' | 'http1' | 'http2';
  /** TLS to originate: `true`, or `{ serverName, roots }`. Default: false. */
  tls?: boolean | ClientTlsConfig;
  /** How one is chosen; `ringHash` and `maglev` need a `hashKey` in each route that leads here, and draw at random for one without. Default: ewma. */
  balance?:
    | 'ewma'
    | 'leastRequest'
    | 'roundRobin'
    | 'random'
    | 'ringHash'
    | 'maglev'
    | PlainBalancerConfig
    | RingHashConfig
    | MaglevConfig;
  /** Over how long a new endpoint's share grows to full. Default: 0s. */
  slowStart?: string;
  /** Bounds of what it may hold. */
  limits?: ClusterLimitsConfig;
  /** Deadlines towards its servers. */
  timeouts?: ClusterTimeoutsConfig;
}

/** One server. */
export interface EndpointConfig {
  /** Where it answers: `IP:PORT` or `unix:PATH`. */
  address: string;
  /** Share of traffic relative to its neighbours. Default: 1. */
  weight?: number;
  /** `draining` finishes what it has, `unhealthy` takes nothing. Default: healthy. */
  health?: 'healthy' | 'draining' | 'unhealthy';
  /** Free labels, shown by tools. */
  metadata?: Record<string, string>;
  /** Where it stands, e.g. `eu-1/a`. Shown, not interpreted. */
  zone?: string;
  /** Lower is preferred; higher ones get what lower ones cannot carry. Default: 0. */
  priority?: number;
}

/** Servers in one place, preferred or spared together. */
export interface LocalityConfig {
  /** Where it stands, e.g. `eu-1/a`. Shown, not interpreted. */
  zone?: string;
  /** Lower is preferred; higher ones get what lower ones cannot carry. Default: 0. */
  priority?: number;
  /** Share among localities of the same priority. Default: 1. */
  weight?: number;
  /** The servers. */
  endpoints: (string | LocalEndpointConfig)[];
}

/** One server of a locality. */
export interface LocalEndpointConfig {
  /** Where it answers: `IP:PORT` or `unix:PATH`. */
  address: string;
  /** Share of traffic relative to its neighbours. Default: 1. */
  weight?: number;
  /** `draining` finishes what it has, `unhealthy` takes nothing. Default: healthy. */
  health?: 'healthy' | 'draining' | 'unhealthy';
  /** Free labels, shown by tools. */
  metadata?: Record<string, string>;
}

/** TLS towards a cluster's servers. */
export interface ClientTlsConfig {
  /** The name sent as SNI and verified in the certificate. Default: the cluster's DNS name. */
  serverName?: string;
  /** Roots to trust: a PEM file or PEM text. Default: the system's. */
  roots?: string;
  /** The certificate chain to show when the server asks. */
  certificate?: string;
  /** The key of `certificate`. */
  key?: string;
}

/** A balancer without settings. */
export interface PlainBalancerConfig {
  /** The balancer. */
  kind: 'ewma' | 'leastRequest' | 'roundRobin' | 'random';
}

/** Consistent hashing on a ring; needs a `hashKey` in the route, and draws at random without one. */
export interface RingHashConfig {
  /** The balancer. */
  kind: 'ringHash';
  /** Points on the ring. Default: 1,024 times the endpoints. */
  ringSize?: number;
}

/** Consistent hashing by Maglev's table; needs a `hashKey` in the route, and draws at random without one. */
export interface MaglevConfig {
  /** The balancer. */
  kind: 'maglev';
  /** Slots of the table, a prime. Default: 65,537. */
  tableSize?: number;
}

/** Bounds of a cluster, over all threads. */
export interface ClusterLimitsConfig {
  /** Open connections. Default: 1,024. */
  connections?: number;
  /** Requests waiting for a connection. More get 503. Default: 1,024. */
  pendingRequests?: number;
  /** Requests in flight. Default: 16,384. */
  requests?: number;
  /** Idle connections kept for each endpoint and thread. Default: 100. */
  idleConnections?: number;
  /** HTTP/2 streams on one connection before another is opened. Default: 100. */
  streamsPerConnection?: number;
}

/** Deadlines towards a cluster's servers. `0s` switches one off. */
export interface ClusterTimeoutsConfig {
  /** To connect, TLS included, for one try. Default: 2s. */
  connect?: string;
  /** An unused pooled connection is closed after this. Default: 30s. */
  idle?: string;
  /** A pooled connection takes no new request after this age. Default: 0s. */
  maxConnectionAge?: string;
}
