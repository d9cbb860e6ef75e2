/**
 * What does a mesh want from its control plane?
 *
 * The native half signs certificates, serves resources and hears the sidecars; this is its face, so that whoever steers
 * a mesh can be shown another one.
 */

import type { Cluster, Endpoints, RouteTable } from '../config/resources.js';
import type { EdgeStatus, SidecarStatus } from './admin/types.js';
import type { ServiceName, Workload } from './compile.js';

/** A change of the mesh: it goes live whole, or is refused whole. */
export interface MeshBatch {
  readonly upsert?: {
    readonly routeTables?: readonly RouteTable[];
    readonly clusters?: readonly Cluster[];
    readonly endpoints?: readonly Endpoints[];
    readonly services?: readonly ServiceName[];
    readonly workloads?: readonly Workload[];
  };
  /** By name; `endpoints` by their cluster's. */
  readonly delete?: {
    readonly routeTables?: readonly string[];
    readonly clusters?: readonly string[];
    readonly endpoints?: readonly string[];
    readonly services?: readonly string[];
    readonly workloads?: readonly string[];
  };
}

/** A sidecar, as the control plane knows it. */
export type Sidecar = Omit<SidecarStatus, 'certificateLifeMs'>;

/** What tells a sidecar from others of its name. */
export type Claim = Pick<Sidecar, 'identity' | 'name' | 'instance' | 'pid' | 'turn'>;

/** How it has changed who is at other control planes. */
export interface Elsewhere {
  /** Who is there now, or came again. */
  readonly there: readonly Claim[];
  /** Identities and names of those who are there no more. */
  readonly gone: readonly (readonly [identity: string, name: string])[];
}

/** Who called whom, since the start. */
export type Edge = Omit<EdgeStatus, 'rate'>;

/**
 * A request or a stream that policy denied at a workload, or would have. A sidecar tells one a second of each `mode` and
 * data thread at most, with its next report.
 */
export interface PolicyDecision {
  /** The workload that was called. */
  readonly identity: string;
  /** What its sidecar calls itself. */
  readonly node: string;
  /** `audit`: it passed, as the policies are only told what they would do. */
  readonly mode: 'enforce' | 'audit';
  /** `rule`: one denies it. `no_rule`: none allows it. `default`: what holds where there is no policy. */
  readonly why: 'rule' | 'no_rule' | 'default';
  /** The names of the policies, of four at most. */
  readonly policies: readonly string[];
  /** The port that was called; null where none was that is declared. */
  readonly port: number | null;
  /** Who called: an identity, or the address of who has none that can be read. */
  readonly caller: string;
  /** Null where no HTTP is spoken. What is not printable is escaped. */
  readonly method: string | null;
  /** Without its query, the first 256 bytes. */
  readonly path: string | null;
  /** How many more there were since the one before. */
  readonly unsaid: number;
}

/** Something that happened, by its kind; `crates/controller/src/event.rs` has the whole list. */
export interface ControlEvent {
  /** What happened. */
  readonly kind: string;
  readonly [detail: string]: unknown;
}

/** A token that lets a workload ask for its first certificate. */
export interface TokenOptions {
  /** How often it may be used. */
  readonly uses: number;
  readonly ttlMs: number;
}

/** What somebody shows who says that a platform knows him, and that nobody has looked at yet. */
export interface Evidence {
  /** What it is, as the sidecar was told by `--attestation KIND=FILE`: letters, digits, `.`, `_` and `-`. */
  readonly kind: string;
  /** What the file holds, byte for byte; 64 KiB at most. */
  readonly evidence: Uint8Array;
  /** Whom the certificate is to name. This is what is claimed, by anybody: whether the evidence says so is the question. */
  readonly identity: string;
  /** Where it comes from. */
  readonly address: string;
}

/**
 * Looks at what platforms say.
 *
 * **Whoever it allows gets the identity**, and anybody who reaches the control plane can ask: it has to check that the
 * platform has said it (a signature), of this `identity`, for this mesh (an audience), that it has not ended, and that it
 * is of a `kind` that it knows. When it throws, or does not answer within the 5 s that are there for it and `decide`
 * together, the request is refused.
 */
export type Attestor = (evidence: Evidence) => Decision | Promise<Decision>;

