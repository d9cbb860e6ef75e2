// What is driven by our control plane and was not written by us? gRPC servers that say their name, and a mesh of names
// that lead to them.

import grpc, { type ServiceDefinition } from '@grpc/grpc-js';
import type { ExecutionContext } from 'ava';
import type { MeshBatch } from '../../src/mesh/control-plane.js';
import { Mesh } from '../mesh/support.js';

const asIs = (bytes: Buffer): Buffer => bytes;

/** A method whose messages are bytes. */
export const method = (name: string) => ({
  path: `/test.Names/${name}`,
  requestStream: false,
  responseStream: false,
  requestSerialize: asIs,
  requestDeserialize: asIs,
  responseSerialize: asIs,
  responseDeserialize: asIs,
});

/** A gRPC server that answers each call with its name. It ends with the test. Gives its address. */
export async function named(t: ExecutionContext, name: string): Promise<string> {
  const server = new grpc.Server();
  const says = (_: unknown, done: grpc.sendUnaryData<Buffer>): void => done(null, Buffer.from(name));
  const service = { say: method('Say'), other: method('Other') } satisfies ServiceDefinition;
  server.addService(service, { say: says, other: says });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  t.teardown(() => server.forceShutdown());
  return `127.0.0.1:${port}`;
}

/** A control plane that tells resources without TLS too. */
export async function plane(t: ExecutionContext): Promise<{ mesh: Mesh; port: number }> {
  const mesh = await Mesh.start(t, { plaintextXds: ['127.0.0.1:0'] });
  const port = Number(mesh.control.plaintextXds[0]?.split(':').at(-1));
  return { mesh, port };
}

/** `basket:80`: the method Other goes to one cluster, the rest to another. Both are servers outside of the mesh. */
export function basket(say: readonly string[], other: readonly string[]): MeshBatch {
  const to = (cluster: string) => ({ kind: 'forward' as const, to: [{ cluster }] });
  const endpointsOf = (cluster: string, addresses: readonly string[]) => ({
    cluster,
    localities: [{ zone: 'here', endpoints: addresses.map((address) => ({ address })) }],
  });
  return {
    upsert: {
      routeTables: [
        {
          name: 'basket',
          virtualHosts: [
            {
              hosts: ['*'],
              routes: [
                {
                  name: 'other',
                  match: { path: { kind: 'exact', value: '/test.Names/Other' } },
                  action: to('other'),
                },
                { name: 'say', action: to('say') },
              ],
            },
          ],
        },
      ],
      clusters: [
        { name: 'say', protocol: 'http2' },
        { name: 'other', protocol: 'http2' },
      ],
      endpoints: [endpointsOf('say', say), endpointsOf('other', other)],
      services: [{ name: 'basket:80', routeTable: 'basket' }],
    },
  };
}
