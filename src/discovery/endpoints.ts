/** Is this an endpoint? And what are the endpoints of several sources together? */

import { isIP } from 'node:net';
import { address as addressFormat, isSpiffeId } from '../config/formats.js';
import { instead } from '../config/suggest.js';
import { MeshError } from '../mesh-error.js';
import type { DiscoveredEndpoint, EndpointChange, EndpointLike } from './types.js';

/** The most endpoints of one source: a service with more is several, or a source that has lost its way. */
export const MAX_ENDPOINTS = 10_000;
/** The core takes no greater weight. */
export const MAX_WEIGHT = 1000;
/** What an address of one server looks like. */
export const ADDRESS =
  'the address of one server such as 10.0.0.7:8443, [fd00::7]:8443 or unix:/run/app.sock';

/** How much is shown of what was received. */
const LONGEST_SHOWN = 100;

/** What a source said can't be. Code `MESH_ENDPOINT_INVALID`. */
export class EndpointError extends MeshError {
  static {
    this.prototype.name = 'EndpointError';
  }

  constructor(message: string) {
    super('MESH_ENDPOINT_INVALID', message);
  }
}

/** Endpoints by their address. */
export type EndpointMap = Map<string, DiscoveredEndpoint>;

/** What an endpoint may say. */
const KNOWN: Record<keyof DiscoveredEndpoint, true> = {
  address: true,
  weight: true,
  draining: true,
  ports: true,
  identity: true,
};
const KEYS: readonly string[] = Object.keys(KNOWN);

/**
 * An endpoint as it is meant. `place` says where it stands.
 *
 * @throws {EndpointError} when it can't be one
 */
export function endpointOf(said: EndpointLike, place = ''): DiscoveredEndpoint {
  const given: unknown = typeof said === 'string' ? { address: said } : said;
  if (typeof given !== 'object' || given === null) throw wrong(place, 'an address or { address }', said);
  const at = (key: string): string => (place === '' ? key : `${place}.${key}`);
  const strange = Object.keys(given).find((key) => !KEYS.includes(key));
  if (strange !== undefined) {
    const key = strange.slice(0, LONGEST_SHOWN);
    throw new EndpointError(`${at(key)}: unknown key ${key}; ${instead(strange, KEYS)}`);
  }
  const { address, weight, draining, ports, identity } = given as Partial<Record<string, unknown>>;
  const one = typeof address === 'string' ? serverAddress(address) : undefined;
  if (one === undefined) throw wrong(at('address'), ADDRESS, address);
  if (weight !== undefined && !isWeight(weight))
    throw wrong(at('weight'), `a whole number, 1 to ${MAX_WEIGHT}`, weight);
  if (draining !== undefined && typeof draining !== 'boolean')
    throw wrong(at('draining'), 'true or false', draining);
  if (ports !== undefined && !(Array.isArray(ports) && ports.every(isPort)))
    throw wrong(at('ports'), 'a list of ports', ports);
  if (identity !== undefined && !(typeof identity === 'string' && isSpiffeId(identity)))
    throw wrong(at('identity'), 'a SPIFFE id', identity);
  return {
    address: one,
    ...(weight !== undefined && { weight }),
    ...(draining === true && { draining }),
    ...(ports !== undefined && { ports: [...(ports as number[])] }),
    ...(identity !== undefined && { identity }),
  };
}

/**
 * An endpoint that a control plane wrote for itself or for others, which may be of a newer version and say more.
 *
 * @throws {EndpointError} when it can't be one
 */
export function writtenEndpoint(said: EndpointLike): DiscoveredEndpoint {
  if (typeof said !== 'object' || said === null) return endpointOf(said);
  return endpointOf(
    Object.fromEntries(
      Object.entries(said).filter(([key]) => KEYS.includes(key)),
    ) as unknown as DiscoveredEndpoint,
  );
}

/** The one way to write an address, where it is one that can be connected to: several ways would be several endpoints. */
export function serverAddress(text: string): string | undefined {
  if (!addressFormat.accepts(text) || text.startsWith('unix:'))
    return addressFormat.accepts(text) ? text : undefined;
  const [, host = '', port = ''] = /^(.*):(\d+)$/.exec(text) ?? [];
  if (isIP(host.replaceAll(/^\[|\]$/g, '')) === 0 || Number(port) === 0) return undefined;
  const { hostname } = new URL(`http://${host}`);
  const isNoServer = /^(0\.0\.0\.0$|22[4-9]\.|23\d\.|\[::\]$|\[ff)/.test(hostname);
  return isNoServer ? undefined : `${hostname}:${Number(port)}`;
}

const isPort = (value: unknown): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65_535;

const isWeight = (value: unknown): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= MAX_WEIGHT;

function wrong(field: string, expected: string, received: unknown): EndpointError {
  const shown = shownOf(received).slice(0, LONGEST_SHOWN);
  return new EndpointError(`${field && `${field}: `}expected ${expected}, received ${shown}`);
}

/** JSON, where there is one of it. */
function shownOf(value: unknown): string {
  try {
    return String(JSON.stringify(value));
  } catch {
    return `a ${typeof value}`;
  }
}

/**
 * All of a list that is set.
 *
 * @throws {EndpointError} when one of them can't be an endpoint, or there are too many
 */
export function endpointsIn(list: readonly EndpointLike[]): EndpointMap {
  if (!Array.isArray(list)) throw wrong('set', 'a list of endpoints', list);
  if (list.length > MAX_ENDPOINTS)
    throw new EndpointError(`${list.length} endpoints: expected at most ${MAX_ENDPOINTS}`);
  return new Map(
    list
      .map((said, index) => endpointOf(said as EndpointLike, `set[${index}]`))
      .map((each) => [each.address, each]),
  );
}

/** What a change says; `set` may say what is wrong, too. */
const SAYS = ['set', 'add', 'remove', 'complete', 'problem'] as const;
const CHANGE = '{ set }, { add }, { remove }, { complete: true } or { problem }';

/**
 * Something that a source said, where it is a change: what says nothing that is known would else be taken for all there is.
 *
 * @throws {EndpointError} when it is none
 */
export function changeIn(said: unknown): EndpointChange {
  if (typeof said !== 'object' || said === null) throw wrong('', CHANGE, said);
  const given = said as Partial<Record<string, unknown>>;
  const says = SAYS.filter((key) => given[key] !== undefined);
  const strange = Object.keys(given).find((key) => !(SAYS as readonly string[]).includes(key));
  const isOne = says.length === 1 || (says.length === 2 && says[0] === 'set' && says[1] === 'problem');
  if (!isOne || strange !== undefined) throw wrong('', CHANGE, said);
  if (says[0] === 'complete' && given['complete'] !== true)
    throw wrong('complete', 'true', given['complete']);
  return Object.fromEntries(says.map((key) => [key, given[key]])) as unknown as EndpointChange;
}

/**
 * The endpoints of several sources as one list. An address that several name is one endpoint: the first that names it
 * says its weight and its identity, and it drains when any of them says so.
 */
export function union(sources: readonly Iterable<DiscoveredEndpoint>[]): DiscoveredEndpoint[] {
  const all: EndpointMap = new Map();
  for (const source of sources) {
    for (const endpoint of source) {
      const known = all.get(endpoint.address);
      if (known === undefined) all.set(endpoint.address, endpoint);
      else if (endpoint.draining === true) all.set(endpoint.address, { ...known, draining: true });
    }
  }
  // By address, so that equal worlds make equal resources.
  return [...all.values()].sort((a, b) => (a.address < b.address ? -1 : 1));
}
