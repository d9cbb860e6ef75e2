/**
 * What does a mesh want from its control plane?
 *
 * The native half signs certificates, serves resources and hears the sidecars; this is its face, so that whoever steers
 * a mesh can be shown another one.
 */

import type { Cluster, Endpoints, RouteTable } from '../config/resources.js';
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
export interface Sidecar {
  /** What it calls itself: `basket-1`. */
  readonly name: string;
  /** Who it is, by its certificate. */
  readonly identity: string;
  readonly inboundAddress: string;
  readonly phase: 'connected' | 'ready' | 'draining';
  readonly certificateNotAfterMs: number | null;
}

/** Who called whom, since the start. */
export interface Edge {
  /** Who told it. */
  readonly identity: string;
  readonly direction: 'inbound' | 'outbound';
  readonly peer: string;
  readonly service: string;
  readonly port: number;
  readonly mtls: boolean;
  readonly requests: number;
  readonly failures: Readonly<Record<string, number>>;
  readonly denied: number;
  readonly latencyNs: { readonly p50: number; readonly p95: number; readonly p99: number } | null;
}

/** Something that happened, by its kind; `native.ts` has the whole list. */
export interface ControlEvent {
  readonly kind: string;
  readonly [detail: string]: unknown;
}

/** A token that lets a workload ask for its first certificate. */
export interface TokenOptions {
  /** How often it may be used. */
  readonly uses: number;
  readonly ttlMs: number;
}

/** A control plane that runs. */
export interface ControlPlane {
  /** Where sidecars reach it. */
  readonly addresses: readonly string[];
  /** @throws {InputError} with everything that is wrong: nothing of the batch is in force then */
  apply(batch: MeshBatch): void;
  issueToken(identity: string, options: TokenOptions): string;
  /** The roots to trust, as PEM. */
  bundle(): string;
  sidecars(): readonly Sidecar[];
  edges(): readonly Edge[];
  close(): Promise<void>;
}

/** What a control plane is started with. */
export interface ControlPlaneOptions {
  readonly listen: readonly string[];
  readonly trustDomain: string;
  readonly certificateTtlMs: number;
  /** Is told what happens. */
  readonly onEvent: (event: ControlEvent) => void;
}

export type StartControlPlane = (options: ControlPlaneOptions) => Promise<ControlPlane>;
