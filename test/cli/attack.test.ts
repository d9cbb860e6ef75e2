// Does `mesh attack` see who holds and who falls for things, only attack what is yours, and come to an end?

import { readFileSync, writeFileSync } from 'node:fs';
import http2 from 'node:http2';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { ownAddresses, placeOf } from '../../src/attack/addresses.js';
import { Deadline, MOST_BYTES, MOST_CONNECTIONS, VERDICT_MS } from '../../src/attack/bounds.js';
import { CODE, TYPE, code as codeOf, frame, framesIn } from '../../src/attack/frames.js';
import { ROWS, RefusedTargetError, type Report } from '../../src/attack/index.js';
import { Target } from '../../src/attack/target.js';
import { recorder } from '../attacks/support.js';
import { Authority } from '../support/certificates.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin } from '../support/http.js';
import { startSidecar } from '../support/sidecar.js';
import { type Peer, type TcpServer, closedPort, tcpServer } from '../support/tcp.js';
import { FakeWorld } from './world.js';

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

/** Rows that a client can see at a target that speaks both versions of HTTP. */
const SEEN = ROWS.filter(({ check }) => typeof check === 'string').map(({ number }) => number);

const attack = (...args: string[]) => new FakeWorld().run('attack', ...args);

/** Attacks; what a program is told, and how it ended. */
async function report(...args: string[]): Promise<Report & { code: number }> {
  const { code, stdout } = await attack(...args, '-o', 'json');
  return { ...(JSON.parse(stdout) as Report), code };
}

const rowsOf = ({ rows }: Report, wanted: string): number[] =>
  rows.filter(({ verdict }) => verdict === wanted).map(({ row }) => row);

/** A server of bytes that answers each head it reads, whatever it says, and looks at nothing else. */
function naive(
  t: ExecutionContext,
  look: (head: string, peer: Peer) => unknown = () => {},
): Promise<TcpServer> {
  return tcpServer(t, async (peer) => {
    for (;;) {
      const head = await peer.readUntil('\r\n\r\n');
      await look(head, peer);
      await peer.send(OK);
    }
  });
}

test('our own proxy holds, plain and by TLS', async (t) => {
  const server = await recorder(t);
  const authority = await Authority.create(t);
  const { certificate, key } = await authority.sign({ names: ['localhost', 'IP:127.0.0.1'] });
  const common = {
    address: '127.0.0.1:0',
    routes: [{ to: server.address }],
    timeouts: { header: '2s', handshake: '2s' },
  };
  const proxy = await startSidecar(t, {
    listeners: [
      { ...common, name: 'plain' },
      { ...common, name: 'tls', tls: { certificate, key } },
    ],
  });
  for (const args of [
    [`${proxy.url('plain')}/some?where`],
    [`https://localhost:${proxy.port('tls')}/`, '--ca', authority.root],
    [`${proxy.url('tls', 'https')}/`, '--insecure'],
  ]) {
    const found = await report(...args, '--slow');
    t.deepEqual(
      found.rows.filter(({ verdict }) => verdict === 'failed'),
      [],
    );
    t.like(found, { code: 0, failed: 0, complete: true, address: '127.0.0.1' });
    t.deepEqual(rowsOf(found, 'held'), SEEN);
  }
  const foreign = await attack(`https://localhost:${proxy.port('tls')}/`);
  t.is(foreign.code, 1);
  t.regex(
    foreign.stderr,
    /^error: https:\/\/localhost:\d+ can't be reached: .*; give its roots by --ca FILE, .*--insecure\n$/,
  );
});

test("Node's http: what it takes for a good request is told, and what it can't speak is skipped", async (t) => {
  const origin = await httpOrigin(t, (_, response) => response.end('ok'));
  const found = await report(`http://${origin.address}/`, '--only', '1,16,21');
  t.like(found, { code: 1, failed: 1, skipped: 2, complete: true });
  const [rapid, lines, split] = found.rows;
  t.like(rapid, { row: 1, verdict: 'skipped', why: 'no HTTP/2 is spoken there' });
  t.is(split?.why, 'needs the server behind it: it is the one that attacks');
  t.is(lines?.verdict, 'failed');
  t.like(
    lines?.attacks.find(({ name }) => name === 'a fragment'),
    { verdict: 'failed', happened: '200, and 200 to what was hidden behind it' },
  );
  t.like(
    lines?.attacks.find(({ name }) => name === 'HTTP/1.32'),
    { verdict: 'held', happened: '400 and close' },
  );
});

