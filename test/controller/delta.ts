// What does a control plane answer to somebody who has something already? One question of xDS, by hand.

import { once } from 'node:events';
import grpc from '@grpc/grpc-js';
import { fields, message, texts } from '../mesh/hostile/protobuf.js';
import { PATIENCE_MS, within } from '../support/wait.js';

const METHOD = '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources';
const asIs = (bytes: Buffer): Buffer => bytes;

/** Versions of resources, by name. */
export type Versions = Readonly<Record<string, string>>;

/** Asks an address without TLS for resources of a type, and says which versions are had; the first answer. */
export async function answer(
  address: string,
  type: string,
  names: readonly string[],
  has: Versions = {},
): Promise<Versions> {
  const client = new grpc.Client(address, grpc.credentials.createInsecure());
  const call = client.makeBidiStreamRequest(METHOD, asIs, asIs, { deadline: Date.now() + PATIENCE_MS });
  try {
    call.write(
      message(
        [1, message([1, 'somebody'])],
        [2, `type.googleapis.com/${type}`],
        ...names.map((name) => [3, name] as const),
        ...Object.entries(has).map(([name, version]) => [5, message([1, name], [2, version])] as const),
      ),
    );
    const [bytes] = (await within(`an answer about ${type}`, once(call, 'data'))) as [Buffer];
    const resources = (fields(bytes).get(2) ?? []).map((resource) => fields(resource as Buffer));
    return Object.fromEntries(resources.map((each) => [texts(each, 3)[0] ?? '', texts(each, 1)[0] ?? '']));
  } finally {
    call.on('error', () => {}).cancel();
    client.close();
  }
}
