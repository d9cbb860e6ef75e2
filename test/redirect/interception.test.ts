// Does an unmodified client reach an unmodified server through both sidecars, with mTLS on the wire, by the rules of
// nftables and by those of iptables? Two machines as two network namespaces, which the test makes and takes away.

import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { TOOLS_PATH } from '../../src/cli/redirect.js';
import { startControlPlane } from '../../src/mesh/native-control-plane.js';
import { example, programs } from '../docs/support.js';
import { temporaryFolder } from '../support/files.js';
import { type Running, run, start } from '../support/processes.js';
import { cleanEnvironment } from '../support/sidecar.js';
import { until } from '../support/wait.js';
import { freeNetwork } from './network.js';
import { GRPC_CALLER, HALF, LISTENER, OUTSIDE, SERVER, SPEAKER, STRANGER } from './programs.js';

type Test = Pick<ExecutionContext, 'teardown'>;

const env = { ...process.env, PATH: TOOLS_PATH };
const has = (tool: string): boolean => spawnSync('sh', ['-c', `command -v ${tool}`], { env }).status === 0;
const can = process.getuid?.() === 0 && ['ip', 'tcpdump', 'setpriv', 'curl'].every(has);
/** What can make the rules, with the tools that it needs. */
const BACKENDS = { nft: ['nft'], iptables: ['iptables', 'ip6tables'] } as const;
const TRUST = 'mesh.local';
/** What the ports of `basket` speak. */
const PROTOCOLS = { 3000: 'auto', 3001: 'http2', 3002: 'http2', 5432: 'tcp', 7000: 'tcp' } as const;
const idOf = (service: string): string => `spiffe://${TRUST}/ns/default/sa/${service}`;

