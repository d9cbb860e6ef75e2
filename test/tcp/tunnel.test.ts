// Do bytes pass both ways, whole, each end in its own time?

import { createHash, randomBytes, randomInt } from 'node:crypto';
import { readdirSync, readlinkSync } from 'node:fs';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { startEmbedded } from '../support/embedded.js';
import { must, start } from '../support/processes.js';
import { startSidecar, web } from '../support/sidecar.js';
import { type Peer, connect, tcpServer } from '../support/tcp.js';
import { traced } from '../support/trace.js';
import { PATIENCE_MS, until, within } from '../support/wait.js';

const hash = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Sends random bytes in random pieces and the end; gives their hash. */
async function babble(peer: Peer, total: number): Promise<string> {
  const bytes = randomBytes(total);
  for (let at = 0; at < total;) {
    const next = Math.min(total, at + randomInt(1, randomInt(2, 300_000)));
    await peer.send(bytes.subarray(at, next));
    if (randomInt(3) === 0) await turn();
    at = next;
  }
  peer.end();
  return hash(bytes);
}

test('random bytes both ways at once, in random pieces', async (t) => {
  const sent: Promise<string>[] = [];
  const server = await tcpServer(t, (peer) => {
    sent.push(babble(peer, randomInt(0, 3_000_000)));
  });
  const proxy = await startSidecar(t, web({ protocol: 'tcp', tcp: server.address }));
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      const peer = await connect(t, proxy.port());
      const up = await babble(peer, randomInt(0, 3_000_000));
      const down = hash(Buffer.from(await peer.readToEnd(), 'latin1'));
      t.true((await Promise.all(sent)).includes(down));
      await until('the server has it all', () =>
        server.peers.some((candidate) => candidate.ended && hash(candidate.peek()) === up),
      );
    }),
  );
});

test('a client that ends its side goes on reading; a server likewise', async (t) => {
  const server = await tcpServer(t, async (peer, number) => {
    if (number === 0) {
      const question = await peer.readToEnd();
      for (let n = 0; n < 5; n += 1) await peer.send(`${question}${n};`);
      peer.end();
    } else {
      peer.end('bye');
      peer.socket.resume();
    }
  });
  const proxy = await startSidecar(t, web({ protocol: 'tcp', tcp: server.address }));
  const asks = await connect(t, proxy.port());
  asks.end('q');
  t.is(await asks.readToEnd(), 'q0;q1;q2;q3;q4;');

  const told = await connect(t, proxy.port());
  t.is(await told.readToEnd(), 'bye');
  const upstream = await server.accepted(1);
  t.false(upstream.ended);
  await told.send('still here');
  t.is((await upstream.read(10)).toString(), 'still here');
  told.end();
  await upstream.gone();
});

for (const side of ['client', 'server'] as const) {
  test(`a reset by the ${side} resets the other side`, async (t) => {
    const server = await tcpServer(t);
    const proxy = await startEmbedded(t, web({ protocol: 'tcp', tcp: server.address }));
    const peer = await connect(t, proxy.port());
    await peer.send('hello');
    const upstream = await server.accepted();
    await upstream.read(5);
    await upstream.send('hi');
    await peer.read(2);
    const [breaks, sees] = side === 'client' ? [peer, upstream] : [upstream, peer];
    breaks.reset();
    await until('the other side sees it', () => sees.closed);
    t.is(sees.error?.code, 'ECONNRESET');
    await proxy.endedBy(side === 'client' ? 'client_closed' : 'upstream_incomplete');
    await proxy.closedBy(side === 'client' ? 'client_closed' : 'upstream_incomplete');
  });
}

/** Breaks streams off whose side nobody reads. Node does not say what comes behind an end, so this is in Python. */
const RESETS = `
import select, socket, struct, sys
server = socket.socket(); server.bind(('127.0.0.1', 0)); server.listen(9)
print(server.getsockname()[1], file=sys.stderr, flush=True)
port = int(sys.stdin.readline())
def pair():
    client = socket.create_connection(('127.0.0.1', port)); client.send(b'\\0')
    accepted, _ = server.accept(); accepted.recv(1)
    return client, accepted
def fill(one):
    one.setblocking(False)
    while select.select([], [one], [], 0.3)[1]: one.send(b'x' * 65536)
def ends(one, other):
    one.shutdown(socket.SHUT_WR)
    while other.recv(65536): pass
def both(one, other):
    fill(one); fill(other)
def ends_while_blocked(one, other):
    fill(other); other.setblocking(True); ends(one, other)
for name, before in [('ends', ends), ('blocked', lambda one, other: fill(one)), ('both blocked', both), ('ends while blocked', ends_while_blocked)]:
    for side in (0, 1):
        streams = pair(); one, other = streams[side], streams[1 - side]
        before(one, other)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); one.close()
        poll = select.poll(); poll.register(other, 0)
        print(name, side, 'reset' if poll.poll(10000) and other.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) else 'nothing')
`;