test("Node's http2: floods that it bears are told", async (t) => {
  const server = http2.createServer((_, response) => response.end('ok'));
  const url = await listen(t, server);
  const found = await report(url, '--only', '6,7,12');
  t.is(found.code, 1);
  t.deepEqual(rowsOf(found, 'failed'), [6, 7]);
  t.is(found.rows[2]?.why, 'no HTTP/1 is spoken there');
});

test('a server that falls for everything fails every row, and the bounds hold', async (t) => {
  let most = 0;
  let bytes = 0;
  const server = await naive(t, (head) => {
    most = Math.max(most, server.peers.filter(({ closed }) => !closed).length);
    bytes += head.length;
  });
  const found = await report(`http://${server.address}/`, '--only', '12,13,14,15,16');
  t.is(found.code, 1);
  t.deepEqual(rowsOf(found, 'failed'), [12, 13, 14, 15, 16]);
  t.is(found.rows[0]?.attacks[0]?.happened, '200, and 200 to what was hidden behind it');
  t.true(most <= MOST_CONNECTIONS, `${most} connections at once`);
  t.true(bytes <= MOST_BYTES, `${bytes} bytes`);
});

for (const [what, answers, happened] of [
  ['leaves the connection open', 1, '400, but the connection stays open'],
  ['is followed by another answer', 2, '400, and 400 to what was hidden behind it'],
] as const) {
  test(`a refusal that ${what} is none`, async (t) => {
    const isOrdinary = (head: string): boolean =>
      /^GET \/ .*\r\nHost: .*\r\nConnection: close\r\n/.test(head);
    const server = await tcpServer(t, async (peer) => {
      for (let left = answers; left > 0; left -= 1) {
        const head = await peer.readUntil('\r\n\r\n');
        await peer.send(isOrdinary(head) ? OK : 'HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n');
      }
    });
    const found = await report(`http://${server.address}/`, '--only', '13', '--timeout', '5s');
    t.is(found.rows[0]?.attacks[0]?.happened, happened);
    t.is(found.code, 1);
  });
}

test('a length that is read as octal is seen by the request behind it', async (t) => {
  const server = await tcpServer(t, async (peer) => {
    for (;;) {
      const head = await peer.readUntil('\r\n\r\n');
      const [, length] = /^content-length: (0\d+)\r$/im.exec(head) ?? [];
      if (length !== undefined) await peer.read(Number.parseInt(length, 8));
      if (!/^(GET|POST) /.test(head)) return peer.end('HTTP/1.1 400 Bad Request\r\n\r\n');
      await peer.send(OK);
    }
  });
  const found = await report(`http://${server.address}/`, '--only', '13');
  t.like(
    found.rows[0]?.attacks.find(({ name }) => name === 'leading zeros are decimal'),
    {
      verdict: 'failed',
      happened: '200, and 400 to the next request: it was read otherwise than it was sent',
    },
  );
});

test('who no longer answers has failed, and nothing more is told of it', async (t) => {
  const server = await naive(t, (head, { socket }) => {
    if (!/^transfer-encoding/im.test(head)) return;
    server.close();
    for (const peer of server.peers) peer.socket.destroy();
    socket.destroy();
  });
  const found = await report(`http://${server.address}/`, '--only', '12,13');
  t.like(found, { code: 1, failed: 1, skipped: 1, complete: false });
  t.is(found.rows[0]?.happened, 'CL.TE: close; then it no longer answers');
  t.is(found.rows[1]?.why, 'it no longer answers');
});

test('a server that hangs is left when the time is up', async (t) => {
  // Long enough for what comes before, also when this process stands still for a while; too short for a verdict.
  const timeout = ['--timeout', `${VERDICT_MS - 200}ms`];
  const silent = await tcpServer(t);
  const nothing = await attack(`http://${silent.address}/`, ...timeout);
  t.deepEqual([nothing.code, nothing.stdout], [1, '']);
  t.regex(
    nothing.stderr,
    /^error: http:\S+ can't be judged: an ordinary request over HTTP\/1 is not answered; .*\n$/,
  );

  const amid = await naive(t, (head) => (head.startsWith('GET / ') ? undefined : new Promise(() => {})));
  const found = await report(`http://${amid.address}/`, '--only', '12,13', ...timeout);
  t.like(found, { code: 1, failed: 1, skipped: 1, complete: false });
  t.is(found.rows[0]?.happened, 'CL.TE: no verdict before the time was up');
  t.is(found.rows[1]?.why, 'the time was up');
});

