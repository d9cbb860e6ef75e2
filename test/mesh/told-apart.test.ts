// Are callers told apart by namespace and by network in a whole mesh, and again when the policy changes?

import test, { type ExecutionContext } from 'ava';
import type { AuthorizationPolicy } from '../../src/config/resources.js';
import { type Peer, connect, tcpServer } from '../support/tcp.js';
import { LAST_WORD_MS, inTime, until } from '../support/wait.js';
import { Mesh, type MeshSidecar, freePort, idOf, numberOf } from './support.js';

type Rule = NonNullable<AuthorizationPolicy['rules']>[number];

/** How somebody connects to `basket`. */
type Connects = () => Promise<Peer>;

/** Two callers, and rules that take both of them or the first one alone. */
interface World {
  readonly mesh: Mesh;
  readonly basket: MeshSidecar;
  readonly both: Rule;
  readonly first: Rule;
  readonly one: Connects;
  readonly other: Connects;
  /** The other, as logs have it. */
  readonly otherIs: string;
}

const ask = (path: string): string => `GET ${path} HTTP/1.1\r\nhost: basket\r\n\r\n`;
const HALF = 'HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf';

/** A mesh in which `basket` answers requests, `/half` by half, and says all other bytes back. */
async function basketOf(t: ExecutionContext): Promise<Pick<World, 'mesh' | 'basket'>> {
  const mesh = await Mesh.start(t);
  const application = await tcpServer(t, ({ socket }) => {
    socket.on('data', (bytes) => {
      if (!bytes.includes(' HTTP/1.1\r\n')) socket.write(bytes);
      else socket.write(bytes.includes('GET /half ') ? HALF : 'HTTP/1.1 204 No Content\r\n\r\n');
    });
  });
  const basket = await mesh.sidecar(t, 'basket', { ports: `3000=${application.address}` });
  mesh.serve('basket', [basket.address]);
  return { mesh, basket };
}

function policy(action: 'allow' | 'deny', rule: Rule): AuthorizationPolicy {
  return { name: action, targets: [{ kind: 'listener', value: 'inbound' }], action, rules: [rule] };
}

async function isFollowed(t: ExecutionContext, world: World): Promise<void> {
  const { mesh, basket, both, first, one, other, otherIs } = world;
  const answerTo = (connects: Connects): Promise<string> =>
    inTime('an answer', LAST_WORD_MS, async (spoken) => {
      const peer = await connects();
      await peer.send(ask('/'));
      spoken();
      const { status, headers } = await peer.response();
      peer.reset();
      return `${status}${/details=("[^"]*")/.exec(headers.get('proxy-status') ?? '')?.[1] ?? ''}`;
    });
  /** Puts policies in force; what each caller's requests then get. */
  const protect = async (policies: AuthorizationPolicy[], ofOne: string, ofOther: string): Promise<void> => {
    mesh.protect('basket', policies);
    await until(`${ofOne} and ${ofOther}`, async () => {
      return (await answerTo(one)) === ofOne && (await answerTo(other)) === ofOther;
    });
  };
  const opens = async (connects: Connects): Promise<[Peer, Peer]> => {
    const [http, tcp] = [await connects(), await connects()];
    await http.send(ask('/half'));
    await http.readUntil('half');
    await says(tcp);
    return [http, tcp];
  };
  const says = async (tcp: Peer): Promise<void> => {
    await tcp.send('hello\n');
    t.is(await tcp.readUntil('\n'), 'hello\n');
  };

  await protect([policy('allow', first)], '204', '403"denied"');
  const denied = await other();
  // Who is late is cut off before it speaks.
  await denied.send('hello\n').catch(() => {});
  t.is(await denied.readToEnd(), '');
  const what = `policy=allow why=no_rule listener=inbound port=3000 caller=${otherIs} method=GET path=/`;
  await until('a line', async () => {
    // Who is denied often is told seldom.
    t.is(await answerTo(other), '403"denied"');
    return basket.process.stderr().includes(`warning: a caller was denied ${what}`);
  });
  for (const series of [
    /^mesh_responses_total\{listener="inbound",.*reason="denied".*\} (\d+)$/m,
    /^mesh_connections_closed_total\{listener="inbound",reason="denied"\} (\d+)$/m,
  ]) {
    await until(String(series), async () => (await numberOf(basket, series)) > 0);
  }

  // The rule that let both in takes less: requests end with it, streams are judged by who they are.
  await protect([policy('allow', both)], '204', '204');
  const [[oneHttp, oneTcp], [otherHttp, otherTcp]] = [await opens(one), await opens(other)];
  await protect([policy('allow', first)], '204', '403"denied"');
  for (const peer of [oneHttp, otherHttp, otherTcp]) await peer.gone();
  await says(oneTcp);

  // Whoever is denied is so whatever else lets it in, and nobody else is.
  await protect([policy('allow', both)], '204', '204');
  const [[http], [stays, staysTcp]] = [await opens(one), await opens(other)];
  await protect([policy('allow', both), policy('deny', first)], '403"denied"', '204');
  for (const peer of [http, oneTcp]) await peer.gone();
  await says(staysTcp);
  t.false(stays.ended || stays.closed);
}

test('callers over mTLS are told apart by namespace, and again when the policy changes', async (t) => {
  const { mesh, basket } = await basketOf(t);
  const connects = async (namespace: string): Promise<Connects> => {
    const port = await freePort();
    const flags = { '--forward': `basket.shop:3000=127.0.0.1:${port}` };
    const caller = await mesh.sidecar(t, 'web', { name: `web of ${namespace}`, namespace, flags });
    await caller.process.said(/forward:basket\.shop:3000 listens on/);
    return () => connect(t, port);
  };
  const of = (...namespaces: string[]): Rule => ({
    from: namespaces.map((name) => ({ kind: 'namespace', value: { trustDomain: 'mesh.test', name } })),
  });
  const callers = { one: await connects('shop'), other: await connects('office') };
  const rules = { both: of('shop', 'office'), first: of('shop') };
  await isFollowed(t, { mesh, basket, ...rules, ...callers, otherIs: idOf('web', 'office') });
});

test('callers without TLS are told apart by network, and again when the policy changes', async (t) => {
  const { mesh, basket } = await basketOf(t);
  const connects = (address: string): Connects => {
    return () => connect(t, basket.inbound, '127.0.0.1', address);
  };
  const callers = { one: connects('127.0.0.1'), other: connects('127.0.0.2') };
  const rules = { both: { networks: ['127.0.0.0/8'] }, first: { networks: ['127.0.0.1/32'] } };
  await isFollowed(t, { mesh, basket, ...rules, ...callers, otherIs: '127.0.0.2' });
});
