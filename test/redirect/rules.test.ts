/** Do the kernel's own tools take the rules, and is nothing left of them? In a network namespace made for it. */

import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { TOOLS_PATH } from '../../src/cli/redirect.js';
import { DEFAULT_REDIRECTION, nftables, nftablesOff } from '../../src/redirect/rules.js';
import { FakeWorld } from '../cli/world.js';
import { example } from '../docs/support.js';
import { temporaryFolder } from '../support/files.js';

const here = { ...DEFAULT_REDIRECTION, skipOutbound: ['53', '8000-8010', '8005-8020'] } as const;
const isRoot = process.getuid?.() === 0;
const env = { ...process.env, PATH: TOOLS_PATH };
const hasIp = spawnSync('ip', ['-Version'], { env }).status === 0;
const has = (tool: string): boolean => spawnSync(tool, ['--version'], { env }).status === 0;

/** Runs in namespaces that end with the command: of the network, and of what is mounted. */
function inNamespace(script: string): string {
  const { status, stdout, stderr } = spawnSync('unshare', ['--net', '--mount', 'sh', '-ec', script], {
    encoding: 'utf8',
    env,
  });
  if (status !== 0) throw new Error(`${script}\n${stderr}`);
  return stdout;
}

const MESH = `'${process.execPath}' dist/cli/main.js redirect`;
const nft = (rules: string): string => `nft -f - <<'EOF'\n${rules}EOF`;

(isRoot && has('nft') ? test : test.skip)('nftables: on is on however often, off leaves nothing', (t) => {
  const rules = inNamespace(`${nft(nftables(here))}\n${nft(nftables(here))}\nnft list ruleset`);
  t.is(rules.match(/redirect to :4143/g)?.length, 1, rules);
  t.is(rules.match(/redirect to :4140/g)?.length, 1, rules);
  t.regex(rules, /meta skuid 2102 return/);
  for (const skipped of ['53', '8000-8010', '8005-8020'])
    t.regex(rules, new RegExp(`tcp dport ${skipped} return`));
  t.is(
    inNamespace(`${nft(nftables(here))}\n${nft(nftablesOff())}\n${nft(nftablesOff())}\nnft list ruleset`),
    '',
  );
});

(isRoot && has('nft') ? test : test.skip)('docs/interception.md: printed, on and off', (t) => {
  const typed = example('docs/interception.md', 'redirect').replaceAll('mesh redirect', MESH);
  const [print = '', on = '', off = ''] = typed.trim().split('\n');
  t.is(inNamespace(print), nftables(DEFAULT_REDIRECTION));
  t.regex(inNamespace(`${on}\nnft list ruleset`), /tcp dport 4191 return/);
  t.is(inNamespace(`${on}\n${off}\nnft list ruleset`), '');
});

(isRoot && has('nft') ? test : test.skip)('a package whose command is called as a tool is no tool', (t) => {
  const folder = temporaryFolder(t);
  const tool = join(folder, 'nft');
  writeFileSync(tool, '#!/bin/sh\nexit 0\n', { mode: 0o755 });
  const mesh = `PATH='${folder}':$PATH ${MESH}`;
  const listed = inNamespace(`${mesh} on\n${mesh} on\nnft list ruleset`);
  t.is(listed.match(/redirect to :4143/g)?.length, 1, listed);
  t.is(inNamespace(`${mesh} on\n${mesh} off\nnft list ruleset`), '');
});

const withIptables = isRoot && ['iptables', 'ip6tables', 'setpriv'].every(has) ? test : test.skip;
const LIST = 'iptables -t nat -S; ip6tables -t nat -S';
const [ON, OFF] = ['on', 'off'].map((what) => `${MESH} ${what} --backend iptables`);
const AND_TELL = '2>&1 || echo "exit $?"';