test('a frame that is too short to hold a code is read as one that blames nobody', (t) => {
  for (const type of [TYPE.goaway, TYPE.reset]) {
    const [short] = framesIn(frame(type, 0, 0, Buffer.alloc(3)));
    t.is(short && codeOf(short), CODE.none);
  }
});

for (const status of [431, 503, 400]) {
  test(`a target that answers an ordinary request by ${status} can not be judged`, async (t) => {
    const plain = await httpOrigin(t, (_, response) => response.writeHead(status).end());
    const server = http2.createServer((_, response) => void response.writeHead(status).end());
    for (const [url, version] of [
      [`http://${plain.address}/`, 1],
      [await listen(t, server), 2],
    ] as const) {
      const { code, stderr } = await attack(url);
      t.is(code, 1);
      t.true(stderr.includes(`an ordinary request over HTTP/${version} is answered by ${status}`), stderr);
    }
  });
}

test('only what is yours is attacked', async (t) => {
  for (const [url, said] of [
    [
      'http://192.0.2.1/',
      /^error: 192\.0\.2\.1 is a public address, and mesh attack only attacks what is yours: .*\n$/,
    ],
    ['http://[2001:db8::1]:8080/', /^error: 2001:db8::1 is a public address, /],
    ['http://[::ffff:192.0.2.1]/', /^error: ::ffff:c000:201 is a public address, /],
    ['http://10.255.255.1/', /^error: 10\.255\.255\.1 is not this machine, .*: say --network if it is\n$/],
  ] as const) {
    const { code, stdout, stderr } = await attack(url);
    t.deepEqual([code, stdout], [64, ''], url);
    t.regex(stderr, said);
  }
  const network = await attack('https://192.0.2.1/', '--network', '-o', 'json');
  t.is(network.code, 64);
  t.like(JSON.parse(network.stdout), { error: { code: 'MESH_ATTACK_REFUSED' } });
});

test('where addresses are', (t) => {
  const own = ['127.0.0.1', '203.0.113.7', 'fe80::1%lo'];
  for (const [address, place] of [
    ['127.0.0.1', 'machine'],
    ['127.255.0.9', 'machine'],
    ['0.0.0.0', 'machine'],
    ['::1', 'machine'],
    ['::ffff:127.0.0.1', 'machine'],
    ['203.0.113.7', 'machine'],
    ['fe80::1%lo', 'machine'],
    ['10.0.0.1', 'network'],
    ['172.16.0.1', 'network'],
    ['172.31.255.255', 'network'],
    ['192.168.1.1', 'network'],
    ['169.254.169.254', 'public'],
    ['::ffff:169.254.169.254', 'public'],
    ['fd00:ec2::254', 'public'],
    ['fe80::2%eth0', 'network'],
    ['fd00::1', 'network'],
    ['::ffff:10.0.0.1', 'network'],
    ['172.32.0.1', 'public'],
    ['100.64.0.1', 'public'],
    ['203.0.113.8', 'public'],
    ['224.0.0.1', 'public'],
    ['2001:db8::1', 'public'],
    ['::ffff:192.0.2.1', 'public'],
    ['64:ff9b::7f00:1', 'public'],
    ['no address', 'public'],
  ] as const)
    t.is(placeOf(address, own), place, address);
  for (const address of ownAddresses()) t.is(placeOf(address), 'machine', address);
});

test('a name is resolved once, and all of its addresses must be yours', async (t) => {
  const server = await naive(t);
  const url = new URL(`http://name.test:${server.port}/`);
  const reach = { network: false, insecure: false, ca: undefined };
  let asked = 0;
  const resolve =
    (...addresses: string[]) =>
    async () => {
      asked += 1;
      return addresses;
    };
  const find = (...addresses: string[]) =>
    Target.find(url, reach, new Deadline(10_000), resolve(...addresses));
  // The first does not answer there; the second does, and is the one from then on.
  const target = await find('::1', '127.0.0.1');
  t.is(target.address, '127.0.0.1');
  (await target.dial('http/1.1')).close();
  t.is(asked, 1);
  const before = server.peers.length;
  for (const addresses of [['192.0.2.1'], ['127.0.0.1', '192.0.2.1'], ['127.0.0.1', '10.0.0.1']])
    await t.throwsAsync(find(...addresses), { instanceOf: RefusedTargetError });
  t.is(server.peers.length, before, 'and nobody was connected to');
  t.is(
    (
      await Target.find(
        url,
        { ...reach, network: true },
        new Deadline(10_000),
        resolve('127.0.0.1', '10.0.0.1'),
      )
    ).address,
    '127.0.0.1',
  );
});

