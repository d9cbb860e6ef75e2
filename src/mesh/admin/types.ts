/** What does a mesh that runs tell about itself? */

import type { SourceStatus } from '../../discovery/types.js';
import type { IssuerLife } from '../issuer-life.js';
import type { Times } from './times.js';

/** A resource that a sidecar refuses. */
interface Nack {
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
  /** What tells that process from others of its number. */
  readonly instance: string;
  /** Greater than that of any that came by its name before, here or at another control plane. */
  readonly turn: number;
  /** Whether another sidecar goes by its name and identity too, here or there: they take its place from each other. */
  readonly sharesName: boolean;
  readonly sinceMs: number;
  readonly certificateNotAfterMs: number | null;
  readonly certificateSerial: string | null;
  /** How long its certificate lives in all; null when this control plane, in this life, did not sign it. */
  readonly certificateLifeMs: number | null;
  readonly telemetryAtMs: number | null;
  readonly nacks: readonly Nack[];
  /** What it has, by kind, as it acknowledged it. */
  readonly has: readonly HeldStatus[];
}

/** What a sidecar has of one kind of resources. */
interface HeldStatus {
  /** The type URL. */
  readonly resource: string;
  readonly count: number;
  /** When it accepted the last ones, in milliseconds since 1970. */
  readonly changedAtMs: number;
}

/** A sidecar that left without a word and has not come back. */
export interface MissingStatus {
  readonly name: string;
  readonly identity: string;
  /** When it left, in milliseconds since 1970. */
  readonly sinceMs: number;
}

/** A sidecar that is ready, and neither a service nor named by an endpoint: policies for a service do not hold for it. */
export interface StrangerStatus {
  readonly name: string;
  readonly identity: string;
}

/** A service whose endpoints come and go; one that is known to call others only is none. */
export interface ServiceStatus {
  readonly name: string;
  /** How many it has now. */
  readonly endpoints: number;
  /** Why its copies ended or were not started, as far as they have not come back: `web.1: it can't be started: ...`. */
  readonly why?: string;
  /** Its ready sidecars that offer not all of its ports: what they lack. */
  readonly lacking?: readonly LackingStatus[];
}

/** A sidecar that answers for a service, and not on all ports that the mesh file declares of it. */
export interface LackingStatus {
  readonly sidecar: string;
  readonly ports: readonly number[];
}

/** Who called whom: counts since the start. */
export interface EdgeStatus {
  /** Who told it. */
  readonly identity: string;
  readonly direction: 'inbound' | 'outbound';
  /** Inbound: the caller's identity, empty where it proved none. */
  readonly peer: string;
  readonly service: string;
  /** 0 where none was called that its workload declares. */
  readonly port: number;
  readonly protocol: string;
  readonly mtls: boolean;
  readonly requests: number;
  readonly failures: Readonly<Record<string, number>>;
  readonly denied: number;
  /** Those that passed and would be denied, were the policies in audit mode enforced. */
  readonly audited: number;
  /** How long they took: counts that can be added to those of other edges, see `times.ts`. */
  readonly timesNs: Times;
  /** Requests a second, lately. */
  readonly rate: number;
}

/** All of it, at one moment. */
export interface MeshStatus {
  readonly trustDomain: string;
  /** The control plane's. */
  readonly version: string;
  /** Whether it is known that processes of its machine can go around a sidecar. */
  readonly isBypassable: boolean;
  /** The issuer that was given, which nobody here renews; null: it is made here, or shared. */
  readonly issuer: IssuerLife | null;
  /** When it was looked at. */
  readonly atMs: number;
  readonly startedAtMs: number;
  readonly sidecars: readonly SidecarStatus[];
  /** Who left within the last hour; of what was before the start nothing is known. */
  readonly missing: readonly MissingStatus[];
  readonly strangers: readonly StrangerStatus[];
  /** Identities and serial numbers of certificates that are revoked. */
  readonly revoked: readonly string[];
  readonly services: readonly ServiceStatus[];
  /** Every port of every service of the mesh file, called or not: `basket.shop:3000`. */
  readonly declared: readonly string[];
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

/** Somebody to be believed no more, or again. */
export interface RevokeRequest {
  /** A service, a SPIFFE id, or the serial number of a certificate. */
  readonly whom: string;
  readonly undo: boolean;
}

/** What became of it. */
export interface RevokeAnswer {
  /** The SPIFFE id or the serial number. */
  readonly revoked: string;
  /** Whether anything is another now. */
  readonly changed: boolean;
}
