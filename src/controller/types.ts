/** The face of a control plane that stands alone, for those who embed one. */

import type { EventEmitter } from 'node:events';
import type { Source, SourceEvent, SourceStatus } from '../discovery/types.js';
import type {
  Attestor,
  CertificateRequest,
  ControlEvent,
  PolicyDecision,
  Decision,
  Edge,
  Sidecar,
} from '../mesh/control-plane.js';
import type { IssuerLife, IssuerStanding } from '../mesh/issuer-life.js';
import type { LoadedMesh } from '../mesh/load.js';
import type { MeshConfig } from '../mesh/types.js';

/** Where a control plane listens unless told otherwise. */
export const DEFAULT_CONTROL = '127.0.0.1:4144';

/** How a control plane runs. */
export interface MeshControlOptions {
  /** Addresses to listen on, always with TLS. Default: `127.0.0.1:4144`. */
  listen?: string | readonly string[];
  /**
   * Addresses of the loopback where whoever asks is told resources by xDS, and nothing else, without TLS: for clients of
   * gRPC and for Envoy on this machine. Default: none.
   */
  plaintextXds?: string | readonly string[];
  /**
   * A folder for root, issuer, who is revoked, hashes of tokens and the endpoints that are known, of mode 0700. Default:
   * none, so that all of it is made anew at each start, and every sidecar needs another token then.
   */
  stateDir?: string;
  /** An issuer of yours in PEM, instead of one that is made here: its chain, its key, and the roots to trust. */
  issuer?: { readonly chain: string; readonly key: string; readonly roots: string };
  /** Sources of your own, by service. They come to those of the mesh file, and take the place of registration. */
  discovery?: Readonly<Record<string, Source>>;
  /**
   * Looks at what a platform says of a workload (`mesh-sidecar --attestation KIND=FILE`), and alone can admit it. Default:
   * every attestation is refused, with the reason `nobody attests KIND`.
   *
   * **Whoever it allows gets the identity**, and anybody who reaches the control plane can ask: read {@link Attestor}.
   */
  attest?: Attestor;
  /**
   * Is asked about each certificate that a token, a certificate that is still good, or `attest` speaks for, and can only
   * refuse it, or shorten its life. What it allows is never admitted for that alone: one that looks at nothing but
   * `identity` lets in nobody who has not proved it. Default: what speaks for it is enough.
   */
  decide?: (request: CertificateRequest) => Decision | Promise<Decision>;
  /** How often sidecars tell what they counted, in milliseconds. Default: 2000. */
  telemetryIntervalMs?: number;
  /** Closes it. */
  signal?: AbortSignal;
}

/** What a token is good for. */
export interface TokenOptions {
  /** How often it may be used, 1 to 10,000. Default: 3, since a sidecar asks again when an answer was lost. */
  uses?: number;
  /** How long, 30 days at most. Default: 10 minutes, in which what starts now has asked. */
  ttlMs?: number;
}

/** What a control plane tells. */
export interface MeshControlEvents {
  /** It listens. */
  listening: [addresses: readonly string[]];
  /** Another mesh is live; so many resources are others now. */
  applied: [resources: number];
  /** A service has other endpoints now; so many. */
  endpoints: [service: string, count: number];
  /** A source of endpoints fails, has a problem, or is well again. */
  source: [event: SourceEvent];
  /** Policy denied something at a workload, or would have. */
  policy: [decision: PolicyDecision];
  /** A sidecar came, is ready, drains or went; somebody asked for a certificate; the authority changed. By its `kind`. */
  control: [event: ControlEvent];
  /** It serves with another issuer that was given or is shared: roots may be others, and what is counted begins anew. */
  restarted: [];
  /** The issuer that was given has a fifth of its life left or less, or none: give it another one. */
  issuer: [standing: Exclude<IssuerStanding, 'good'>, life: IssuerLife];
  /** Something went wrong, and it goes on. Unlike other `error` events it throws nothing when nobody listens. */
  error: [error: unknown];
  /** Everything has ended; the last event. */
  close: [];
}

