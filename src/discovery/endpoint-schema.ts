/** How are endpoints written in a file, whether a mesh file or a list of their own? */

import { z } from 'zod';
import { type Format, addressMeant, isSpiffeId } from '../config/formats.js';
import { flag, list, may, must, part, text, whole } from '../config/schema-kit.js';
import { ADDRESS, MAX_ENDPOINTS, MAX_WEIGHT, serverAddress } from './endpoints.js';

const endpointAddress: Format = {
  title: 'address',
  expected: ADDRESS,
  accepts: (written) => serverAddress(written) !== undefined,
  // A name is none here, `localhost` neither.
  advise: (received) => addressMeant(received, (port) => `write 127.0.0.1:${port}`),
};

const spiffeId: Format = {
  title: 'SPIFFE id',
  expected: 'a SPIFFE id such as spiffe://mesh.local/ns/default/sa/basket',
  accepts: isSpiffeId,
};

/** The formats in it. */
export const endpointFormats: readonly Format[] = [endpointAddress, spiffeId];

const endpoint = part('DiscoveredEndpoint', 'One endpoint.', {
  address: must(text(endpointAddress), 'Where it answers.'),
  weight: may(whole(1, MAX_WEIGHT, 'draining: true takes it out'), 'Its share.', { default: 1 }),
  draining: may(flag(), 'Whether it gets nothing new.', { default: false }),
  ports: may(list(whole(1, 65_535), 'ports'), 'The ports of its service that it answers for.', {
    default: 'all',
  }),
  identity: may(text(spiffeId), 'The SPIFFE id that it must prove.'),
});

/** A list of endpoints. */
export const endpointList = list(
  z.union([text(endpointAddress), endpoint], { error: 'expected an address, or { address }' }),
  'endpoints',
).max(MAX_ENDPOINTS, { error: `expected at most ${MAX_ENDPOINTS} endpoints` });
