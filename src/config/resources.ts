/**
 * What does the core read?
 *
 * The resources of `crates/model`, in their JSON form. The Rust types own this shape: a field that is absent
 * takes the default that stands there. People write the friendlier `Config` instead, see `schema.ts`;
 * `compile.ts` turns one into the other.
 */

export type { ResourceIssue } from '../mesh-error.js';

/** A whole configuration: every resource of every kind. Names are unique within their kind. */
export interface Resources {
  /** Sockets that accept connections. */
  listeners: Listener[];
  /** Which request goes where. */
  routeTables: RouteTable[];
  /** Groups of servers that do the same. */
  clusters: Cluster[];
  /** The servers of clusters that are told theirs, and don't look them up. */
  endpoints: Endpoints[];
  /** Who may do what. Default: none. */
  policies?: AuthorizationPolicy[];
}

/** One socket that accepts connections. */
export interface Listener {
  name: string;
  address: string;
  direction?: 'inbound' | 'outbound' | 'gateway';
  protocol?: 'auto' | 'http1' | 'http2' | 'tcp' | 'tlsPassthrough';
  tls?: ServerTls;
  workload?: WorkloadPorts;
  defaultPolicy?: 'allow' | 'allowAuthenticated' | 'deny';
  routes?: string;
  onDemand?: boolean;
  leadsTo?: string;
  transparent?: boolean;
  opaquePorts?: string[];
  localOnly?: boolean;
  tcp?: WeightedCluster[];
  sni?: SniRoute[];
  limits?: ListenerLimits;
  timeouts?: ListenerTimeouts;
  trustedNetworks?: string[];
  proxyProtocol?: boolean;
  via?: string;
  forwardProxy?: boolean;
  escapedSlashes?: 'reject' | 'keep';
  accessLog?: AccessLog;
}

/** What a workload offers to others: mutual TLS 1.3 for these ports. */
export interface WorkloadPorts {
  ports: WorkloadPort[];
}

/** A port that a workload declares. */
export interface WorkloadPort {
  port: number;
  service?: string;
  routes?: string;
  tcp?: WeightedCluster[];
}

/** TLS terminated by a listener. */
export interface ServerTls {
  certificates: CertificateAndKey[];
  clientCertificates?: ClientCertificates;
  minimumVersion?: '1.2' | '1.3';
  alpn?: string[];
}

/** A certificate chain and its key: the paths of PEM files, or PEM text. */
export interface CertificateAndKey {
  certificate: string;
  key: string;
}

/** Client certificates asked for by a listener. */
export interface ClientCertificates {
  roots: string;
  optional?: boolean;
}

/** Where TLS streams of some server names go, unopened. */
export interface SniRoute {
  hosts: string[];
  to: WeightedCluster[];
}

/** Lines for finished requests and streams. */
export interface AccessLog {
  sample?: number;
  path?: string;
}

/** Bounds of a listener. */
export interface ListenerLimits {
  connections?: number;
  headerBytes?: number;
  headerCount?: number;
  streams?: number;
  requestsPerConnection?: number;
  requestBodyBytes?: number;
  http2StreamWindowBytes?: number;
  proxyHeaderBytes?: number;
}

/** Deadlines towards a listener's clients. */
export interface ListenerTimeouts {
  header?: string;
  handshake?: string;
  request?: string;
  idle?: string;
  streamIdle?: string;
  tcpIdle?: string;
  maxConnectionAge?: string;
  drain?: string;
}

/** A set of routes. */
export interface RouteTable {
  name: string;
  virtualHosts: VirtualHost[];
}

/** Routes for some hosts. */
export interface VirtualHost {
  hosts: string[];
  routes: Route[];
}

/** One route: which requests, what is changed, where they go. */
export interface Route {
  name?: string;
  match?: RouteMatch;
  filters?: Filters;
  action: Action;
  timeouts?: RouteTimeouts;
  hashKey?: HashKey[];
}

/** Which requests a route takes: all conditions must hold. */
export interface RouteMatch {
  path?: PathMatch;
  methods?: string[];
  headers?: ValueMatch[];
  query?: ValueMatch[];
  grpc?: GrpcMatch;
}

/** A condition on the path. */
export interface PathMatch {
  kind: 'exact' | 'prefix' | 'template' | 'regex';
  value: string;
}

/** A condition on a header or a query parameter. */
export interface ValueMatch {
  name: string;
  value?: ValueCondition;
  invert?: boolean;
}

/** What a value must be. */
export type ValueCondition =
  | { kind: 'present' }
  | { kind: 'exact' | 'prefix' | 'suffix' | 'regex'; value: string };