withIptables('iptables: on is on however often, off leaves nothing', (t) => {
  const on = `${ON} --skip-outbound 53,8000-8010,8005-8020`;
  const rules = inNamespace(`${on}\n${on}\n${LIST}`);
  t.is(rules.match(/--to-ports 4143/g)?.length, 2);
  t.is(rules.match(/-A OUTPUT -p tcp -j MESH_OUTBOUND/g)?.length, 2);
  t.is(rules.match(/-A MESH_OUTBOUND .*--dport 8000:8010 -j RETURN/g)?.length, 2);
  // Two that ran at the same time may both have led there.
  const twice = 'iptables -t nat -A OUTPUT -p tcp -j MESH_OUTBOUND';
  t.notRegex(inNamespace(`${on}\n${twice}\n${OFF}\n${OFF}\n${LIST}`), /MESH/);
});

const withBoth = isRoot && ['iptables', 'ip6tables', 'nft'].every(has) ? test : test.skip;
const LIST_BOTH = `${LIST}; nft list tables`;

withBoth('off takes away what either backend has put there', (t) => {
  for (const backend of ['nft', 'iptables']) {
    const on = `${MESH} on --backend ${backend}`;
    t.regex(inNamespace(`${on}\n${LIST_BOTH}`), /MESH|table inet mesh/);
    t.notRegex(inNamespace(`${on}\n${MESH} off\n${LIST_BOTH}`), /MESH|table inet mesh/);
  }
});

withBoth('off with a backend leaves what the other one has put there', (t) => {
  t.regex(inNamespace(`${ON}\n${MESH} off --backend nft\n${LIST}`), /MESH/);
  t.regex(inNamespace(`${MESH} on\n${OFF}\nnft list tables`), /table inet mesh/);
});

withBoth('on takes the place of what the other backend has put there', (t) => {
  const nftLast = inNamespace(`${ON}\n${MESH} on\n${LIST_BOTH}`);
  t.regex(nftLast, /table inet mesh/);
  t.notRegex(nftLast, /MESH/);
  const iptablesLast = inNamespace(`${MESH} on\n${ON}\n${LIST_BOTH}`);
  t.notRegex(iptablesLast, /table inet mesh/);
  t.regex(iptablesLast, /MESH/);
});

withIptables('iptables: off that may do nothing fails, and says so', (t) => {
  const told = inNamespace(`${ON}\nsetpriv --bounding-set=-net_admin ${OFF} ${AND_TELL}\n${LIST}`);
  for (const tool of ['iptables', 'ip6tables']) {
    t.regex(told, new RegExp(`${tool}: rules of the mesh may be left`));
    t.regex(told, new RegExp(`${tool} .*-t nat -S: .*Permission denied`));
  }
  t.regex(told, /^exit 64$/m);
  t.is(told.match(/-A OUTPUT -p tcp -j MESH_OUTBOUND/g)?.length, 2, 'and they are');
});

/** From here on, this tool fails. */
const failing = (tool: string): string => `
mount -t tmpfs none /usr/local/sbin
printf '#!/bin/sh\\necho no such module >&2\\nexit 3\\n' > /usr/local/sbin/${tool}
chmod +x /usr/local/sbin/${tool}
`;

withBoth('on is on where the other backend is there and can do nothing, and says so', (t) => {
  const told = inNamespace(`${failing('ip6tables')}${MESH} on ${AND_TELL}\nnft list tables`);
  t.regex(told, /^warning: ip6tables .*: no such module$/m);
  t.notRegex(told, /^exit/m);
  t.regex(told, /table inet mesh/);
});

