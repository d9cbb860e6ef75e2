// Are gRPC's own clients, in Node and in Go, driven by our control plane? They speak states of the world.

import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import grpc from '@grpc/grpc-js';
import test, { type ExecutionContext } from 'ava';
import { Ports, Shell, example, printed } from '../docs/support.js';
import { Mesh } from '../mesh/support.js';
import { start } from '../support/processes.js';
import { PATIENCE_MS, until, within } from '../support/wait.js';
import { basket, named, plane } from './support.js';

const GRPC_GO = process.env['TEST_GRPC_GO'] ?? '';
const NODE_CLIENT = new URL('programs/grpc-node.js', import.meta.url).pathname;

/** A client as a process: a method in, what came of it out. */
class Client {
  readonly #lines: AsyncIterator<string>;
  readonly #process;

  private constructor(t: ExecutionContext, [program, ...args]: readonly string[], bootstrap: string) {
    this.#process = start(t, String(program), args, {
      env: { ...process.env, GRPC_XDS_BOOTSTRAP_CONFIG: bootstrap },
    });
    this.#lines = createInterface(this.#process.child.stdout)[Symbol.asyncIterator]();
  }

  /** One that the manual's bootstrap leads to the control plane at this port. */
  static async start(t: ExecutionContext, command: readonly string[], port: number, name = 'basket:80') {
    const bootstrap = await new Ports({ 4145: port }).in(example('docs/xds.md', 'bootstrap'));
    return new Client(t, [...command, `xds:///${name}`], bootstrap);
  }

  async call(method: 'Say' | 'Other'): Promise<string> {
    this.#process.child.stdin.write(`/test.Names/${method}\n`);
    const line = await within(
      `an answer of the client, which said ${this.#process.stderr()}`,
      this.#lines.next(),
    );
    return String(line.value);
  }

  /** Calls until that is the answer. */
  async until(method: 'Say' | 'Other', answer: RegExp): Promise<void> {
    let last = '';
    await until(`${method} to be ${answer}`, async () => answer.test((last = await this.call(method)))).catch(
      (error: unknown) => {
        throw new Error(`${String(error)}; last: ${last}`);
      },
    );
  }
}

interface Kind {
  readonly command: readonly [string, ...string[]];
  /** Whether a listener that comes back as it was is something new to it. grpc-js 1.14 accepts it, and goes on without. */
  readonly takesBack: boolean;
}

const clients: Record<string, Kind> = {
  'grpc-js': { command: [process.execPath, NODE_CLIENT], takesBack: false },
  'grpc-go': { command: [GRPC_GO], takesBack: true },
};

test('without TLS resources are told, and nothing else', async (t) => {
  const { port } = await plane(t);
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  t.teardown(() => client.close());
  const asIs = (bytes: Buffer): Buffer => bytes;
  for (const method of ['/mesh.v1.Identity/Sign', '/mesh.v1.Sidecar/Report']) {
    const code = await new Promise((resolve) => {
      const deadline = Date.now() + PATIENCE_MS;
      client.makeUnaryRequest(method, asIs, asIs, Buffer.alloc(0), { deadline }, (error) =>
        resolve(error?.code),
      );
    });
    t.is(code, grpc.status.PERMISSION_DENIED, method);
  }
  await t.throwsAsync(Mesh.start(t, { plaintextXds: ['0.0.0.0:0'] }), { message: /loopback alone/ });
});

test('docs/xds.md: a client of gRPC calls a service outside of the mesh', async (t) => {
  t.timeout(2 * PATIENCE_MS);
  const billing = await named(t, 'billing');
  const ports = new Ports({ 443: Number(billing.split(':')[1]) });
  const shell = await Shell.open(t, ports, { MESH_LISTEN: '127.0.0.1:0' });
  await shell.write(
    'mesh.yaml',
    'services: { billing: { address: 127.0.0.1:443, port: 443, protocol: http2 } }\n',
  );
  const control = await shell.stay(example('docs/xds.md', 'plaintext'));
  await printed(control, /the control plane listens on/);
  const client = await Client.start(
    t,
    [process.execPath, NODE_CLIENT],
    await ports.of('4145'),
    'billing:443',
  );
  t.is(await client.call('Say'), 'answer billing');
});

for (const [name, { command, takesBack }] of Object.entries(clients)) {
  if (!existsSync(command.at(-1) ?? '')) {
    test.skip(`${name}: it was not built, which needs Go`, () => {});
    continue;
  }
  test(`${name}: names, routes and endpoints, as they change`, async (t) => {
    t.timeout(3 * PATIENCE_MS);
    const [one, two, three] = [await named(t, 'one'), await named(t, 'two'), await named(t, 'three')];
    const { mesh, port } = await plane(t);
    mesh.control.apply(basket([one], [three]));
    const client = await Client.start(t, command, port);
    t.is(await client.call('Say'), 'answer one');
    t.is(await client.call('Other'), 'answer three');
    mesh.control.apply(basket([two], [three]));
    await client.until('Say', /^answer two$/);
    t.is(await client.call('Other'), 'answer three');
    mesh.control.apply(basket([two], [one]));
    await client.until('Other', /^answer one$/);
    // No endpoints are honoured: the call fails, and says so.
    mesh.control.apply(basket([], [one]));
    await client.until('Say', /^error (14|Unavailable)/);
    mesh.control.apply(basket([two], [one]));
    await client.until('Say', /^answer two$/);
    mesh.control.apply({ delete: { services: ['basket:80'] } });
    await client.until('Say', /^error (14|Unavailable)/);
    mesh.control.apply(basket([one], [one]));
    if (takesBack) await client.until('Say', /^answer one$/);
    t.deepEqual(
      mesh.events.filter(({ kind }) => kind === 'nack'),
      [],
    );
  });

  test(`${name}: what it refuses is told with its reason`, async (t) => {
    t.timeout(3 * PATIENCE_MS);
    const { mesh, port } = await plane(t);
    // Workloads are reached by certificates of the mesh, of which it has none: it fails closed.
    mesh.serve('basket', ['127.0.0.1:1'], 80, 'http2');
    const client = await Client.start(t, command, port);
    await client.until('Say', /^error /);
    const nack = await mesh.happened('nack', (event) => event['node'] === 'web-1');
    const [first] = nack['nacks'] as { name: string; reason: string }[];
    t.is(first?.name, 'basket.shop:80');
    t.not(first?.reason, '');
  });
}
