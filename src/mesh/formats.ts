/** How are the small values of a mesh file written? Those that it shares with configurations are in `config/formats.ts`. */

import {
  dnsName,
  duration,
  durationUpTo,
  type Format,
  formats as shared,
  isSpiffeId,
  method,
  network,
  pathPattern,
  server,
} from '../config/formats.js';
import { etcdPrefix, etcdUrl } from '../discovery/etcd-options.js';

export { etcdPrefix, etcdUrl } from '../discovery/etcd-options.js';

const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const isLabel = (text: string): boolean => LABEL.test(text);
const isPort = (text: string): boolean => /^[1-9]\d{0,4}$/.test(text) && Number(text) <= 65_535;

/** The label that was meant. */
function asLabel(received: unknown): string | undefined {
  if (typeof received !== 'string') return undefined;
  const label = received
    .trim()
    .toLowerCase()
    .replaceAll(/[_.\s/]+/g, '-');
  return label !== received && isLabel(label) ? `write ${label}` : undefined;
}

/** The name of a service or a namespace: it is part of host names and of identities. */
export const label: Format = {
  title: 'name',
  expected: 'a name of a-z, 0-9 and -, at most 63 letters',
  accepts: isLabel,
  advise: asLabel,
  pattern: LABEL.source,
  examples: ['basket'],
};

export const environmentName: Format = {
  title: 'variable',
  expected: 'the name of an environment variable, such as LOG_LEVEL',
  accepts: (text) => /^[A-Za-z_]\w*$/.test(text),
};

