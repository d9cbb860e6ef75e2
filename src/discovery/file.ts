/**
 * Endpoints in a file, YAML or JSON, that is watched.
 *
 *     - 10.0.0.7:4143
 *     - { address: 10.0.0.8:4143, weight: 2 }
 *
 * A file that is wrong changes nothing: every mistake is told with its line and its field, and the last good one serves.
 */

import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Format } from '../config/formats.js';
import { fromSchema } from '../config/issues.js';
import { readDocument, refusal, whole } from '../config/origin.js';
import { flag, list, may, must, part, text, whole as wholeNumber } from '../config/schema-kit.js';
import { ConfigWatcher } from '../config/watch.js';
import { isSpiffeId } from '../mesh/formats.js';
import { ADDRESS, MAX_ENDPOINTS, MAX_WEIGHT, serverAddress } from './endpoints.js';
import type { EndpointLike, Source } from './types.js';

const endpointAddress: Format = {
  title: 'address',
  expected: ADDRESS,
  accepts: (written) => serverAddress(written) !== undefined,
};

const spiffeId: Format = {
  title: 'SPIFFE id',
  expected: 'a SPIFFE id such as spiffe://mesh.local/ns/default/sa/basket',
  accepts: isSpiffeId,
};

const endpoint = part('Endpoint', 'One endpoint.', {
  address: must(text(endpointAddress), 'Where it answers.'),
  weight: may(wholeNumber(1, MAX_WEIGHT), 'Its share.', { default: 1 }),
  draining: may(flag(), 'Whether it gets nothing new.', { default: false }),
  ports: may(list(wholeNumber(1, 65_535), 'ports'), 'The ports of its service that it answers for.', {
    default: 'all',
  }),
  identity: may(text(spiffeId), 'The SPIFFE id that it must prove.'),
});

const schema = list(
  z.union([text(endpointAddress), endpoint], { error: 'expected an address, or { address }' }),
  'endpoints',
).max(MAX_ENDPOINTS, { error: `expected at most ${MAX_ENDPOINTS} endpoints` });

/** What a file says. */
export interface EndpointFile {
  readonly endpoints: readonly EndpointLike[];
  readonly hash: string;
}

/**
 * Reads a list of endpoints.
 *
 * @throws {ConfigError} with every mistake in its place
 */
export function parseEndpoints(source: string, { file }: { file?: string } = {}): EndpointFile {
  const { value, origin } = readDocument(source, file);
  // Nobody empties a service by emptying a file: that takes a list with nothing in it.
  if (value === null || value === undefined)
    throw refusal([whole('the file is empty: expected a list of endpoints, [] for none')], origin);
  const result = schema.safeParse(value, { reportInput: true });
  if (!result.success) throw refusal(fromSchema(result.error.issues, [endpointAddress, spiffeId]), origin);
  return {
    endpoints: result.data as EndpointLike[],
    hash: createHash('sha256').update(source).digest('hex'),
  };
}

/** Follows a file. */
export function fileSource(file: string): Source {
  return async function* (signal) {
    for await (const { config, error } of new ConfigWatcher(file, parseEndpoints, { signal })) {
      yield error ? { problem: error } : { set: config.endpoints };
    }
  };
}
