/** Endpoints that are written where the service is. */

import { once } from 'node:events';
import { OptionError } from '../errors.js';
import type { EndpointLike, Source } from './types.js';

/**
 * Says this list, once.
 *
 * @throws {OptionError} it is no list
 */
export function staticSource(endpoints: readonly EndpointLike[]): Source {
  if (!Array.isArray(endpoints)) throw new OptionError('endpoints', 'a list of endpoints', endpoints);
  return async function* (signal) {
    yield { set: endpoints };
    if (!signal.aborted) await once(signal, 'abort');
  };
}
