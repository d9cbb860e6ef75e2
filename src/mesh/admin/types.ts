/** What does a mesh that runs tell about itself? */

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
  readonly inboundAddress: string;
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
}