function must(command: string): void {
  const { status, stderr } = spawnSync('sh', ['-ec', command], { env, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command}: ${stderr}`);
}

/** A machine. */
class Machine {
  constructor(
    readonly name: string,
    readonly address: string,
    readonly address6: string,
  ) {}

  start(t: Test, ...command: string[]): Running {
    return start(t, 'ip', ['netns', 'exec', this.name, ...command], { env: cleanEnvironment() });
  }
}

/** Three machines on a wire, which this one is on as well. */
function machines(t: Test): {
  web: Machine;
  basket: Machine;
  outside: Machine;
  here: string;
  wire: string;
} {
  const id = process.pid.toString(36);
  const wire = `mb${id}`;
  const network = freeNetwork();
  const here = `${network}.254`;
  must(`ip link add ${wire} type bridge && ip addr add ${here}/24 dev ${wire} && ip link set ${wire} up`);
  t.teardown(() => must(`ip link del ${wire}`));
  const made = [1, 2, 3].map((number) => {
    const name = `mesh-${number}-${id}`;
    const machine = new Machine(name, `${network}.${number}`, `fd00:7::${number}`);
    const [inside, outside] = [`mi${number}${id}`, `mo${number}${id}`];
    must(`ip netns add ${name}`);
    t.teardown(() => must(`ip netns del ${name}`));
    must(`ip link add ${outside} type veth peer name ${inside} netns ${name}`);
    must(`ip link set ${outside} master ${wire} up`);
    must(`ip -n ${name} addr add ${machine.address}/24 dev ${inside}`);
    must(`ip -n ${name} addr add ${machine.address6}/64 dev ${inside} nodad`);
    must(`ip -n ${name} link set lo up && ip -n ${name} link set ${inside} up`);
    return machine;
  });
  const [web, basket, outside] = made as [Machine, Machine, Machine];
  return { web, basket, outside, here, wire };
}

const carries = test.macro(async (t, backend: keyof typeof BACKENDS) => {
  const { web, basket, outside, here, wire } = machines(t);
  const folder = temporaryFolder(t);
  chmodSync(folder, 0o755);
  /** A file that the sidecar's user may read. */
  const file = (name: string, text: string): void => {
    writeFileSync(join(folder, name), text);
    chmodSync(join(folder, name), 0o644);
  };
  const probe = createServer().listen(0, here);
  await once(probe, 'listening');
  const { port } = probe.address() as { port: number };
  probe.close();
  await once(probe, 'close');
  const control = await startControlPlane({
    listen: [`${here}:${port}`],
    trustDomain: TRUST,
    certificateTtlMs: 3_600_000,
    telemetryIntervalMs: 200,
    onEvent: () => {},
  });
  t.teardown(() => control.close());
  const endpoint = { address: `${basket.address}:4143`, identity: idOf('basket') };
  const clusters = ([3000, 3001, 3002, 5432, 7000] as const).map((number) => ({
    name: `basket.default:${number}`,
    number,
    protocol: PROTOCOLS[number],
  }));
  control.apply({
    upsert: {
      routeTables: clusters.map(({ name }) => ({
        name,
        virtualHosts: [
          {
            hosts: ['*'],
            routes: [{ name: 'all', action: { kind: 'forward' as const, to: [{ cluster: name }] } }],
          },
        ],
      })),
      clusters: clusters.map(({ name, number, protocol }) => ({
        name,
        protocol,
        workload: { serverName: `p${number}.basket.default.${TRUST}` },
      })),
      endpoints: clusters.map(({ name }) => ({ cluster: name, localities: [{ endpoints: [endpoint] }] })),
      services: clusters.flatMap(({ name, number }) =>
        ['basket', basket.address, `[${basket.address6}]`].map((host) => ({
          name: `${host}:${number}`,
          routeTable: name,
        })),
      ),
    },
  });
  file('roots.pem', control.bundle());
  const bin = programs(folder);
  /** As docs/interception.md starts it. */
  const sidecar = async (machine: Machine, service: string, ports: string): Promise<Running> => {
    file('token', control.issueToken(idOf(service), { uses: 1, ttlMs: 60_000 }));
    const [on = '', ...command] = example('docs/interception.md', 'sidecar')
      .replace('10.0.0.1:4144', `${here}:${port}`)
      .replace(idOf('basket'), idOf(service))
      .replace(/ --ports .*/, ports)
      .split('\n');
    const typed = `cd ${folder}; PATH=${bin}:$PATH; ${on} --backend ${backend} --skip-outbound 8000-8010`;
    const running = machine.start(t, 'sh', '-ec', `${typed}; exec ${command.join('\n')}`);
    await running.said(/^mesh-sidecar: ready$/m);
    return running;
  };
  const server = basket.start(t, process.execPath, '-e', SERVER);
  await server.said(/up/);
  const ports = clusters.map(({ number, protocol }) => {
    const said = protocol === 'auto' ? '' : `/${protocol}`;
    return `${number}=127.0.0.1:${number}${said}`;
  });
  await sidecar(basket, 'basket', ` --ports ${ports.join(',')}`);
  const ofWeb = await sidecar(web, 'web', '');

  const capture = join(folder, 'wire.pcap');
  const dump = start(t, 'tcpdump', ['-i', wire, '-w', capture, '-U', '--immediate-mode']);
  await dump.said(/listening on/);

  const inWeb = (...command: string[]) => run('ip', ['netns', 'exec', web.name, ...command]);
  const told = async (...command: string[]): Promise<string> => {
    const { stdout, stderr } = await inWeb(...command);
    return stdout.toString() || stderr;
  };
  for (const [family, address, host] of [
    ['-4', basket.address, basket.address],
    ['-6', basket.address6, `[${basket.address6}]`],
  ] as const) {
    const curl = (called: number, ...more: string[]) => {
      const resolve = ['--resolve', `basket:${called}:${host}`];
      const url = `http://basket:${called}/items`;
      return told('curl', '-sS', '-m', '15', family, ...resolve, ...more, url);
    };
    const said = `/items ${idOf('web')}`;
    t.is(await curl(3000), `plain 1.1 ${said}`);
    t.is(await curl(3001, '--http2-prior-knowledge'), `plain 2.0 ${said}`);
    const node = (caller: string, to: string) => told(process.execPath, '-e', caller, to);
    t.is(await node(GRPC_CALLER, `${host}:3002`), `plain call answered to ${idOf('web')}\n`);
    t.is(await node(LISTENER, address), 'plain greeting\nplain question\n');
    t.is(await node(SPEAKER, address), '{plain: question}\n');
  }

  await until('packets', () => readFileSync(capture).length > 10_000);
  dump.signal('SIGINT');
  await dump.exit;
  const seen = readFileSync(capture).toString('latin1');
  t.regex(seen, /basket\.default\.mesh\.local/, 'server names are seen');
  t.notRegex(seen, /plain|items/, 'and nothing else');

  // Who calls without a sidecar is nobody, whichever port it means.
  const ownCurl = async () =>
    (
      await run('curl', ['-sS', '-m', '15', '--noproxy', '*', `http://${basket.address}:3000/own`])
    ).stdout.toString();
  t.regex(await ownCurl(), /Denied by policy/);
  control.apply({
    upsert: { workloads: [{ name: idOf('basket'), defaultPolicy: 'allow', policies: [] }] },
  });
  const answer = await until('everybody', async () => {
    const text = await ownCurl();
    return text.startsWith('plain') && text;
  });
  t.is(answer, 'plain 1.1 /own undefined');
  const edges = await until('what the called tells', () => {
    const inbound = control
      .edges()
      .filter(({ direction, requests }) => direction === 'inbound' && requests > 0);
    const isWhole =
      inbound.filter(({ mtls }) => mtls).length >= clusters.length &&
      inbound.some(({ mtls, requests, denied }) => !mtls && requests > denied);
    return isWhole && inbound.map((edge) => [edge.peer, edge.mtls, edge.port, edge.protocol].join(' '));
  });
  const called = ['3000 http1', '3001 http2', '3002 http2', '5432 tcp', '7000 tcp'];
  t.deepEqual(edges, [' false 3000 http1', ...called.map((what) => `${idOf('web')} true ${what}`)]);

  // The outbound port listens on all addresses, and yet takes nobody's calls from outside.
  const proxy = ['-x', `http://${web.address}:4140`, `http://${basket.address}:3000/own`];
  const used = await run('ip', ['netns', 'exec', outside.name, 'curl', '-sS', '-m', '15', ...proxy]);
  t.regex(used.stdout.toString() + used.stderr, /denied|refused|reset|empty reply/i);

  // Nor by itself, without the rules: whoever calls there calls as the workload, and reaches its loopback.
  must(`ip netns exec ${web.name} '${process.execPath}' dist/cli/main.js redirect off --backend ${backend}`);
  const bare = await run('ip', ['netns', 'exec', outside.name, 'curl', '-sS', '-m', '15', ...proxy]);
  t.regex(bare.stderr, /reset|empty reply/i);
  await ofWeb.said(
    new RegExp(`a client of another machine was refused.*${outside.address.replaceAll('.', '[.]')}`),
  );
  t.regex(
    await told('curl', '-sS', 'http://127.0.0.1:4191/metrics'),
    /listener="outbound".*reason="not_local"/,
  );
  must(
    `ip netns exec ${web.name} '${process.execPath}' dist/cli/main.js redirect on --backend ${backend} --skip-outbound 8000-8010`,
  );

  // It reaches the port that it called, and not the first.
  const stranger = ['netns', 'exec', outside.name, process.execPath, '-e', STRANGER, basket.address];
  await until('the greeting of the port that was called', async () => {
    const { stdout } = await run('ip', stranger);
    return stdout.toString() === 'plain greeting\n';
  });

  await outside.start(t, process.execPath, '-e', OUTSIDE).said(/up/);
  const half = async (address: string, to: number): Promise<string> =>
    (await inWeb(process.execPath, '-e', HALF, address, String(to))).stdout.toString().trim();
  const addresses = [outside.address, outside.address6];
  for (const address of addresses) t.is(await half(address, 25), 'hello GET', 'opaque');
  ofWeb.signal('SIGKILL');
  await ofWeb.exit;
  for (const address of addresses) {
    t.is(await half(address, 25), 'ECONNREFUSED', 'an opaque port is the way through the sidecar');
    t.is(await half(address, 8005), 'hello GET', 'a skipped one is the way around it');
  }
});

for (const backend of ['nft', 'iptables'] as const) {
  const testWith = can && BACKENDS[backend].every(has) ? test.serial : test.skip;
  const title = 'two machines, an unmodified client, an unmodified server, and nothing plain on the wire';
  testWith(`${backend}: ${title}`, carries, backend);
}
