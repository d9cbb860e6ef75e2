/**
 * Who goes by which name at other control planes?
 *
 * A control plane writes beside each endpoint which sidecar it is. Of several that go by one name and identity the one of the
 * latest turn has it, here as there: turns are given so that whoever comes later has a greater one, whatever clocks say.
 */

import { serverAddress } from '../discovery/endpoints.js';
import type { DiscoveredEndpoint } from '../discovery/types.js';
import type { Claim, Elsewhere } from '../mesh/control-plane.js';

/** An endpoint of a control plane, with its identity and, where that is known, the sidecar that it is. */
export interface Announced extends DiscoveredEndpoint {
  readonly sidecar?: Omit<Claim, 'identity'>;
}

export const claimKey = ({ identity, name }: Pick<Claim, 'identity' | 'name'>): string =>
  `${identity} ${name}`;

/** Whether a sidecar has lost its name to another one. */
export function isOvertaken(claim: Claim, by: Claim | undefined): boolean {
  if (by === undefined || (by.instance === claim.instance && by.pid === claim.pid)) return false;
  return isLater(by, claim);
}

/** As the core has it. Instances are of one length. */
function isLater(one: Claim, other: Claim): boolean {
  if (one.turn !== other.turn) return one.turn > other.turn;
  if (one.instance !== other.instance) return one.instance > other.instance;
  return one.pid > other.pid;
}

/** The latest of each name. */
export function latestOf(claims: readonly Claim[]): Map<string, Claim> {
  const latest = new Map<string, Claim>();
  for (const claim of claims) {
    const before = latest.get(claimKey(claim));
    if (before === undefined || isLater(claim, before)) latest.set(claimKey(claim), claim);
  }
  return latest;
}

/** The sidecar that is written beside an endpoint, if any is. */
export function claimIn(said: unknown): (Claim & { readonly address: string }) | undefined {
  const { identity, address, sidecar } = (said ?? {}) as Record<string, unknown>;
  const { name, instance, pid, turn } = (sidecar ?? {}) as Record<string, unknown>;
  if (typeof identity !== 'string' || typeof address !== 'string' || typeof name !== 'string')
    return undefined;
  const at = serverAddress(address);
  if (at === undefined || typeof instance !== 'string') return undefined;
  if (!isNumber(pid) || pid > 0xffff_ffff || !isNumber(turn)) return undefined;
  return { identity, name, instance, pid, turn, address: at };
}

const isNumber = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** What others have said of sidecars. */
export class Claims {
  #latest: ReadonlyMap<string, Claim> = new Map();
  #byAddress: ReadonlyMap<string, Claim> = new Map();

  /** This is all that they say. What is another than before. */
  heard(said: readonly unknown[]): Elsewhere {
    const before = this.#latest;
    const claims = said.flatMap((each) => claimIn(each) ?? []);
    this.#byAddress = new Map(
      claims.map(({ address, ...claim }) => [`${claim.identity} ${address}`, claim] as const),
    );
    this.#latest = latestOf([...this.#byAddress.values()]);
    const there = [...this.#latest.values()].filter((claim) => {
      const known = before.get(claimKey(claim));
      return known?.turn !== claim.turn || known.instance !== claim.instance || known.pid !== claim.pid;
    });
    const left = [...before.values()].filter((claim) => !this.#latest.has(claimKey(claim)));
    return { there, gone: left.map(({ identity, name }) => [identity, name]) };
  }

  /** All of them, for who has heard nothing yet. */
  get all(): Elsewhere {
    return { there: [...this.#latest.values()], gone: [] };
  }

  /** An endpoint that others have told, with its sidecar. */
  with(endpoint: DiscoveredEndpoint): Announced {
    const claim = this.#byAddress.get(`${endpoint.identity} ${endpoint.address}`);
    return claim ? { ...endpoint, sidecar: claim } : endpoint;
  }
}
