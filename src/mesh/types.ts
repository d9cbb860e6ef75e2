// Made from schema.ts by generate.ts: change the schema, then run `node dist/generate.js --sources`.

import type { RouteConfig, ValueConditionConfig } from '../config/types.js';

/** A mesh: its services, who may call whom, and which way. */
export interface MeshConfig {
  /** The JSON Schema, for editors. */
  $schema?: string;
  /** Trust domain, namespace, defaults. */
  mesh?: MeshSettingsConfig;
  /** The services, by name. */
  services: Record<string, ServiceConfig>;
  /** Which way requests to a service take, by its name or `NAME:PORT`; `to` names services. What no route takes goes to the service itself. */
  routes?: Record<string, RouteConfig[]>;
  /** Who may do what to whom. Default: []. */
  policies?: PolicyConfig[];
}

/** What holds for all services. */
export interface MeshSettingsConfig {
  /** Who vouches for identities. Default: mesh.local. */
  trustDomain?: string;
  /** The namespace of the services. Default: default. */
  namespace?: string;
  /** What may be done to a service that no `allow` names. Default: allowAuthenticated. */
  defaultPolicy?: 'allow' | 'allowAuthenticated' | 'deny';
  /** How they are signed. */
  certificates?: CertificatesConfig;
  /** For `mesh control`, several times over one etcd. */
  shared?: SharedConfig;
  /** Ports outside of the mesh to which copies call without anybody looking at the bytes, as where the server speaks first. Default: the sidecar's own list: mail, databases, caches. */
  opaquePorts?: (number | string)[];
  /** Whether copies may call nothing but services. Default: false. */
  knownServicesOnly?: boolean;
}

/** Certificates of the copies. */
export interface CertificatesConfig {
  /** How long each is valid, 1 minute to 30 days (`720h`). Default: 24h. */
  ttl?: string;
  /** Who signs. Default: an issuer and a root that are made at the first start. */
  issuer?: IssuerConfig;
}

/** An issuer of yours, in files that are looked at again each minute. */
export interface IssuerConfig {
  /** PEM: its certificate, and those up to the root, without it. */
  chain: string;
  /** PEM: its key. */
  key: string;
  /** PEM: the roots to trust. Their keys may be off-line. */
  roots: string;
}

/** What several control planes share, so that each answers the same. */
export interface SharedConfig {
  /** Where. Below the prefix are the issuer, encrypted, and the sidecars of each. */
  etcd: EtcdConfig;
  /** A file with at least 32 letters, the same for all: `openssl rand -hex 32`. Needed unless `certificates` has an `issuer`. */
  keyFile?: string;
}

/** Endpoints in etcd: the value of each key is an address, or an endpoint in JSON. */
export interface EtcdConfig {
  /** Where etcd answers. */
  endpoints: string | string[];
  /** What its keys begin with. */
  prefix: string;
  /** A user of etcd. */
  user?: string;
  /** The file with its password. */
  passwordFile?: string;
  /** Whom to believe, a PEM file. Default: the system's. */
  roots?: string;
  /** A client certificate, a PEM file. */
  certificate?: string;
  /** Its key, a PEM file. */
  key?: string;
}

