/**
 * Who goes by which name at other control planes?
 *
 * A control plane writes beside each endpoint which sidecar it is. Of several that go by one name and identity the one of the
 * latest turn has it, here as there: turns are given so that whoever comes later has a greater one, whatever clocks say.
 *
 * What a control plane says outlives it for a while. A sidecar that has come to another one since, or has left that one, is
 * no longer where the first one says.
 */

import { serverAddress } from '../discovery/endpoints.js';
import type { DiscoveredEndpoint } from '../discovery/types.js';
import type { Claim, Elsewhere } from '../mesh/control-plane.js';

/** An endpoint of a control plane, with its identity and, where that is known, the sidecar that it is. */
export interface Announced extends DiscoveredEndpoint {
  readonly sidecar?: Omit<Claim, 'identity'>;
}

/** How long it is known where a sidecar has been last: longer than what anybody says of it lives without them. */
const REMEMBERED_MS = 60_000;

export const claimKey = ({ identity, name }: Pick<Claim, 'identity' | 'name'>): string =>
  `${identity} ${name}`;

/** Whether a sidecar has lost its name to another one. */
export function isOvertaken(claim: Claim, by: Claim | undefined): boolean {
  return by !== undefined && !isSame(by, claim) && isLater(by, claim);
}

const isSame = (one: Claim, other: Claim): boolean =>
  one.instance === other.instance && one.pid === other.pid;

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

/** What of a sidecar is written beside an endpoint. */
export const namedIn = ({ name, instance, pid, turn }: Omit<Claim, 'identity'>): Omit<Claim, 'identity'> => ({
  name,
  instance,
  pid,
  turn,
});

/** The sidecar of an announced endpoint, where that is known. */
export function claimOf({ identity, sidecar }: Announced): Claim | undefined {
  return identity === undefined || sidecar === undefined ? undefined : { identity, ...namedIn(sidecar) };
}

/** The sidecar that others have written beside an endpoint, if any is. */
function claimIn(said: unknown): (Claim & { readonly address: string }) | undefined {
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
  /** The latest of each name, here or there, and until when that is known. */
  readonly #seen = new Map<string, { readonly claim: Claim; readonly untilMs: number }>();

  /** These are here. */
  own(claims: readonly Claim[]): void {
    const untilMs = performance.now() + REMEMBERED_MS;
    for (const claim of claims) {
      const before = this.#seen.get(claimKey(claim))?.claim;
      if (before === undefined || !isLater(before, claim))
        this.#seen.set(claimKey(claim), { claim, untilMs });
    }
  }

  /** Which of these keys of other control planes, with what they say, are of a sidecar that has been elsewhere since. */
  outdated(said: ReadonlyMap<string, unknown>): ReadonlySet<string> {
    const nowMs = performance.now();
    for (const [key, { untilMs }] of this.#seen) if (untilMs < nowMs) this.#seen.delete(key);
    const claims = [...said].flatMap(([name, each]) => {
      const claim = claimIn(each);
      return claim ? [[name, claim] as const] : [];
    });
    this.own(claims.map(([, claim]) => claim));
    const outdated = claims.filter(([, claim]) => {
      const last = this.#seen.get(claimKey(claim))?.claim;
      return last !== undefined && last.turn > claim.turn && isSame(last, claim);
    });
    return new Set(outdated.map(([name]) => name));
  }

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
      return known === undefined || known.turn !== claim.turn || !isSame(known, claim);
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
