/**
 * How are the small values of a configuration written?
 *
 * Each format says which texts it takes, what a reader is told otherwise, and what the writer may have meant.
 * They accept what the core's parsers accept (`crates/model/src/resources/values.rs`), so that every mistake in a
 * file is found in one pass, and never stricter than that but for forms that only look right.
 */

import { isIP, isIPv4, isIPv6 } from 'node:net';

/** One way to write a value. */
export interface Format {
  /** What it is called in the documentation. */
  readonly title: string;
  /** Completes "expected ...". Unique among the formats. */
  readonly expected: string;
  /** Whether a text is written in this format. */
  accepts(text: string): boolean;
  /** What to write instead of `received`, as far as that can be told. */
  advise?(received: unknown): string | undefined;
  /** A regular expression for editors; it may accept more than `accepts`. */
  readonly pattern?: string;
  readonly examples?: readonly string[];
}

const MILLISECONDS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
const DAY_MS = 24 * 60 * 60 * 1000;
const DURATION = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/;

/** The milliseconds of a duration, or undefined when it isn't one or is longer than a day. */
export const durationMs = (text: string): number | undefined => durationUpTo(text, DAY_MS);

/** The same where another one is the longest. */
export function durationUpTo(text: string, longestMs: number): number | undefined {
  const [, number, unit] = DURATION.exec(text) ?? [];
  if (number === undefined || unit === undefined) return undefined;
  const ms = Math.round(Number(number) * (MILLISECONDS[unit] ?? Number.NaN));
  // Rounded to nothing it would switch a deadline off.
  return ms <= longestMs && (ms > 0 || Number(number) === 0) ? ms : undefined;
}

export const duration: Format = {
  title: 'duration',
  expected: 'a duration such as 250ms, 2s, 1.5s, 5m or 1h, at most 24h',
  accepts: (text) => durationMs(text) !== undefined,
  advise(received) {
    if (typeof received === 'number' && received >= 0) return `write ${received}s or ${received}ms`;
    if (typeof received !== 'string') return undefined;
    const squeezed = received.toLowerCase().replaceAll(/\s|_/g, '');
    if (/^\d+(\.\d+)?$/.test(squeezed)) return `write ${squeezed}s or ${squeezed}ms`;
    return received !== squeezed && duration.accepts(squeezed) ? `write ${squeezed}` : undefined;
  },
  pattern: DURATION.source,
  examples: ['250ms', '2s', '5m'],
};

const BYTES: Record<string, number> = {
  B: 1,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
};
const SIZE = /^(\d+)(B|KiB|MiB|GiB|KB|MB|GB)$/;

