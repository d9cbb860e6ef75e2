/**
 * Which rules of the kernel send a workload's connections through its sidecar?
 *
 * Inbound: every TCP connection that comes in from outside, and is for this machine, goes to the sidecar's inbound port;
 * what the machine only forwards, to its containers or as a router, is none of the workload's. Outbound: every one that
 * this machine (or network namespace) makes goes to its outbound port, unless it goes to the loopback or to an address of
 * one link, or is the sidecar's own, which is told by its user id. The sidecar asks the kernel where a connection was made to.
 */

/** Whom the rules are for. */
export interface Redirection {
  /** The sidecar's inbound port. */
  readonly inboundPort: number;
  /** The sidecar's outbound port. */
  readonly outboundPort: number;
  /** The user that the sidecar runs as: its own connections pass. */
  readonly uid: number;
  /** Ports that callers reach without the sidecar. */
  readonly skipInbound: readonly PortRange[];
  /** Ports that are called without the sidecar. */
  readonly skipOutbound: readonly PortRange[];
}

/** A port, `22`, or all from one to another, `8000-8010`. */
export type PortRange = `${number}` | `${number}-${number}`;

/** What everything has unless told otherwise. */
export const DEFAULT_REDIRECTION: Redirection = {
  inboundPort: 4143,
  outboundPort: 4140,
  // The image's user, that of Linkerd's proxy too.
  uid: 2102,
  // Who redirects ssh locks itself out; the admin port tells no secrets, and probes reach it.
  skipInbound: ['22', '4191'],
  skipOutbound: [],
};

/**
 * Addresses of one link of IPv6. Who calls one is bound to the link's interface, which leads to no sidecar on the
 * loopback: redirected, the call would reach nobody.
 */
const LINK_LOCAL = 'fe80::/10';

/** The nftables table that holds all our rules: who deletes it deletes exactly them. */
const TABLE = 'mesh';

/** The whole of our rules for `nft -f -`; in one transaction they take the place of those that were there. */
export function nftables(redirection: Redirection): string {
  const { inboundPort, outboundPort, uid } = redirection;
  // Each by itself: ranges in one set may not overlap.
  const skip = (ports: readonly PortRange[]): string[] => ports.map((port) => `    tcp dport ${port} return`);
  return [
    // Deleting what is not there is an error, adding what is there is none.
    `add table inet ${TABLE}`,
    `delete table inet ${TABLE}`,
    `table inet ${TABLE} {`,
    '  chain inbound {',
    '    type nat hook prerouting priority dstnat; policy accept;',
    '    fib daddr type != local return',
    ...skip(redirection.skipInbound),
    `    meta l4proto tcp redirect to :${inboundPort}`,
    '  }',
    '  chain outbound {',
    '    type nat hook output priority -100; policy accept;',
    `    meta skuid ${uid} return`,
    '    oifname "lo" return',
    `    ip6 daddr ${LINK_LOCAL} return`,
    ...skip(redirection.skipOutbound),
    `    meta l4proto tcp redirect to :${outboundPort}`,
    '  }',
    '}',
    '',
  ].join('\n');
}

/** What takes them away again, whether they are there or not. */
export function nftablesOff(): string {
  return `add table inet ${TABLE}\ndelete table inet ${TABLE}\n`;
}

/** Our chains in the `nat` table of iptables, each with the chain that leads there. */
const CHAINS = [
  ['MESH_INBOUND', 'PREROUTING'],
  ['MESH_OUTBOUND', 'OUTPUT'],
] as const;

/** One rule or chain, as `iptables` and `ip6tables` take it behind the table, word by word. */
export type Rule = readonly string[];

/** Lists what is in the table that ours are in. */
export const IPTABLES_LIST = ['-S'] as const;

/** The tools of the two families. */
export type Iptables = 'iptables' | 'ip6tables';

/** The rules for one family, where none of ours is. */
export function iptables(redirection: Redirection, tool: Iptables): Rule[] {
  const add = (chain: string, ...rule: string[]): Rule => ['-A', chain, ...rule];
  const skip = (chain: string, ports: readonly PortRange[]): Rule[] =>
    ports.map((port) => add(chain, '-p', 'tcp', '--dport', port.replace('-', ':'), '-j', 'RETURN'));
  const redirect = (chain: string, port: number): Rule =>
    add(chain, '-p', 'tcp', '-j', 'REDIRECT', '--to-ports', String(port));
  return [
    ...CHAINS.map(([chain]) => ['-N', chain]),
    add('MESH_INBOUND', '-m', 'addrtype', '!', '--dst-type', 'LOCAL', '-j', 'RETURN'),
    ...skip('MESH_INBOUND', redirection.skipInbound),
    redirect('MESH_INBOUND', redirection.inboundPort),
    add('MESH_OUTBOUND', '-m', 'owner', '--uid-owner', String(redirection.uid), '-j', 'RETURN'),
    add('MESH_OUTBOUND', '-o', 'lo', '-j', 'RETURN'),
    ...(tool === 'ip6tables' ? [add('MESH_OUTBOUND', '-d', LINK_LOCAL, '-j', 'RETURN')] : []),
    ...skip('MESH_OUTBOUND', redirection.skipOutbound),
    redirect('MESH_OUTBOUND', redirection.outboundPort),
    ...CHAINS.map(([chain, hook]) => add(hook, '-p', 'tcp', '-j', chain)),
  ];
}

/** Those of ours that a listing ({@link IPTABLES_LIST}) shows, each as often as it is there. */
export function iptablesOurs(listing: string): Rule[] {
  const isOurs = (line: string): boolean =>
    CHAINS.some(
      ([chain, hook]) =>
        line === `-N ${chain}` || line.startsWith(`-A ${chain} `) || line === `-A ${hook} -p tcp -j ${chain}`,
    );
  return listing
    .split('\n')
    .filter(isOurs)
    .map((line) => line.split(' '));
}

/** What `iptables-restore --noflush` puts in the place of `before`, which is all of ours, in one transaction. */
export function iptablesInstead(before: readonly Rule[], rules: readonly Rule[]): string {
  const has = (those: readonly Rule[], chain: string): boolean =>
    those.some(([what, made]) => what === '-N' && made === chain);
  const hooks = new Set<string>(CHAINS.map(([, hook]) => hook));
  return [
    '*nat',
    // A chain that is named here is made, or emptied.
    ...CHAINS.map(([chain]) => `:${chain} - [0:0]`),
    ...before.flatMap(([, chain = '', ...jump]) =>
      hooks.has(chain) ? [['-D', chain, ...jump].join(' ')] : [],
    ),
    ...CHAINS.flatMap(([chain]) => (has(rules, chain) ? [] : [`-X ${chain}`])),
    ...rules.filter(([what]) => what !== '-N').map((rule) => rule.join(' ')),
    'COMMIT',
    '',
  ].join('\n');
}
