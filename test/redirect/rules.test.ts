/** Do the kernel's own tools take the rules, and is nothing left of them? In a network namespace made for it. */

import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { TOOLS_PATH } from '../../src/cli/redirect.js';
import {
  DEFAULT_REDIRECTION,
  iptables,
  iptablesOff,
  nftables,
  nftablesOff,
} from '../../src/redirect/rules.js';
import { FakeWorld } from '../cli/world.js';
import { example } from '../docs/support.js';
import { temporaryFolder } from '../support/files.js';

const here = { ...DEFAULT_REDIRECTION, skipOutbound: ['53', '8000-8010', '8005-8020'] } as const;
const isRoot = process.getuid?.() === 0;
const env = { ...process.env, PATH: TOOLS_PATH };
const has = (tool: string): boolean => spawnSync(tool, ['--version'], { env }).status === 0;

/** Runs in a namespace that ends with the command. */
function inNamespace(script: string): string {
  const { status, stdout, stderr } = spawnSync('unshare', ['--net', 'sh', '-ec', script], {
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

(isRoot && has('iptables') ? test : test.skip)(
  'iptables: on is on however often, off leaves nothing',
  (t) => {
    const script = (calls: ReturnType<typeof iptables>): string =>
      ['iptables', 'ip6tables']
        .flatMap((tool) =>
          calls.map(
            ({ args, optional }) => `${tool} ${args.join(' ')}${optional ? ' 2>/dev/null || :' : ''}`,
          ),
        )
        .join('\n');
    const on = script(iptables(here));
    const list = 'iptables -t nat -S; ip6tables -t nat -S';
    const rules = inNamespace(`${on}\n${on}\n${list}`);
    t.is(rules.match(/--to-ports 4143/g)?.length, 2);
    t.is(rules.match(/-A OUTPUT -p tcp -j MESH_OUTBOUND/g)?.length, 2);
    t.is(rules.match(/-A MESH_OUTBOUND .*--dport 8000:8010 -j RETURN/g)?.length, 2);
    t.notRegex(inNamespace(`${on}\n${script(iptablesOff())}\n${list}`), /MESH/);
  },
);

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

(isRoot && has('iptables') ? test : test.skip)('iptables: off leaves what others have added', (t) => {
  const foreign = ['iptables', 'ip6tables']
    .flatMap((tool) => [
      `${tool} -t nat -N OTHER`,
      `${tool} -t nat -A OTHER -p tcp --dport 80 -j REDIRECT --to-ports 8080`,
      `${tool} -t nat -A PREROUTING -p tcp -j OTHER`,
      `${tool} -t nat -A OUTPUT -p tcp --dport 4140 -j ACCEPT`,
    ])
    .join('\n');
  const list = 'iptables -t nat -S; ip6tables -t nat -S';
  const before = inNamespace(`${foreign}\n${list}`);
  t.regex(before, /-A PREROUTING -p tcp -j OTHER/);
  const [on, off] = ['on', 'off'].map((what) => `${MESH} ${what} --backend iptables`);
  t.regex(inNamespace(`${foreign}\n${on}\n${list}`), /-A PREROUTING -p tcp -j MESH_INBOUND/);
  t.is(inNamespace(`${foreign}\n${on}\n${off}\n${list}`), before);
});

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