/** Which gRPC calls. */
export interface GrpcMatch {
  service: string;
  method?: string;
}

/** What is changed on the way. */
export interface Filters {
  requestHeaders?: HeaderEdits;
  responseHeaders?: HeaderEdits;
  rewritePath?: PathRewrite;
  host?: HostRewrite;
}

/** Changes to headers, in this order: remove, set, add. */
export interface HeaderEdits {
  remove?: string[];
  set?: HeaderValue[];
  add?: HeaderValue[];
}

/** A header. */
export interface HeaderValue {
  name: string;
  value: string;
}

/** Which path is sent on. */
export interface PathRewrite {
  kind: 'full' | 'prefix';
  value: string;
}

/** Which host is sent on. */
export type HostRewrite = { kind: 'keep' } | { kind: 'upstream' } | { kind: 'set'; value: string };

/** Where requests go. */
export type Action =
  | { kind: 'forward'; to: WeightedCluster[] }
  | ({ kind: 'redirect' } & Redirect)
  | ({ kind: 'respond' } & Respond);

/** A cluster and its share. */
export interface WeightedCluster {
  cluster: string;
  weight?: number;
}

/** A redirect made by the proxy. */
export interface Redirect {
  status?: number;
  scheme?: string;
  host?: string;
  path?: PathRewrite;
}

/** A response made by the proxy. */
export interface Respond {
  status: number;
  body?: string;
  contentType?: string;
}

/** Deadlines of a route. */
export interface RouteTimeouts {
  request?: string;
  streamIdle?: string;
}

/** What consistent hashing hashes. */
export type HashKey = { kind: 'header' | 'cookie' | 'query'; value: string } | { kind: 'sourceAddress' };

/** A group of servers that answer alike. */
export interface Cluster {
  name: string;
  discovery?: Discovery;
  protocol?: 'auto' | 'http1' | 'http2' | 'tcp';
  tls?: ClientTls;
  workload?: WorkloadTls;
  balancer?: Balancer;
  slowStart?: string;
  limits?: ClusterLimits;
  timeouts?: ClusterTimeouts;
}

/** Mutual TLS between workloads. */
export interface WorkloadTls {
  serverName: string;
}

/** Where a cluster's endpoints come from. */
export type Discovery =
  | { kind: 'endpoints' }
  | { kind: 'dns'; host: string; port: number }
  | { kind: 'dnsSrv'; name: string };

/** TLS towards a cluster's servers. */
export interface ClientTls {
  serverName?: string;
  roots?: string;
  certificate?: string;
  key?: string;
}

/** How an endpoint is chosen. */
export type Balancer =
  | { kind: 'ewma' | 'leastRequest' | 'roundRobin' | 'random' }
  | { kind: 'ringHash'; ringSize?: number }
  | { kind: 'maglev'; tableSize?: number };

/** Bounds of a cluster. */
export interface ClusterLimits {
  connections?: number;
  pendingRequests?: number;
  requests?: number;
  idleConnections?: number;
  streamsPerConnection?: number;
}

/** Deadlines towards a cluster's servers. */
export interface ClusterTimeouts {
  connect?: string;
  idle?: string;
  maxConnectionAge?: string;
}

/** The endpoints of one cluster, grouped by locality. */
export interface Endpoints {
  cluster: string;
  localities: Locality[];
}

/** Endpoints in one place, preferred or spared together. */
export interface Locality {
  zone?: string;
  priority?: number;
  weight?: number;
  endpoints: Endpoint[];
}

/** One server. */
export interface Endpoint {
  address: string;
  weight?: number;
  health?: 'healthy' | 'draining' | 'unhealthy';
  identity?: string;
  metadata?: Record<string, string>;
}

/** Who may, or may not, do what to whom. */
export interface AuthorizationPolicy {
  name: string;
  targets: { kind: 'listener'; value: string }[];
  action: 'allow' | 'deny';
  mode?: 'enforce' | 'audit';
  rules?: PolicyRule[];
}

/** All conditions that are given must hold. */
export interface PolicyRule {
  from?: Peer[];
  networks?: string[];
  ports?: number[];
  methods?: string[];
  paths?: PathMatch[];
  grpc?: GrpcMatch[];
  headers?: ValueMatch[];
}

/** Who a connection's peer is, by its certificate. */
export type Peer =
  | { kind: 'authenticated' }
  | { kind: 'identity' | 'identityPrefix'; value: string }
  | { kind: 'namespace'; value: { trustDomain: string; name: string } };