test('a reset comes through though nobody reads: behind an end, or while the other side takes no more', async (t) => {
  const peers = start(t, 'python3', ['-c', RESETS]);
  const [, port] = await peers.said(/^(\d+)$/m);
  const proxy = await startSidecar(t, web({ protocol: 'tcp', tcp: `127.0.0.1:${port}` }));
  peers.child.stdin.write(`${proxy.port()}\n`);
  await within('the end of all streams', peers.exit);
  t.deepEqual(
    peers.stdout().toString().trim().split('\n'),
    ['ends', 'blocked', 'both blocked', 'ends while blocked'].flatMap((name) => [
      `${name} 0 reset`,
      `${name} 1 reset`,
    ]),
  );
});

test('a server that resets while the client writes: it is the server that is blamed', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    await peer.read(100_000);
    peer.reset();
  });
  const proxy = await startEmbedded(t, web({ protocol: 'tcp', tcp: server.address }));
  const peer = await connect(t, proxy.port());
  peer.socket.write(Buffer.alloc(20_000_000));
  await proxy.closedBy('upstream_incomplete');
  t.deepEqual(Object.keys((await proxy.listener()).closedBy), ['upstream_incomplete']);
});

test('idle: a stream on which nothing moves ends, and one that moves does not', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    for (;;) await peer.send(await peer.read(1));
  });
  const proxy = await startEmbedded(
    t,
    web({ protocol: 'tcp', tcp: server.address, timeouts: { tcpIdle: '8s' } }),
  );
  const idle = await connect(t, proxy.port());
  await idle.send('x');
  await idle.read(1);
  const busy = await connect(t, proxy.port());
  await until('the idle one ends', async () => {
    await busy.send('y');
    await busy.read(1);
    return idle.ended || idle.closed;
  });
  await proxy.closedBy('idle_timeout');
  await proxy.endedBy('idle_timeout');
  await (await server.accepted(0)).gone();
  await busy.send('z');
  t.is((await busy.read(1)).toString(), 'z');
});

test('a slow reader slows its writer, and memory stays; it falls back when the streams are idle', async (t) => {
  t.timeout(120_000);
  let written = 0;
  const server = await tcpServer(t, async (peer) => {
    const block = Buffer.alloc(1024 * 1024);
    for (let n = 0; n < 200; n += 1) {
      await peer.send(block);
      written += block.length;
    }
  });
  const proxy = await startSidecar(t, web({ protocol: 'tcp', tcp: server.address }));
  const before = proxy.residentBytes();
  const peers = await Promise.all(Array.from({ length: 10 }, () => connect(t, proxy.port())));
  for (const { socket } of peers) {
    socket.removeAllListeners('data');
    socket.pause();
  }
  let last = -1;
  await until('the writers are held back', async () => {
    const now = written;
    const same = now === last;
    last = now;
    await sleep(300);
    return same && server.peers.length === 10;
  });
  // Ten streams with a large buffer each way, at most.
  t.true(
    proxy.residentBytes() - before < 10 * 2 * 256 * 1024 + 2_000_000,
    `${proxy.residentBytes() - before} bytes`,
  );
  let read = 0;
  for (const { socket } of peers) {
    socket.on('data', (chunk: Buffer) => {
      read += chunk.length;
    });
    socket.resume();
  }
  const total = 10 * 200 * 1024 * 1024;
  let peak = 0;
  await until(
    'all arrives',
    () => {
      peak = Math.max(peak, proxy.residentBytes() - before);
      return read === total;
    },
    60_000,
  );
  t.true(peak < 10 * 2 * 256 * 1024 + 2_000_000, `${peak} bytes`);
  // The streams are open, and hold no buffer any more.
  await until('memory falls back', () => proxy.residentBytes() - before < 2_000_000);
});