/** A control plane in this process: it says who is who, who may call whom, and who answers. */
export interface MeshControl extends EventEmitter<MeshControlEvents>, AsyncDisposable {
  /**
   * Waits a few seconds for what sources have to say, then serves sidecars. Resolves with its addresses. Where that fails
   * nothing of it stays, and it may be called again.
   *
   * @throws {ListenError} an address is in use or can't be had
   * @throws {MeshError} with code `MESH_AUTHORITY`: its folder is open to others, or the issuer makes no sense
   * @throws {EtcdError} etcd is shared, and does not answer the first start
   * @throws {StateError} a file that the mesh file names can't be read, or it was closed
   */
  listen(): Promise<readonly string[]>;
  /**
   * Makes another mesh live, whole or not at all. Resolves with how many resources are others now.
   *
   * @throws {ConfigError} it makes no sense
   * @throws {RestartError} it changes what holds for all services (`mesh`)
   */
  apply(config: MeshConfig | LoadedMesh): Promise<number>;
  /**
   * A token by which a sidecar of a service, or of a SPIFFE id, gets its first certificate. Control planes that share an
   * etcd share their tokens.
   *
   * @throws {OptionError} there is no such service, an option makes no sense, or the token would be good for too much
   * @throws {EtcdError} etcd is shared, and does not answer
   */
  token(service: string, options?: TokenOptions): Promise<string>;
  /**
   * The roots that sidecars have to trust, in PEM. They change when a root is replaced (event `control`, `rotated`), and
   * when other ones are given (event `restarted`).
   */
  roots(): string;
  /** When the issuer that was given begins and ends; undefined where it is made here or shared. */
  issuerLife(): IssuerLife | undefined;
  /**
   * Believes an identity, or the certificate of a serial number, no more; what is open to it is closed. Resolves when those
   * know it, too, that share an etcd with this one.
   *
   * @throws {OptionError} it is neither
   * @throws {EtcdError} etcd is shared, and does not answer: it holds here alone until it does
   * @throws {MeshError} with code `MESH_AUTHORITY`: it holds, and is stored in the state folder as soon as it can be
   */
  revoke(whom: string): Promise<void>;
  /**
   * Takes a revocation back; whether there was one.
   *
   * @throws {OptionError} it is neither
   * @throws {EtcdError} etcd is shared, and does not answer: it holds here alone until it does
   * @throws {MeshError} with code `MESH_AUTHORITY`: it holds, and is stored in the state folder as soon as it can be
   */
  allow(whom: string): Promise<boolean>;
  /**
   * Replaces the issuer of certificates.
   *
   * @throws {StateError} it is given or shared, and not this one's to replace
   */
  rotateIssuer(): void;
  /**
   * Begins to replace the root, in steps that wait until everybody knows the new one.
   *
   * @throws {StateError} it is given or shared, and not this one's to replace
   */
  rotateRoot(): void;
  /** Where resources are told without TLS; nowhere before `listen()`. */
  plaintextXds(): readonly string[];
  /** The sidecars that are connected. */
  sidecars(): readonly Sidecar[];
  /**
   * Those that are ready and of which the mesh knows nothing: their identity is no service, and no endpoint names it. The
   * mesh's default and the policies for all (`to: '*'`) hold for them, and no other.
   */
  strangers(): readonly Sidecar[];
  /** Who is revoked: identities, and serial numbers of certificates. */
  revoked(): readonly string[];
  /** Who called whom, since the start. */
  edges(): readonly Edge[];
  /** Where endpoints come from, and how that goes. */
  sources(): readonly SourceStatus[];
  /** Ends it. Sidecars go on with what they know. */
  close(): Promise<void>;
}

/**
 * Makes a control plane. Nothing is served before `listen()`.
 *
 * @throws {ConfigError} the mesh makes no sense
 * @throws {OptionError} an option makes no sense, or is not known
 */
export type CreateControlPlane = (
  config: MeshConfig | LoadedMesh,
  options?: MeshControlOptions,
) => MeshControl;