export const trustDomain: Format = {
  title: 'trust domain',
  expected: 'a trust domain of a-z, 0-9, . and -, such as mesh.local',
  accepts: (text) => text.length <= 180 && text.split('.').every(isLabel),
  advise: (received) =>
    typeof received === 'string' && trustDomain.accepts(received.replace(/^spiffe:\/\//, '').toLowerCase())
      ? `write ${received.replace(/^spiffe:\/\//, '').toLowerCase()}`
      : undefined,
  examples: ['mesh.local'],
};

/** A service, or one of its ports: the names of route tables in a mesh. */
export const servicePort: Format = {
  title: 'service',
  expected: 'a service such as basket, or one of its ports: basket:9000',
  accepts(text) {
    const [service = '', port, ...more] = text.split(':');
    return more.length === 0 && isLabel(service) && (port === undefined || isPort(port));
  },
  advise: asLabel,
};

export const serviceOrAll: Format = {
  title: 'service or `*`',
  expected: 'a service such as basket, a list of them, or *',
  accepts: (text) => text === '*' || isLabel(text),
  advise: asLabel,
  examples: ['basket', '*'],
};

/** All ports from one to another. */
export const portRange: Format = {
  title: 'range of ports',
  expected: 'a port such as 25, or a range such as 8000-8010',
  accepts(text) {
    const [first = '', last = '', ...more] = text.split('-');
    return more.length === 0 && isPort(first) && isPort(last) && Number(first) <= Number(last);
  },
  advise: (received) =>
    typeof received === 'string' && isPort(received) ? `write ${received} without quotes` : undefined,
  examples: ['8000-8010'],
};

/** Where a service answers that is not part of the mesh. */
export const serviceAddress: Format = {
  title: 'address',
  expected: 'an address such as 10.0.0.7:8443, billing.internal:443 or unix:/run/app.sock',
  accepts: (text) => server.accepts(text) || dnsName.accepts(text),
  advise: (received) => server.advise?.(received) ?? dnsName.advise?.(received),
  examples: ['10.0.0.7:8443', 'billing.internal:443'],
};

/** Who may be meant by `from`. */
export const peer: Format = {
  title: 'caller',
  expected:
    'a service, *, anyone, ns/NAMESPACE, a SPIFFE id (with /* all below it) or a network such as 10.0.0.0/8',
  accepts(text) {
    if (text === '*' || isLabel(text)) return true;
    if (text.startsWith('ns/')) return isLabel(text.slice(3));
    if (text.startsWith('spiffe:')) return isSpiffeId(text.endsWith('/*') ? text.slice(0, -2) : text);
    return network.accepts(text);
  },
  advise: (received) =>
    typeof received === 'string' && /^\d/.test(received) ? undefined : asLabel(received),
  examples: ['web', '*', 'ns/shop', 'spiffe://other.test/ns/shop/sa/web', '10.0.0.0/8'],
};

/** The parts of what is allowed or denied. */
interface Permission {
  readonly methods: readonly string[];
  readonly path: string | undefined;
  readonly grpc: string | undefined;
}

/** `GET /items`, `GET,HEAD`, `/items/*`, `grpc shop.Basket/Get`. */
export function readPermission(text: string): Permission | undefined {
  const [first = '', second, ...more] = text.trim().split(/\s+/);
  if (more.length > 0) return undefined;
  if (first === 'grpc') {
    const known = second !== undefined && /^[\w.]+(\/(\w+|\*))?$/.test(second);
    return known ? { methods: [], path: undefined, grpc: second } : undefined;
  }
  if (second === undefined && /^[/~]/.test(first)) {
    return pathPattern.accepts(first) ? { methods: [], path: first, grpc: undefined } : undefined;
  }
  const methods = first.split(',');
  const good = methods.every((name) => /^[A-Z][A-Z-]*$/.test(name) && method.accepts(name));
  if (!good || (second !== undefined && !pathPattern.accepts(second))) return undefined;
  return { methods, path: second, grpc: undefined };
}

const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH']);

export const permission: Format = {
  title: 'requests',
  expected: 'requests such as GET /items, GET,HEAD /items/*, POST, /items or grpc shop.Basket/Get',
  accepts: (text) => readPermission(text) !== undefined,
  advise(received) {
    if (typeof received !== 'string') return undefined;
    const [first = '', ...rest] = received.trim().split(/\s+/);
    const methods = first.toUpperCase().split(',');
    if (first !== 'grpc' && methods.every((name) => METHODS.has(name))) {
      const upper = [methods.join(','), ...rest].join(' ');
      return readPermission(upper) ? `write ${upper}` : undefined;
    }
    return /^\w[\w./-]*$/.test(received) ? `write /${received}` : undefined;
  },
  examples: ['GET /items', 'GET,HEAD /items/*', 'grpc shop.Basket/Get'],
};

export const command: Format = {
  title: 'command',
  expected: 'a command such as node web.mjs',
  accepts: (text) => text.trim() !== '' && !text.includes('\0'),
  examples: ['node web.mjs', './basket --port {port}'],
};

/** As long as certificates and tokens may live, and no deadline: `MAX_TTL` of crates/identity. */
const LONGEST_LIFE_MS = 30 * 24 * 60 * 60 * 1000;

/** The milliseconds of how long a certificate or a token is valid, or undefined where none may be. */
export const lifetimeMs = (text: string): number | undefined => durationUpTo(text, LONGEST_LIFE_MS);

export const lifetime: Format = {
  title: 'duration',
  expected: 'a duration such as 10m, 24h or 168h, at most 720h (30 days)',
  accepts: (text) => lifetimeMs(text) !== undefined,
  advise(received) {
    const [, days] = /^(\d{1,2})d$/.exec(String(received)) ?? [];
    const hours = `${Number(days) * 24}h`;
    return days !== undefined && lifetime.accepts(hours) ? `write ${hours}` : duration.advise?.(received);
  },
  ...(duration.pattern !== undefined && { pattern: duration.pattern }),
  examples: ['10m', '24h', '720h'],
};

export const httpPath: Format = {
  title: 'path',
  expected: 'a path such as /healthz',
  accepts: (text) => /^\/[^\s#]*$/.test(text),
  advise: (received) =>
    typeof received === 'string' && /^[\w-]/.test(received) ? `write /${received}` : undefined,
  examples: ['/healthz'],
};

/** Every format of a mesh file, to find the advice that belongs to a message. */
export const formats: readonly Format[] = [
  ...shared,
  label,
  environmentName,
  trustDomain,
  servicePort,
  serviceOrAll,
  serviceAddress,
  portRange,
  peer,
  permission,
  command,
  lifetime,
  httpPath,
  etcdUrl,
  etcdPrefix,
];
