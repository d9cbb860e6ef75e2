// A client of gRPC that finds its servers by xDS: GRPC_XDS_BOOTSTRAP_CONFIG says where it asks. It calls the target of its
// first argument: a line of its input is a method, a line of its output what came of it.

import { createInterface } from 'node:readline';
import grpc from '@grpc/grpc-js';
import xds from '@grpc/grpc-js-xds';

/** The first call waits for all that a process has to learn. */
const DEADLINE_MS = 15_000;
const asIs = (bytes: Buffer): Buffer => bytes;

xds.register();
const client = new grpc.Client(process.argv[2] ?? '', grpc.credentials.createInsecure());
for await (const method of createInterface(process.stdin)) {
  const line = await new Promise<string>((resolve) => {
    const deadline = Date.now() + DEADLINE_MS;
    client.makeUnaryRequest(method, asIs, asIs, Buffer.from('who?'), { deadline }, (error, answer) =>
      resolve(error ? `error ${error.code}: ${error.details}` : `answer ${answer?.toString()}`),
    );
  });
  process.stdout.write(`${line.replaceAll('\n', ' ')}\n`);
}