/** One service: processes that `mesh up` starts, addresses outside of the mesh, or endpoints that are discovered. */
export interface ServiceConfig {
  /** The command, run by `sh`. `{port}` is the port that this copy listens on, `{port.NAME}` the one for `ports.NAME`. */
  run?: string;
  /** Or: where it answers, outside of the mesh. A list of IP addresses, or one DNS name. */
  address?: string | string[];
  /** Or: where its endpoints come from. Default: its sidecars, which announce themselves. */
  discover?: DiscoverConfig;
  /** The port that others call it by; `http://NAME` always works too. The process listens on the one in `PORT`. Default: 80, or that of `address`. */
  port?: number;
  /** More ports, by name. The process listens on the ones in `PORT_NAME`. */
  ports?: Record<string, number | ServicePortConfig>;
  /** What is spoken on `port`: `auto` detects it from the first bytes, `tcp` is opaque: nobody looks at a byte, nothing is waited for, and either side may speak first. Default: auto. */
  protocol?: 'auto' | 'http1' | 'http2' | 'tcp';
  /** How many processes. Default: 1. */
  copies?: number;
  /** Variables for it, beside those of `mesh up` itself; not those by which it is told of the mesh. */
  env?: Record<string, string>;
  /** The folder it runs in. Default: the file's. */
  cwd?: string;
  /** When a copy is ready: its port accepts, or a path answers. Default: tcp. */
  ready?: 'tcp' | ProbeConfig;
  /** Ports of this machine to take, instead of free ones. */
  bind?: BindConfig;
  /** How long it may take to end when asked. Default: 10s. */
  grace?: string;
  /** TLS towards what is outside of the mesh: `true`, or `{ serverName, roots }`. Default: false. */
  tls?: boolean | OutsideTlsConfig;
}

/** Where endpoints come from. Several sources are one list. */
export interface DiscoverConfig {
  /** They are these. */
  endpoints?: (string | DiscoveredEndpointConfig)[];
  /** A list of endpoints, YAML or JSON, that is watched. */
  file?: string;
  /** A prefix in etcd. */
  etcd?: EtcdConfig;
  /** Whether its sidecars announce themselves. Default: `true` where there is no other source. */
  registered?: boolean;
  /** Whether endpoints are outside of the mesh, with no identity to prove. Default: false. */
  outside?: boolean;
}

/** One endpoint. */
export interface DiscoveredEndpointConfig {
  /** Where it answers. */
  address: string;
  /** Its share. Default: 1. */
  weight?: number;
  /** Whether it gets nothing new. Default: false. */
  draining?: boolean;
  /** The ports of its service that it answers for. Default: all. */
  ports?: number[];
  /** The SPIFFE id that it must prove. */
  identity?: string;
}

/** One more port of a service. */
export interface ServicePortConfig {
  /** The port that others call it by. */
  port: number;
  /** What is spoken on it, as for `protocol` of a service. Default: auto. */
  protocol?: 'auto' | 'http1' | 'http2' | 'tcp';
}

/** How to see that a copy is ready. */
export interface ProbeConfig {
  /** A path that answers 2xx or 3xx to `GET` once it is. */
  http: string;
}

/** Ports of this machine instead of free ones. Each further copy takes the next. */
export interface BindConfig {
  /** What is in `PORT`. */
  port?: number;
  /** Where the sidecar answers others. */
  inbound?: number;
  /** Where it takes what the copy sends. */
  outbound?: number;
  /** Where its health and metrics are. */
  admin?: number;
}

/** TLS towards servers outside of the mesh. Sidecars are told it, so it holds no key. */
export interface OutsideTlsConfig {
  /** The name sent as SNI and verified in the certificate. Default: the DNS name in `address`. */
  serverName?: string;
  /** Roots to trust: a PEM file, which the control plane follows, or PEM text. Default: those of each sidecar's system. */
  roots?: string;
}

/** Who may do what to whom. A service with any `allow` denies what none allows, `deny` wins, and order means nothing. */
export interface PolicyConfig {
  /** A metric label, unique. Default: `policy-1`, counted. */
  name?: string;
  /** The services that are called; `*` is all of them. */
  to: string | string[];
  /** Who calls: services, `*` (whoever has an identity), `anyone`, `ns/NAMESPACE`, SPIFFE ids, networks. Default: `*` for `allow`, `anyone` for `deny`. */
  from?: string | string[];
  /** Calls to these ports only. */
  ports?: number[];
  /** What may be done: `true` (everything), or requests such as `GET /items` and `grpc shop.Basket/Get`. */
  allow?: true | string | string[];
  /** Or: what may not be done. */
  deny?: true | string | string[];
  /** Only requests whose headers meet these conditions. */
  headers?: Record<string, string | boolean | ValueConditionConfig | ValueConditionConfig[]>;
  /** Whether it is only told what it would have denied. Default: false. */
  audit?: boolean;
}