withBoth('off with no tool at all fails, and says so', (t) => {
  const told = inNamespace(`mount -t tmpfs none /usr/sbin\n${MESH} off ${AND_TELL}`);
  t.regex(told, /nft can't be run .*: install nftables/);
  t.regex(told, /^exit 64$/m);
});

withIptables('iptables: on that fails half-way is undone', (t) => {
  const told = inNamespace(`${failing('ip6tables-restore')}${ON} ${AND_TELL}\n${LIST}`);
  t.regex(told, /ip6tables-restore .*: no such module/);
  t.regex(told, /^exit 64$/m);
  t.notRegex(told, /^-[AN] .*MESH/m);
});

withIptables('iptables: on that fails leaves the rules of before', (t) => {
  for (const tool of ['iptables-restore', 'ip6tables-restore']) {
    const before = inNamespace(`${ON} --inbound-port 5143 --skip-outbound 53\n${LIST}`);
    const again = `${failing(tool)}${ON} ${AND_TELL}\n${LIST}`;
    const told = inNamespace(`${ON} --inbound-port 5143 --skip-outbound 53\n${again}`);
    t.regex(told, /^exit 64$/m, tool);
    t.true(told.endsWith(before), `${tool}: ${told}`);
    t.is(before.match(/--to-ports 5143/g)?.length, 2);
  }
});

withIptables('iptables: on takes the place of the rules of before, with other ports too', (t) => {
  const other = `${ON} --inbound-port 5143`;
  t.is(inNamespace(`${ON} --skip-outbound 53\n${other}\n${LIST}`), inNamespace(`${other}\n${LIST}`));
});

withIptables('a port that is none changes nothing', (t) => {
  for (const wrong of ['70000', '0', '-1', 'web']) {
    const told = inNamespace(`${ON}\n${ON} --inbound-port=${wrong} ${AND_TELL}\n${LIST}`);
    t.regex(told, /expected a port from 1 to 65535/, wrong);
    t.regex(told, /^exit 64$/m, wrong);
    t.is(told.match(/--to-ports 4143/g)?.length, 2, wrong);
  }
});

withIptables('iptables: what off leaves of one family it says, and takes away the other', (t) => {
  const told = inNamespace(`${ON}\n${failing('ip6tables-restore')}${OFF} ${AND_TELL}\n${LIST}`);
  t.regex(told, /ip6tables: rules of the mesh may be left/);
  t.notRegex(told, / iptables: rules/);
  t.regex(told, /^exit 64$/m);
  t.is(told.match(/^-N MESH_OUTBOUND/gm)?.length, 1);
});

(isRoot && has('nft') ? test : test.skip)('nftables: off leaves what others have added', (t) => {
  const foreign = `table inet other {
  chain inbound {
    type nat hook prerouting priority dstnat; policy accept;
    tcp dport 80 redirect to :8080
  }
}
table ip mesh {
  chain outbound {
    tcp dport 4140 accept
  }
}
`;
  const list = 'nft list ruleset';
  const before = inNamespace(`${nft(foreign)}\n${list}`);
  t.regex(before, /redirect to :8080/);
  const both = inNamespace(`${nft(foreign)}\n${MESH} on\n${list}`);
  t.true(both.startsWith(before.trimEnd()), both);
  t.regex(both, /table inet mesh \{/);
  t.is(inNamespace(`${nft(foreign)}\n${MESH} on\n${MESH} off\n${list}`), before);
});

withIptables('iptables: off leaves what others have added', (t) => {
  const foreign = ['iptables', 'ip6tables']
    .flatMap((tool) => [
      `${tool} -t nat -N OTHER`,
      `${tool} -t nat -A OTHER -p tcp --dport 80 -j REDIRECT --to-ports 8080`,
      `${tool} -t nat -A PREROUTING -p tcp -j OTHER`,
      `${tool} -t nat -A OUTPUT -p tcp --dport 4140 -j ACCEPT`,
    ])
    .join('\n');
  const before = inNamespace(`${foreign}\n${LIST}`);
  t.regex(before, /-A PREROUTING -p tcp -j OTHER/);
  t.regex(inNamespace(`${foreign}\n${ON}\n${LIST}`), /-A PREROUTING -p tcp -j MESH_INBOUND/);
  t.is(inNamespace(`${foreign}\n${ON}\n${OFF}\n${LIST}`), before);
});

/** A server that says who it is. */
const says = (what: string, port: number): string =>
  `'${process.execPath}' -e "require('node:net').createServer((s) => s.end('${what}\\\\n')).listen(${port}, () => console.log('up'))"`;
/** Calls until it is answered, or refused. */
const call = (from: string, to: string): string =>
  `ip netns exec ${from} '${process.execPath}' -e "require('node:net').connect(8080, '${to}').on('error', (e) => console.log(e.code)).on('data', (d) => process.stdout.write(d))"`;
/** A machine between two others, with these rules: what do they reach through it, and at it? */
const router = (rules: string): string => `
mount -t tmpfs none /run
for machine in client server; do ip netns add $machine; ip -n $machine link set lo up; done
ip link set lo up
ip link add client type veth peer name eth0 netns client
ip link add server type veth peer name eth0 netns server
ip addr add 10.1.0.1/24 dev client; ip addr add 10.2.0.1/24 dev server
ip -n client addr add 10.1.0.2/24 dev eth0; ip -n server addr add 10.2.0.2/24 dev eth0
ip link set client up; ip link set server up; ip -n client link set eth0 up; ip -n server link set eth0 up
ip -n client route add default via 10.1.0.1; ip -n server route add default via 10.2.0.1
echo 1 > /proc/sys/net/ipv4/ip_forward
mkfifo /run/up
ip netns exec server ${says('behind', 8080)} > /run/up & behind=$!; read up < /run/up
${says('sidecar', 4143)} > /run/up & sidecar=$!; read up < /run/up
trap 'kill $behind $sidecar' EXIT
${rules}
${call('client', '10.2.0.2')}
${call('client', '10.1.0.1')}`;

(isRoot && has('nft') && hasIp ? test : test.skip)('nftables: what a machine only forwards passes', (t) => {
  t.is(inNamespace(router(nft(nftables(here)))), 'behind\nsidecar\n');
});

(isRoot && ['iptables', 'ip6tables'].every(has) && hasIp ? test : test.skip)(
  'iptables: what a machine only forwards passes',
  (t) => {
    t.is(inNamespace(router(`${ON} > /dev/null`)), 'behind\nsidecar\n');
  },
);

/** A call over the link's own addresses, which go with an interface. */
const onOneLink = (rules: string): string => `
mount -t tmpfs none /run
ip netns add server; ip -n server link set lo up; ip link set lo up
ip link add eth0 type veth peer name eth0 netns server
ip link set eth0 up; ip -n server link set eth0 up
ip -n server addr add fe80::7/64 dev eth0 nodad; ip addr add fe80::8/64 dev eth0 nodad
mkfifo /run/up
ip netns exec server ${says('behind', 8080)} > /run/up & behind=$!; read up < /run/up
trap 'kill $behind' EXIT
${rules}
'${process.execPath}' -e "require('node:net').connect(8080, 'fe80::7%eth0').on('error', (e) => console.log(e.code)).on('data', (d) => process.stdout.write(d))"`;

(isRoot && has('nft') && hasIp ? test : test.skip)("nftables: calls to a link's addresses pass", (t) => {
  t.is(inNamespace(onOneLink(nft(nftables(here)))), 'behind\n');
});

(isRoot && ['iptables', 'ip6tables'].every(has) && hasIp ? test : test.skip)(
  "iptables: calls to a link's addresses pass",
  (t) => {
    t.is(inNamespace(onOneLink(`${ON} > /dev/null`)), 'behind\n');
  },
);

test('mesh redirect takes ports and ranges, and refuses what is neither', async (t) => {
  const print = (...args: string[]) => new FakeWorld().run('redirect', 'print', ...args);
  const rules = await print('--skip-inbound', '22, 8000-8010', '--skip-outbound', '');
  t.deepEqual([rules.code, rules.stderr], [0, '']);
  t.deepEqual(rules.stdout.match(/dport .*/g), ['dport 22 return', 'dport 8000-8010 return']);
  const tables = await print('--backend', 'iptables', '--skip-outbound', '8000-8010');
  for (const tool of ['iptables', 'ip6tables'])
    t.true(
      tables.stdout
        .split('\n')
        .includes(`${tool} -t nat -A MESH_OUTBOUND -p tcp --dport 8000:8010 -j RETURN`),
    );
  for (const wrong of ['ssh', '0', '22,', '8010-8000', '1-65536', '1-2-3', '-1', '22;23']) {
    const { code, stderr } = await print(`--skip-inbound=${wrong}`);
    t.is(code, 64, wrong);
    t.regex(stderr, /expected ports and ranges such as 22,8000-8010/, wrong);
  }
});