/** A request for a certificate. */
export interface CertificateRequest {
  /** Whom it is to name. */
  readonly identity: string;
  /** What speaks for it: a certificate that is still good, a token, or what a platform says. */
  readonly proof: 'certificate' | 'token' | 'attestation';
  /** What a platform says, which the attestor has believed. */
  readonly attestation?: Pick<Evidence, 'kind' | 'evidence'>;
  /** The SHA-256 of a token that this control plane has not made, which nobody has looked at yet. */
  readonly otherToken?: string;
  /** Where it comes from. */
  readonly address: string;
}

/** Whether it is given, and for how long at most. */
export type Decision =
  | { readonly allow: true; readonly ttlMs?: number }
  | { readonly allow: false; readonly reason: string };

/** A control plane that runs. */
export interface ControlPlane {
  /** Where sidecars reach it. */
  readonly addresses: readonly string[];
  /** Where it tells resources without TLS. */
  readonly plaintextXds: readonly string[];
  /** @throws {InputError} with everything that is wrong: nothing of the batch is in force then */
  apply(batch: MeshBatch): void;
  issueToken(identity: string, options: TokenOptions): string;
  /** The roots to trust, as PEM. */
  bundle(): string;
  /** Believes an identity, or the certificate of a serial number, no more; what is open to it is closed. */
  revoke(whom: string): void;
  /** Takes a revocation back; whether there was one. */
  allow(whom: string): boolean;
  /** Who is revoked: identities and serial numbers. */
  revoked(): readonly string[];
  /** Whether others have said who is revoked (`awaitsRevoked`): as long as they say nothing, sidecars keep what they know. */
  knowsRevoked(knows: boolean): void;
  /** Whoever came here before one of those, by the same name, has no place any more, and is told so. */
  elsewhere(change: Elsewhere): void;
  /** Replaces the issuer of certificates. */
  rotateIssuer(): void;
  /** Begins to replace the root, in steps that wait until everybody knows the new one. */
  rotateRoot(): void;
  sidecars(): readonly Sidecar[];
  edges(): readonly Edge[];
  /**
   * Resolves when it has ended, and spends no token any more, with what it knows of them, for the one that takes its place
   * where nothing is stored. That opens nothing. Undefined when it was closed before.
   */
  close(): Promise<string | undefined>;
}

/** What a control plane is started with. */
export interface ControlPlaneOptions {
  readonly listen: readonly string[];
  /** Addresses of the loopback where whoever asks is told resources, and nothing else, without TLS. */
  readonly plaintextXds?: readonly string[];
  readonly trustDomain: string;
  readonly certificateTtlMs: number;
  /** What is served from the first moment: sidecars that come again must not find a mesh without services. */
  readonly initial?: MeshBatch;
  /** Where root and issuer, who is revoked and hashes of tokens are kept; in memory without. */
  readonly stateDir?: string;
  /** An issuer of the operator's, in PEM, instead. */
  readonly issuer?: { readonly chain: string; readonly key: string; readonly roots: string };
  /** What the one before told of its tokens; without `stateDir`. */
  readonly tokens?: string;
  /** Who is revoked already, beside whom `stateDir` has: it holds before anybody is heard. */
  readonly revoked?: readonly string[];
  /** Whose revocation was taken back meanwhile, though `stateDir` has it. */
  readonly allowed?: readonly string[];
  /**
   * Whether others know of revocations, and have not said them yet: until `knowsRevoked(true)` sidecars keep what they know,
   * and whom this one knows of is added to that.
   */
  readonly awaitsRevoked?: boolean;
  /** How often sidecars tell what they counted. */
  readonly telemetryIntervalMs?: number;
  /** Alone admits what platforms say; without, every attestation is refused: nobody attests it. */
  readonly attest?: Attestor;
  /**
   * Refuses certificates further, that a token, a good certificate or `attest` speaks for; those are enough without. With
   * `knowsOtherTokens` it alone admits other tokens.
   */
  readonly decide?: (request: CertificateRequest) => Decision | Promise<Decision>;
  /** Whether `decide` knows of tokens that this control plane has not made; they are refused otherwise. */
  readonly knowsOtherTokens?: boolean;
  /** Is told what happens. */
  readonly onEvent: (event: ControlEvent) => void;
}

export type StartControlPlane = (options: ControlPlaneOptions) => Promise<ControlPlane>;