test('bulk moves in large pieces, and small talk in small ones', async (t) => {
  // Each of its many calls is traced.
  t.timeout(6 * PATIENCE_MS);
  const total = 64 * 1024 * 1024;
  const server = await tcpServer(t, async (peer) => {
    await peer.send('hello');
    await peer.read(2);
    peer.socket.end(Buffer.alloc(total));
  });
  const proxy = await startSidecar(t, web({ protocol: 'tcp', tcp: server.address }));
  const trace = await traced(t, proxy.pid, 'recvfrom,splice');
  /** The sizes that were asked for. */
  const asked = (): number[] =>
    [...trace.read().matchAll(/(?:recvfrom\(.*?|splice\(.*), (\d+), /g)].map(([, size]) => Number(size));
  const peer = await connect(t, proxy.port());
  await peer.read(5);
  await until('small talk is seen', () => asked().length > 0);
  t.true(Math.max(...asked()) <= 16 * 1024, String(asked()));
  let read = 0;
  peer.socket.removeAllListeners('data');
  peer.socket.on('data', (chunk: Buffer) => {
    read += chunk.length;
  });
  await peer.send('go');
  await until('all arrives', () => read === total, 3 * PATIENCE_MS);
  await trace.stop();
  t.true(Math.max(...asked()) >= 256 * 1024);
  // Each byte is moved twice: into a pipe and out of it.
  const moved = [...trace.read().matchAll(/splice.* = (\d+)$/gm)].map(([, bytes]) => Number(bytes));
  const spliced = moved.reduce((sum, bytes) => sum + bytes, 0);
  t.true(spliced >= total, `splice moved ${spliced} of twice ${total} bytes`);
});

test('both sockets have no Nagle delay, and keep-alive probes', async (t) => {
  const server = await tcpServer(t);
  const proxy = await startSidecar(t, web({ protocol: 'tcp', tcp: server.address }));
  const trace = await traced(t, proxy.pid, 'setsockopt');
  const peer = await connect(t, proxy.port());
  await peer.send('x');
  await (await server.accepted()).read(1);
  // The proxy's ends of its two connections, with their timers.
  const out = await must('ss', ['-tnope', 'state', 'established']);
  const own = out.split('\n').filter((line) => line.includes(`pid=${proxy.pid},`));
  t.is(own.length, 2, out);
  for (const line of own) t.regex(line, /timer:\(keepalive,/);
  await trace.stop();
  t.is(trace.read().match(/TCP_NODELAY, \[1\]/g)?.length, 2);
});

test('a stream’s bytes are counted, and the endpoint’s streams while they last', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    await peer.readToEnd();
    peer.end('x'.repeat(500));
  });
  const proxy = await startEmbedded(
    t,
    web({ protocol: 'tcp', tcp: 'db' }, { clusters: { db: { endpoints: [server.address] } } }),
  );
  const peer = await connect(t, proxy.port());
  await peer.send('y'.repeat(300));
  await until('it is open', async () => (await proxy.cluster('db')).endpoints[0]?.active === 1);
  peer.end();
  t.is((await peer.readToEnd()).length, 500);
  const route = await until('it is counted', async () =>
    (await proxy.routes()).find((candidate) => candidate.active === 0),
  );
  await until('the endpoint has none', async () => (await proxy.cluster('db')).endpoints[0]?.active === 0);
  t.like(route, {
    protocol: 'tcp',
    cluster: 'db',
    requests: 1,
    bytesReceived: 300,
    bytesSent: 500,
    failures: 0,
  });
});

test('no descriptor is left behind', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    peer.end(await peer.readToEnd());
  });
  const proxy = await startSidecar(t, web({ protocol: 'tcp', tcp: server.address }));
  const sockets = (): number =>
    readdirSync(`/proc/${proxy.pid}/fd`).filter((fd) => {
      try {
        return readlinkSync(`/proc/${proxy.pid}/fd/${fd}`).startsWith('socket:');
      } catch {
        return false;
      }
    }).length;
  const before = sockets();
  for (let n = 0; n < 50; n += 1) {
    const peer = await connect(t, proxy.port());
    if (n % 3 === 0) peer.reset();
    else {
      peer.end('hello');
      t.is(await peer.readToEnd(), 'hello');
    }
  }
  await until('all are closed', () => sockets() === before);
  t.pass();
});