test('wrong use is 64, and says what is right', async (t) => {
  const notPem = join(temporaryFolder(t), 'root.crt');
  writeFileSync(notPem, 'no certificate');
  for (const [args, said] of [
    [[], /missing required argument 'url'/],
    [
      ['localhost:8080'],
      /^error: expected a URL such as http:\/\/127\.0\.0\.1:8080\/ .*, received localhost:8080\n$/,
    ],
    [['ftp://127.0.0.1/'], /^error: expected a URL such as/],
    [['http://u:p@127.0.0.1/'], /^error: expected a URL such as/],
    [
      [`http://127.0.0.1/${'a'.repeat(512)}`],
      /^error: expected a URL of at most 512 characters, received \d+\n$/,
    ],
    [['http://127.0.0.1/', '--only', '35'], /^error: --only: expected rows from 1 to 34, .*, received 35\n$/],
    [['http://127.0.0.1/', '--only', '1,x'], /^error: --only: .*received 1,x\n$/],
    [['http://127.0.0.1/', '--only', ''], /^error: --only: /],
    [['http://127.0.0.1/', '--timeout', '11m'], /^error: --timeout: .* at most 10m, received 11m\n$/],
    [['http://127.0.0.1/', '--timeout', '0s'], /^error: --timeout: /],
    [
      ['https://127.0.0.1/', '--ca', notPem],
      /^error: --ca: expected a file with certificates in PEM, received .*root\.crt\n$/,
    ],
    [['https://127.0.0.1/', '--ca', `${notPem}.missing`], /^error: --ca: /],
  ] as const) {
    const { code, stdout, stderr } = await attack(...args);
    t.deepEqual([code, stdout], [64, ''], args.join(' '));
    t.regex(stderr, said);
  }
});

test('nothing that listens, or no TLS there, is one line and 1', async (t) => {
  const server = await naive(t);
  for (const [url, said] of [
    [
      `http://127.0.0.1:${await closedPort()}/`,
      /^error: \S+ can't be reached: nothing listens there \(ECONNREFUSED\); .*\n$/,
    ],
    [`https://${server.address}/`, /^error: \S+ can't be reached: .*\n$/],
    ['http://nobody.invalid/', /^error: http:\/\/nobody\.invalid can't be reached: .*\n$/],
  ] as const) {
    const { code, stdout, stderr } = await attack(url);
    t.deepEqual([code, stdout], [1, ''], url);
    t.regex(stderr, said);
    t.is(stderr.trimEnd().split('\n').length, 1);
  }
});

test('people read a table, a row a line, and a line that sums up', async (t) => {
  const origin = await httpOrigin(t, (_, response) => response.end('ok'));
  const url = `http://${origin.address}/`;
  const { code, stdout } = await attack(url, '--only', '10,34');
  t.is(code, 1, 'of what nothing was seen nothing is known');
  t.is(
    stdout,
    `row\tattack\tmust\thappened\tverdict
10\tslow heads, nothing at all, no TLS handshake\t408 or close\t-\tskipped: takes 20 s: say --slow
34\ta hostile or broken control plane\tthe last good one stays\t-\tskipped: needs its control plane
${url}: 0 held, 0 failed, 2 skipped
`,
  );
});

test('neither the package nor another command loads it', (t) => {
  const dist = join(process.cwd(), 'dist');
  const loaded = new Set<string>();
  const load = (file: string): void => {
    if (loaded.has(file)) return;
    loaded.add(file);
    for (const [, from = ''] of readFileSync(file, 'utf8').matchAll(
      /^(?:import|export)\b[^;]*?'(\.[^']+)';$/gm,
    ))
      load(join(dirname(file), from));
  };
  for (const entry of ['index.js', join('cli', 'main.js')]) load(join(dist, entry));
  t.true(loaded.has(join(dist, 'cli', 'attack.js')));
  t.deepEqual(
    [...loaded].filter((file) => file.startsWith(join(dist, 'attack'))),
    [],
  );
});

/** Puts a server of HTTP/2 on a port until the test ends; gives its URL. */
async function listen(t: ExecutionContext, server: http2.Http2Server): Promise<string> {
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on('session', (session) => {
    sessions.add(session);
    session.on('error', () => {});
    session.on('close', () => sessions.delete(session));
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  t.teardown(() => {
    server.close();
    for (const session of sessions) session.destroy();
  });
  const { port } = server.address() as { port: number };
  return `http://127.0.0.1:${port}/`;
}
