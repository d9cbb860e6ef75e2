/** What does a mesh that runs tell about itself? */

import type { SourceStatus } from '../../discovery/types.js';

/** A resource that a sidecar refuses. */
export interface Nack {
  readonly resource: string;
  readonly name: string;
  readonly version: string;
  readonly reason: string;
}

/** A sidecar, as its control plane knows it. */
export interface SidecarStatus {
  readonly name: string;
  readonly identity: string;
  /** From where it is connected. */
  readonly address: string;
  /** Where peers reach it, as it says. */
  readonly inboundAddress: string;
  /** What its workload offers, as it says. */
  readonly services: readonly { readonly service: string; readonly port: number }[];
  readonly phase: 'connected' | 'ready' | 'draining';
  readonly version: string;
  readonly pid: number;
  readonly sinceMs: number;
  readonly certificateNotAfterMs: number | null;
  readonly telemetryAtMs: number | null;
  readonly nacks: readonly Nack[];
}

/** Who called whom: counts since the start. */
export interface EdgeStatus {
  readonly identity: string;
  readonly direction: 'inbound' | 'outbound';
  readonly peer: string;
  readonly service: string;
  readonly port: number;
  readonly protocol: string;
  readonly mtls: boolean;
  readonly requests: number;
  readonly failures: Readonly<Record<string, number>>;
  readonly denied: number;
  readonly latencyNs: { readonly p50: number; readonly p95: number; readonly p99: number } | null;
  /** Requests a second, lately. */
  readonly rate: number;
}

/** All of it, at one moment. */
export interface MeshStatus {
  readonly trustDomain: string;
  /** When it was looked at. */
  readonly atMs: number;
  readonly startedAtMs: number;
  readonly sidecars: readonly SidecarStatus[];
  readonly edges: readonly EdgeStatus[];
  /** Where endpoints come from. */
  readonly sources: readonly SourceStatus[];
}

/** Somebody wants to let a workload in. */
export interface TokenRequest {
  /** A service of the mesh. */
  readonly service: string;
  /** How often it may be used, 1 to 10,000. */
  readonly uses: number;
  /** How long, 30 days at most. */
  readonly ttlMs: number;
}