/** The bytes of a size such as `64KiB`, or undefined when it isn't one. */
export function sizeBytes(text: string): number | undefined {
  const [, number, unit] = SIZE.exec(text) ?? [];
  if (number === undefined || unit === undefined) return undefined;
  const bytes = Number(number) * (BYTES[unit] ?? Number.NaN);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

export const size: Format = {
  title: 'size',
  expected: 'a number of bytes, or a size such as 64KiB or 10MiB',
  accepts: (text) => sizeBytes(text) !== undefined,
  advise(received) {
    if (typeof received !== 'string') return undefined;
    const [, number, unit = ''] = /^(\d+)\s*([a-z]+)$/i.exec(received) ?? [];
    const meant = Object.keys(BYTES).find((name) =>
      [name, name.replace('iB', '')].some((form) => form.toLowerCase() === unit.toLowerCase()),
    );
    return meant && size.accepts(`${number}${meant}`) ? `write ${number}${meant}` : undefined;
  },
  pattern: SIZE.source,
  examples: ['64KiB', '10MiB'],
};

const isPort = (text: string): boolean => /^\d{1,5}$/.test(text) && Number(text) <= 65_535;

/** The longest path of a Unix socket: what `sun_path` holds before its final NUL. The system cuts a longer one. */
export const UNIX_PATH_BYTES = process.platform === 'darwin' ? 103 : 107;

function isAddress(text: string): boolean {
  if (text.startsWith('unix:')) {
    const path = text.slice(5);
    return path !== '' && !path.includes('\0') && Buffer.byteLength(path) <= UNIX_PATH_BYTES;
  }
  const [, host, port] = /^(.*):([^:]*)$/s.exec(text) ?? [];
  if (host === undefined || port === undefined || !isPort(port)) return false;
  if (host === '' || host === 'localhost' || isIPv4(host)) return true;
  return host.startsWith('[') && host.endsWith(']') && !host.includes('%') && isIPv6(host.slice(1, -1));
}

/** The port where it stands alone, as a number or a text, with or without a colon. */
function portIn(received: unknown): string | undefined {
  if (typeof received !== 'number' && typeof received !== 'string') return undefined;
  return /^(?:\*?:)?(\d+)$/.exec(`${received}`)?.slice(1).find(isPort);
}

/** What address was meant; `bare` advises where there is a port alone. */
export function addressMeant(received: unknown, bare: (port: string) => string): string | undefined {
  const port = portIn(received);
  if (port !== undefined) return bare(port);
  if (typeof received !== 'string') return undefined;
  if (isIPv4(received)) return `add a port: ${received}:8080`;
  if (isIPv6(received)) return `add a port: [${received}]:8080`;
  if (received.startsWith('/')) return `write unix:${received}`;
  const plain = received.replace(/^(tcp|http|https):\/\//, '').replace(/\/$/, '');
  return plain !== received && isAddress(plain) ? `write ${plain}` : undefined;
}

/** Where something listens. */
export const address: Format = {
  title: 'address',
  expected: 'an address such as 127.0.0.1:8080, [::1]:8080, localhost:8080, :8080 or unix:/run/app.sock',
  accepts: isAddress,
  advise: (received) =>
    addressMeant(received, (port) => `write 127.0.0.1:${port}, or :${port} for all addresses`),
  examples: ['127.0.0.1:8080', ':8080', 'unix:/run/app.sock'],
};

/** Where a server answers. Who listens on all addresses is called at one of them. */
export const server: Format = {
  title: 'address',
  expected: 'an address such as 127.0.0.1:3000, [::1]:3000, localhost:3000 or unix:/run/app.sock',
  accepts: (text) => isAddress(text) && !text.startsWith(':'),
  advise: (received) => addressMeant(received, (port) => `write localhost:${port}`),
  examples: ['127.0.0.1:3000', 'unix:/run/app.sock'],
};

const LABELS = /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/;
const isHostName = (text: string): boolean => text.length <= 253 && LABELS.test(text);

/** The two halves of `host:port`, or undefined when the text isn't that. */
export function hostAndPort(text: string): { host: string; port: number } | undefined {
  const [, host = '', port = ''] = /^(.*):(\d+)$/s.exec(text) ?? [];
  if (!isHostName(host) || isIPv4(host) || !isPort(port) || Number(port) === 0) return undefined;
  return { host, port: Number(port) };
}

export const dnsName: Format = {
  title: 'host:port',
  expected: 'a DNS name and port such as site.internal:443',
  accepts: (text) => hostAndPort(text) !== undefined,
  advise(received) {
    if (typeof received !== 'string') return undefined;
    if (isHostName(received) && !isIPv4(received)) return `add a port: ${received}:443`;
    return isAddress(received) ? `write endpoints: [${received}]` : undefined;
  },
  examples: ['site.internal:443'],
};

export const srvName: Format = {
  title: 'SRV name',
  expected: 'the name of SRV records such as _http._tcp.site.internal',
  accepts: isHostName,
  examples: ['_http._tcp.site.internal'],
};

/** Segments of ids: what the SPIFFE-ID standard lets a path have, without the segments that lead elsewhere. */
const SPIFFE = /^spiffe:\/\/[a-z0-9._-]+(\/(?!\.{1,2}(\/|$))[\w.-]+)+$/;

export const isSpiffeId = (text: string): boolean => text.length <= 2048 && SPIFFE.test(text);

function isHostPattern(text: string): boolean {
  if (text === '*') return true;
  if (text.startsWith('[') && text.endsWith(']')) return !text.includes('%') && isIPv6(text.slice(1, -1));
  return isHostName(text.startsWith('*.') ? text.slice(2) : text);
}

export const hostPattern: Format = {
  title: 'host',
  expected: 'a host such as shop.test, *.shop.test or *, without a port',
  accepts: isHostPattern,
  advise(received) {
    if (typeof received !== 'string') return undefined;
    const bare = received.replace(/^https?:\/\//, '').replace(/(:\d+)?(\/.*)?$/, '');
    if (bare !== received && isHostPattern(bare)) return `write ${bare}`;
    if (received.startsWith('.') && isHostPattern(`*${received}`)) return `write '*${received}'`;
    return undefined;
  },
  examples: ['shop.test', '*.shop.test'],
};

function isNetwork(text: string): boolean {
  const [, ip = '', bits] = /^([^/]*)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const longest = isIPv4(ip) ? 32 : isIPv6(ip) && !ip.includes('%') ? 128 : -1;
  if (longest < 0 || (bits !== undefined && Number(bits) > longest)) return false;
  return longest === 32 || !holdsMapped(ip, Number(bits ?? longest));
}

/** Whether a network of IPv6 holds IPv4 addresses, as IPv6 has them, among others: whether these are meant can't be said. */
function holdsMapped(ip: string, bits: number): boolean {
  if (bits === 0 || bits >= MAPPED_BITS) return false;
  const first = (value: bigint): bigint => value >> BigInt(128 - bits);
  return first(valueOf(ip)) === first(valueOf('::ffff:0:0'));
}

/** The bits before an IPv4 address in IPv6 (RFC 4291 section 2.5.5.2). */
const MAPPED_BITS = 96;

/** An IPv6 address as a number. A URL has it in one form. */
function valueOf(ip: string): bigint {
  const [head = [], tail = []] = new URL(`http://[${ip}]`).hostname
    .slice(1, -1)
    .split('::')
    .map((part) => part.split(':').filter((group) => group !== ''));
  const zeros = Array.from({ length: 8 - head.length - tail.length }, () => '0');
  const groups = [...head, ...zeros, ...tail];
  return groups.reduce((value, group) => (value << 16n) | BigInt(`0x${group}`), 0n);
}

export const network: Format = {
  title: 'network',
  expected: 'a network such as 10.0.0.0/8, or one address',
  accepts: isNetwork,
  examples: ['10.0.0.0/8', '::1'],
};

export const trustedNetwork: Format = {
  title: 'trusted network',
  expected: 'a network such as 10.0.0.0/8, one address, or unix (whoever comes by a Unix socket)',
  accepts: (text) => text === 'unix' || isNetwork(text),
  examples: ['10.0.0.0/8', 'unix'],
};

export const pathPattern: Format = {
  title: 'path pattern',
  expected: 'a path: /this exactly, /this/* and below, /users/{id}, or ~regex',
  accepts(text) {
    if (text.startsWith('~')) return text.length > 1;
    if (!text.startsWith('/')) return false;
    const stars = text.replaceAll(/\{[^{}/]*\*\}/g, '').split('*').length - 1;
    if (text.endsWith('/*')) return stars === 1 && !text.includes('{');
    return stars === 0;
  },
  advise(received) {
    if (typeof received !== 'string' || received === '') return undefined;
    if (received === '*') return 'write /*, or leave path out';
    if (received.startsWith('^')) return `write ~${received}`;
    if (!received.startsWith('/')) return `write /${received}`;
    if (received.includes('{') && received.endsWith('/*')) return `write ${received.slice(0, -1)}{rest*}`;
    if (/[^/]\*$/.test(received)) return `write ${received.slice(0, -1)}/*, which takes whole segments`;
    return 'a * stands alone at the end; write {name} for one segment, or ~regex';
  },
  examples: ['/', '/api/*', '/users/{id}', '~/v[0-9]+/.*'],
};

export const pathRewrite: Format = {
  title: 'path',
  expected: 'a path: /this whatever came, or /this/* in place of the matched prefix',
  accepts: (text) => text.startsWith('/') && !text.slice(0, -2).includes('*') && !/[^/]\*$/.test(text),
  advise: (received) =>
    typeof received === 'string' && /^[\w*]/.test(received) ? `write /${received}` : undefined,
  examples: ['/v2/*', '/index.html'],
};

export const grpcMethod: Format = {
  title: 'service/Method',
  expected: 'a gRPC service such as shop.v1.Basket, or one method: shop.v1.Basket/Get',
  accepts: (text) => /^[\w.]+(\/(\w+|\*))?$/.test(text),
  advise: (received) =>
    typeof received === 'string' && received.startsWith('/') && grpcMethod.accepts(received.slice(1))
      ? `write ${received.slice(1)}`
      : undefined,
  examples: ['shop.v1.Basket/Get'],
};

const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH']);

/** Methods are compared with their case: `get` is a method nobody sends. */
export const method: Format = {
  title: 'method',
  expected: 'a method in upper case, such as GET',
  accepts: (text) => text !== '' && (METHODS.has(text) || !METHODS.has(text.toUpperCase())),
  advise: (received) =>
    typeof received === 'string' && METHODS.has(received.toUpperCase())
      ? `write ${received.toUpperCase()}`
      : undefined,
  examples: ['GET', 'POST'],
};

export const name: Format = { title: 'text', expected: 'a name', accepts: (text) => text !== '' };

export const text: Format = { title: 'text', expected: 'text', accepts: () => true };

export const pem: Format = {
  title: 'PEM',
  expected: 'the path of a PEM file, or PEM text',
  accepts: (value) => value !== '',
  examples: ['tls/server.crt'],
};

export const target: Format = {
  title: 'cluster or address',
  expected: 'a cluster, an address such as 127.0.0.1:3000, or a list of weighted clusters',
  accepts: (value) => value !== '',
  advise(received) {
    return typeof received === 'number' ? server.advise?.(received) : undefined;
  },
};

export const admin: Format = {
  title: 'address or `off`',
  expected: 'an address such as 127.0.0.1:4191, or off',
  accepts: (value) => value === 'off' || isAddress(value),
  advise: (received) => addressMeant(received, (port) => `write 127.0.0.1:${port}`),
  examples: ['127.0.0.1:4191', 'off'],
};

function isNameServer(value: string): boolean {
  if (isIP(value) !== 0) return !value.includes('%');
  const [, port = ''] = /:(\d+)$/.exec(value) ?? [];
  return Number(port) > 0 && !/^(localhost|unix)?:/.test(value) && isAddress(value);
}

export const nameServer: Format = {
  title: 'name server',
  expected: 'an IP address, with or without a port, such as 10.0.0.53 or 10.0.0.53:5353',
  accepts: isNameServer,
  examples: ['10.0.0.53', '[fd00::53]:5353'],
};

/** Every format, to find the advice that belongs to a message. */
export const formats: readonly Format[] = [
  duration,
  size,
  address,
  server,
  dnsName,
  srvName,
  hostPattern,
  network,
  trustedNetwork,
  pathPattern,
  pathRewrite,
  grpcMethod,
  method,
  name,
  text,
  pem,
  target,
  admin,
  nameServer,
];
