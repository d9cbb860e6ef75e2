/**
 * Endpoints in a file, YAML or JSON, that is watched.
 *
 *     - 10.0.0.7:4143
 *     - { address: 10.0.0.8:4143, weight: 2 }
 *
 * A file that is wrong changes nothing: every mistake is told with its line and its field, and the last good one serves.
 */

import { createHash } from 'node:crypto';
import { fromSchema } from '../config/issues.js';
import { readDocument, refusal, whole } from '../config/origin.js';
import { ConfigWatcher } from '../config/watch.js';
import { OptionError } from '../errors.js';
import { endpointFormats, endpointList } from './endpoint-schema.js';
import type { EndpointLike, Source } from './types.js';

/** What a file says. */
interface EndpointFile {
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
  const result = endpointList.safeParse(value, { reportInput: true });
  if (!result.success) throw refusal(fromSchema(result.error.issues, endpointFormats), origin);
  return {
    endpoints: result.data as EndpointLike[],
    hash: createHash('sha256').update(source).digest('hex'),
  };
}

/**
 * Follows a list of endpoints in a file, YAML or JSON. What is wrong in it is told, and the last good one serves.
 *
 * @throws {OptionError} `file` is no path
 */
export function fileSource(file: string): Source {
  if (typeof file !== 'string' || file === '') throw new OptionError('file', 'the path of a file', file);
  return async function* (signal) {
    for await (const { config, error } of new ConfigWatcher(file, parseEndpoints, { signal })) {
      yield error ? { problem: error } : { set: config.endpoints };
    }
  };
}
