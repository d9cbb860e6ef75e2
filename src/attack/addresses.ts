/** Whose is an address: this machine's, this network's, or somebody else's? */

import { BlockList, isIP } from 'node:net';
import { networkInterfaces } from 'node:os';

/** Where an address is. */
export type Place =
  /** On this machine: loopback, or one of its interfaces. */
  | 'machine'
  /** In a private network (RFC 1918, RFC 4193) or on the link, for IPv6. */
  | 'network'
  /** Anywhere else: it may be anybody's. */
  | 'public';

type Family = 'ipv4' | 'ipv6';
type Range = readonly [network: string, prefix: number, family: Family];

const MACHINE: readonly Range[] = [
  ['127.0.0.0', 8, 'ipv4'],
  ['::1', 128, 'ipv6'],
  // No address at all: who connects to it stays on the machine.
  ['0.0.0.0', 32, 'ipv4'],
  ['::', 128, 'ipv6'],
];
const NETWORK: readonly Range[] = [
  ['10.0.0.0', 8, 'ipv4'],
  ['172.16.0.0', 12, 'ipv4'],
  ['192.168.0.0', 16, 'ipv4'],
  ['fc00::', 7, 'ipv6'],
  ['fe80::', 10, 'ipv6'],
];

/**
 * What clouds answer their guests at, which is theirs. They do so at addresses of the link, for IPv4, which hardly anything
 * else has.
 */
const METADATA: readonly Range[] = [
  ['169.254.0.0', 16, 'ipv4'],
  ['fd00:ec2::', 32, 'ipv6'],
  ['fd20:ce::', 32, 'ipv6'],
];

function listOf(ranges: readonly Range[]): BlockList {
  const list = new BlockList();
  for (const range of ranges) list.addSubnet(...range);
  return list;
}

const machine = listOf(MACHINE);
const network = listOf(NETWORK);
const metadata = listOf(METADATA);

const familyOf = (address: string): Family => (isIP(address) === 6 ? 'ipv6' : 'ipv4');

/** The addresses of this machine's interfaces. */
export function ownAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((all = []) => all.map(({ address }) => address));
}

/** Where an address is. IPv4 in the form of IPv6 (`::ffff:10.0.0.1`) is where the IPv4 address is. */
export function placeOf(address: string, own: readonly string[] = ownAddresses()): Place {
  // The zone of an address on the link says by which interface it is reached, not whose it is.
  const [plain = ''] = address.split('%');
  if (isIP(plain) === 0) return 'public';
  const ours = new BlockList();
  for (const one of own) ours.addAddress(one.split('%')[0] ?? one, familyOf(one));
  const family = familyOf(plain);
  if (machine.check(plain, family) || ours.check(plain, family)) return 'machine';
  return network.check(plain, family) && !metadata.check(plain, family) ? 'network' : 'public';
}
