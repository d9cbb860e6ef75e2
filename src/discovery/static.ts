/** Endpoints that are written where the service is. */

import { once } from 'node:events';
import type { EndpointLike, Source } from './types.js';

/** Says this list, once. */
export function staticSource(endpoints: readonly EndpointLike[]): Source {
  return async function* (signal) {
    yield { set: endpoints };
    if (!signal.aborted) await once(signal, 'abort');
  };
}
