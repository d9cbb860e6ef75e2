/**
 * Endpoints in etcd: the values of all keys with a prefix.
 *
 *     /mesh/basket/1  10.0.0.7:4143
 *     /mesh/basket/2  { "address": "10.0.0.8:4143", "weight": 2 }
 *
 * A key with a lease goes with whoever kept it alive. A value that can't be an endpoint is told; the last good one of its
 * key serves.
 */

import { EndpointError, endpointOf, writtenEndpoint } from './endpoints.js';
import { type EtcdOptions, accessTo } from './etcd-access.js';
import { checkEtcdOptions } from './etcd-options.js';
import { EtcdPrefix } from './etcd-prefix.js';
import type { DiscoveredEndpoint, EndpointChange, EndpointLike, Source } from './types.js';

/**
 * Follows all keys with a prefix. `skip` passes over some, by what stands behind the prefix; default: none.
 *
 * @throws {OptionError} an option makes no sense
 */
export function etcdSource(options: EtcdOptions, skip: (name: string) => boolean = () => false): Source {
  checkEtcdOptions(options);
  return following(options, skip, endpointOf);
}

/**
 * The same of what other control planes have written there; `heard` is told all of it before it is taken, by what stands
 * behind the prefix, and says what is not. Several may have written of one address: who has come there again is ready by a
 * newer word than that it left, and who has left costs its callers no more than another try.
 */
export function announcedSource(
  options: EtcdOptions,
  skip: (name: string) => boolean,
  heard?: Heard,
): Source {
  const drains = ({ draining }: DiscoveredEndpoint): number => (draining === true ? 0 : 1);
  // The last one of an address counts.
  return following(options, skip, writtenEndpoint, (a, b) => drains(a) - drains(b), heard);
}

type Read = (said: EndpointLike) => DiscoveredEndpoint;
type Order = (a: DiscoveredEndpoint, b: DiscoveredEndpoint) => number;
type Heard = (said: ReadonlyMap<string, EndpointLike>) => ReadonlySet<string>;

function following(
  options: EtcdOptions,
  skip: (name: string) => boolean,
  read: Read,
  order: Order = () => 0,
  heard?: Heard,
): Source {
  const prefix = new EtcdPrefix(options.prefix, (text, key, _, before: Known | undefined) =>
    known(text, key, before, read),
  );
  let turns = 0;
  return async function* (signal) {
    // The next one each time: this one may be why it is begun anew.
    const turn = turns;
    turns += 1;
    const access = await accessTo(turn, options, signal);
    for await (const keys of prefix.follow(access, signal)) {
      const others =
        heard &&
        [...keys].flatMap(([name, { said }]) =>
          said !== undefined && !skip(name) ? [[name, said] as const] : [],
        );
      const left = heard?.(new Map(others));
      yield changeOf(keys, (name) => skip(name) || left?.has(name) === true, order);
    }
  };
}

/** A key: its last good value, and what is wrong with the one that it has. */
interface Known {
  readonly endpoint?: DiscoveredEndpoint | undefined;
  /** The good value as it was written. */
  readonly said?: EndpointLike | undefined;
  readonly problem?: EndpointError;
}

function changeOf(
  keys: ReadonlyMap<string, Known>,
  skip: (name: string) => boolean,
  order: Order,
): EndpointChange {
  const problem = [...keys.values()].find((each) => each.problem !== undefined)?.problem;
  const set = [...keys].flatMap(([name, { endpoint }]) => (skip(name) ? [] : (endpoint ?? []))).sort(order);
  return { set, ...(problem !== undefined && { problem }) };
}

function known(text: string, key: string, before: Known | undefined, read: Read): Known {
  try {
    const said = readValue(text);
    return { endpoint: read(said), said };
  } catch (error) {
    if (!(error instanceof EndpointError)) throw error;
    return { ...before, problem: new EndpointError(`${key}: ${error.message}`) };
  }
}

/** A value is an address, or an endpoint in JSON. */
function readValue(text: string): EndpointLike {
  const trimmed = text.trim();
  if (!trimmed.startsWith('{')) return trimmed;
  try {
    return JSON.parse(trimmed) as EndpointLike;
  } catch {
    throw new EndpointError('expected an address, or an endpoint in JSON');
  }
}
