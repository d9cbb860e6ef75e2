/**
 * The one door to the core: loads the addon for this platform and says what it exports.
 *
 * What crosses is JSON text; the shapes are those of `config/resources.ts` and `proxy/types.ts`.
 */

import { createRequire } from 'node:module';
import { CoreUnavailableError } from './errors.js';
import { platformFile, platformName, whyMissing } from './platform.js';
import { messageOf } from './thrown.js';

/** A proxy of the core. */
export interface NativeProxy {
  /** Resolves with `{version, addresses: [{listener, address}]}`. */
  apply(resources: string): Promise<string>;
  /** Begins the way out; `phase()` says how far it is. */
  drain(lameDuckMs: number, workMs?: number): void;
  phase(): 'starting' | 'ready' | 'draining' | 'drained' | 'closed';
  /** Resolves when all threads are gone. */
  close(): Promise<void>;
  /** Gives the address that the admin server got. */
  serveAdmin(address: string, lameDuckMs: number): string;
  /** Changes how long a drain that the admin server is asked for still accepts. */
  setLameDuck(lameDuckMs: number): void;
  /** Counts a configuration that was refused before the core saw it. */
  countRefused(): void;
  reopenLogs(): void;
  /** Looks at certificates, keys and roots now. */
  reloadFiles(): void;
  /** For tests: a panic on the control thread, or on every data thread. */
  provokePanic(onControl: boolean): void;
  stats(): Promise<string>;
  metrics(): Promise<string>;
}

/** A control plane of the core. */
export interface NativeController {
  addresses(): string[];
  /** Where resources are told without TLS. */
  plaintextXds(): string[];
  /** Throws what is wrong with the change; then nothing has changed. */
  apply(batch: string): void;
  issueToken(identity: string, uses: number, ttlMs: number): string;
  /** An identity, or a serial number. */
  revoke(whom: string): void;
  allow(whom: string): boolean;
  /** Identities and serial numbers. */
  revoked(): string[];
  /** Whether others have said who is revoked. */
  knowsRevoked(knows: boolean): void;
  /** How it has changed who is at other control planes. */
  elsewhere(change: string): void;
  rotateIssuer(): void;
  rotateRoot(): void;
  /** The roots, in PEM. */
  bundle(): string;
  sidecars(): string;
  edges(): string;
  /** Answers an event of the kind `decide`. */
  decided(number: number, decision: string): void;
  /** Resolves when its thread is gone, with what it knows of tokens, which opens nothing; null when it was closed before. */
  close(): Promise<string | null>;
}

/** What the addon exports. */
export interface Native {
  /** `said` takes what the proxy has to say: JSON, see `proxy/news.ts`. */
  NativeProxy: new (
    threads: number,
    said: (entry: string) => void,
    dnsServers: readonly string[],
  ) => NativeProxy;
  /** `told` takes what happens: JSON, see `mesh/control-plane.ts`. */
  NativeController: new (settings: string, told: (event: string) => void) => NativeController;
  validate(resources: string): string;
  check(resources: string): string;
  decide(resources: string, request: string): string;
  /** The metrics of a proxy that has done nothing: every family there is. */
  metricFamilies(): string;
  /** How many this process may keep busy, its CPU quota included: Node 20 does not look at that. */
  processors(): number;
}

let loaded: Native | undefined;

/** The addon, loaded at first use. */
export function native(): Native {
  loaded ??= load(platformName());
  return loaded;
}

function load(platform: string): Native {
  const file = platformFile(platform, `mesh.${platform}.node`);
  if (file === undefined) {
    throw new CoreUnavailableError(`there is no native core for ${platform}; ${whyMissing(platform)}`);
  }
  try {
    return createRequire(import.meta.url)(file) as Native;
  } catch (cause) {
    const why = messageOf(cause);
    throw new CoreUnavailableError(`the native core for ${platform} can't be loaded: ${why}`, { cause });
  }
}
