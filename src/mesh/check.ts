/**
 * Does a mesh file fit together?
 *
 * The schema has seen the shape, and the core will see the resources. What only the file knows is looked at here: which
 * services and ports there are, and who refers to them.
 */

import { itemPath, listed } from '../config/compile-values.js';
import { address, dnsName, network } from '../config/formats.js';
import type { RawIssue } from '../config/issues.js';
import type { Path } from '../config/path.js';
import { nearest } from '../config/suggest.js';
import type { RouteConfig } from '../config/types.js';
import { type CompiledMesh, goesByOthers } from './compile.js';
import { lifetimeMs } from './formats.js';
import { CONTROL, OWN_PREFIX, PROXY_VARIABLES, portVariable, urlVariable } from './names.js';
import { type ServicePort, isOutside, portsOf } from './services.js';
import type { MeshConfig, PolicyConfig, ServiceConfig } from './types.js';

const SHORTEST_TTL_MS = 60_000;
const LAST_PORT = 65_535;

/** Everything that does not fit. */
export function checkMesh(config: MeshConfig): RawIssue[] {
  const known = new Map(Object.entries(config.services).map(([name, service]) => [name, portsOf(service)]));
  const { policies = [], routes = {}, services, mesh } = config;
  const ttl = lifetimeMs(mesh?.certificates?.ttl ?? '24h') ?? 0;
  return [
    ...(ttl < SHORTEST_TTL_MS
      ? [
          issue(
            ['mesh', 'certificates', 'ttl'],
            'bad_value',
            'certificates must be valid longer than it takes to renew them',
            'write 1m, or more',
          ),
        ]
      : []),
    ...emptyIssues(['mesh', 'shared', 'etcd', 'endpoints'], mesh?.shared?.etcd.endpoints),
    ...(mesh?.shared && mesh.shared.keyFile === undefined && mesh.certificates?.issuer === undefined
      ? [
          issue(
            ['mesh', 'shared'],
            'missing',
            'nothing encrypts the issuer that is shared',
            'write keyFile, or certificates with an issuer of yours',
          ),
        ]
      : []),
    ...Object.entries(services).flatMap(([name, service]) => serviceIssues(name, service)),
    ...numberIssues(config),
    ...controlIssues(config),
    ...variableIssues(config),
    ...Object.entries(routes).flatMap(([key, list]) => routeIssues(key, list, known)),
    ...twiceRouted(Object.keys(routes), known),
    ...policies.flatMap((policy, index) => policyIssues(policy, ['policies', index], config, known)),
  ];
}

/** Endpoints that would not go by the policies of the service that they are written for. */
export function unprotectedIssues({ services }: MeshConfig, compiled: CompiledMesh): RawIssue[] {
  return Object.entries(services).flatMap(([name, { discover }]) => {
    if (discover?.outside === true) return [];
    return (discover?.endpoints ?? []).flatMap((endpoint, index): RawIssue[] => {
      const identity = typeof endpoint === 'string' ? undefined : endpoint.identity;
      const other = goesByOthers(name, identity, compiled);
      if (other === undefined) return [];
      const message = `that is ${other}, which a policy for ${name} is not for: nothing would enforce it there`;
      const at: Path = ['services', name, 'discover', 'endpoints', index, 'identity'];
      return [issue(at, 'conflict', message, `name ${other} in \`to\` as well, or give it another identity`)];
    });
  });
}

/** What of a mesh file is for a control plane that stands alone, and can't be had where services are run. */
export function discoveredIssues({ services, mesh }: MeshConfig): RawIssue[] {
  const shared = mesh?.shared && issue(['mesh', 'shared'], 'conflict', 'it is for mesh control');
  const discovered = Object.entries(services)
    .filter(([, service]) => service.run === undefined && service.address === undefined)
    .map(([name]) => ({
      ...issue(
        ['services', name],
        'missing',
        'nothing says how to run it',
        'write run or address, or use mesh control',
      ),
      part: 'key' as const,
    }));
  return [...(shared ? [shared] : []), ...discovered];
}

type Known = ReadonlyMap<string, readonly ServicePort[]>;

function issue(path: Path, code: string, message: string, suggestion?: string): RawIssue {
  return { code, path, part: 'value', message, ...(suggestion && { suggestion }) };
}

function unknownService(path: Path, name: string, known: Known, part: RawIssue['part'] = 'value'): RawIssue {
  const meant = nearest(name, [...known.keys()]);
  const all = [...known.keys()].join(', ');
  const suggestion = meant ? `did you mean ${meant}?` : all && `the services are ${all}`;
  return { ...issue(path, 'unknown_service', `there is no service ${name}`, suggestion), part };
}

/** What means something else: to a resolver, or in `from`. */
const RESERVED = new Set(['localhost', 'anyone']);
/** What makes a host an IPv4 address in URLs, if only a bad one: decimal, octal and hexadecimal (WHATWG URL, 3.5). */
const ENDS_IN_NUMBER = /(?:^|\.)(?:\d+|0x[\da-f]*)$/;

function serviceIssues(name: string, service: ServiceConfig): RawIssue[] {
  const at: Path = ['services', name];
  const issues: RawIssue[] = [];
  if (RESERVED.has(name)) {
    issues.push({
      ...issue(at, 'bad_value', `${name} is no name for a service: it has a meaning already`),
      part: 'key',
    });
  }
  if (ENDS_IN_NUMBER.test(name)) {
    const message = `${name} is no name for a service: URLs take it for an IP address`;
    issues.push({ ...issue(at, 'bad_value', message, 'write a name with other letters'), part: 'key' });
  }
  issues.push(...placeIssues(at, service));
  const addresses = listed(service.address);
  if (addresses.length > 1) {
    for (const [index, text] of addresses.entries()) {
      if (!dnsName.accepts(text) || address.accepts(text)) continue;
      issues.push(
        issue(
          [...at, 'address', index],
          'conflict',
          'a DNS name stands alone',
          'write IP addresses, or one name',
        ),
      );
    }
  }
  issues.push(
    ...emptyIssues([...at, 'address'], service.address),
    ...emptyIssues([...at, 'discover', 'etcd', 'endpoints'], service.discover?.etcd?.endpoints),
  );
  const taken = new Set<number>();
  for (const { name: extra, port } of portsOf(service)) {
    if (taken.has(port) && extra !== undefined) {
      issues.push(issue([...at, 'ports', extra], 'conflict', `${port} is a port of ${name} already`));
    }
    taken.add(port);
  }
  issues.push(...bindIssues(at, service), ...environmentIssues(at, service));
  const named = Object.keys(service.ports ?? {});
  for (const [, wanted = ''] of (service.run ?? '').matchAll(/\{port\.([^{}]*)\}/g)) {
    if (named.includes(wanted)) continue;
    const meant = nearest(wanted, named);
    const suggestion = meant ? `did you mean {port.${meant}}?` : `write ports: { ${wanted}: 9000 }`;
    issues.push(issue([...at, 'run'], 'unknown_port', `${name} has no port called ${wanted}`, suggestion));
  }
  return issues;
}

/** Each copy takes the next port, and there is a last one. */
function bindIssues(at: Path, { bind = {}, copies = 1 }: ServiceConfig): RawIssue[] {
  return Object.entries(bind).flatMap(([key, first]: [string, number]) => {
    if (first + copies - 1 <= LAST_PORT) return [];
    const message = `${copies} copies take ${copies} ports from ${first}, and the last port is ${LAST_PORT}`;
    return [issue([...at, 'bind', key], 'bad_value', message, `write ${LAST_PORT - copies + 1}, or less`)];
  });
}

/** A variable that the mesh gives says what only the mesh knows: another value would be silently wrong. */
function environmentIssues(at: Path, service: ServiceConfig): RawIssue[] {
  const ports = new Map(portsOf(service).map(({ name }) => [portVariable(name), name]));
  return Object.entries(service.env ?? {}).flatMap(([variable, value]): RawIssue[] => {
    const isProxy = PROXY_VARIABLES.some((name) => name === variable);
    if (!ports.has(variable) && !isProxy && !variable.startsWith(OWN_PREFIX)) return [];
    const message = `${variable} is what the mesh tells it`;
    const suggestion = isProxy
      ? `leave it out; a command in run may set it: ${variable}="$${variable},..." node web.mjs`
      : wantedPort(variable, ports.get(variable), value);
    return [{ ...issue([...at, 'env', variable], 'conflict', message, suggestion), part: 'key' }];
  });
}

function wantedPort(variable: string, name: string | undefined, value: string): string {
  if (variable === portVariable(undefined))
    return `write bind: { port: ${/^\d+$/.test(value) ? value : 3000} }`;
  return name === undefined ? 'give it another name' : `leave it out: {port.${name}} in run is the same port`;
}

/** What ends the names of all services. */
function numberIssues({ mesh = {} }: MeshConfig): RawIssue[] {
  return (['namespace', 'trustDomain'] as const).flatMap((key) => {
    const written = mesh[key];
    if (written === undefined || !ENDS_IN_NUMBER.test(written)) return [];
    const message = `no URL can name a host that ends in a number: ${written}`;
    return [issue(['mesh', key], 'bad_value', message, 'write one that ends in a name')];
  });
}

/** A service that would be the control plane itself, which signs nobody a certificate of its own identity. */
function controlIssues({ services, mesh }: MeshConfig): RawIssue[] {
  const { [CONTROL.service]: service } = services;
  if (mesh?.namespace !== CONTROL.namespace || service === undefined || isOutside(service)) return [];
  const message = `${CONTROL.service} in the namespace ${CONTROL.namespace} is the control plane itself`;
  return [
    {
      ...issue(['services', CONTROL.service], 'bad_value', message, 'give one of them another name'),
      part: 'key',
    },
  ];
}

/** What applications call services by: each variable means one port. */
function variableIssues({ services }: MeshConfig): RawIssue[] {
  const all = Object.entries(services);
  if (!all.some(([, { run }]) => run !== undefined)) return [];
  const taken = new Map<string, string>();
  return all.flatMap(([name, service]) =>
    portsOf(service).flatMap(({ name: extra }): RawIssue[] => {
      const at: Path = ['services', name, ...(extra === undefined ? [] : ['ports', extra])];
      const variable = urlVariable(name, extra);
      const other = taken.get(variable);
      taken.set(variable, at.join('.'));
      if (other === undefined) return [];
      const message = `${variable} would be ${other} and ${at.join('.')}`;
      return [{ ...issue(at, 'conflict', message, 'give one of them another name'), part: 'key' }];
    }),
  );
}

function emptyIssues(at: Path, list: string | readonly string[] | undefined): RawIssue[] {
  return list?.length === 0 ? [issue(at, 'missing', 'the list is empty: expected an address')] : [];
}

/** What is written is for another kind of service. */
function placeIssues(at: Path, service: ServiceConfig): RawIssue[] {
  const { run, discover, tls } = service;
  const issues: RawIssue[] = [];
  for (const key of ['copies', 'env', 'cwd', 'ready', 'bind', 'grace'] as const) {
    // Beside `address` the schema has told it.
    if (service[key] === undefined || run !== undefined || service.address !== undefined) continue;
    issues.push({ ...issue([...at, key], 'conflict', `${key} is for a service with run`), part: 'key' });
  }
  const outside = isOutside(service);
  if (tls !== undefined && tls !== false && !outside && run === undefined) {
    const message = 'inside the mesh TLS is what sidecars do';
    issues.push(
      issue([...at, 'tls'], 'conflict', message, 'leave tls out, or write discover: { outside: true }'),
    );
  }
  if (discover?.outside === true) {
    if (discover.registered === true || !(discover.endpoints ?? discover.file ?? discover.etcd)) {
      const message = 'who is outside of the mesh has no sidecar that announces it';
      issues.push(
        issue([...at, 'discover', 'outside'], 'conflict', message, 'name endpoints, a file or etcd'),
      );
    }
    if (service.ports !== undefined) {
      const message = 'an endpoint outside of the mesh has one port: that of its address';
      issues.push({ ...issue([...at, 'ports'], 'conflict', message), part: 'key' });
    }
  }
  return issues;
}

function routeIssues(key: string, routes: readonly RouteConfig[], known: Known): RawIssue[] {
  const [service = '', port] = key.split(':');
  const at: Path = ['routes', key];
  const ports = known.get(service);
  const issues: RawIssue[] = [];
  if (!ports) {
    issues.push(unknownService(at, service, known, 'key'));
  } else if (port !== undefined && !ports.some((each) => each.port === Number(port))) {
    const all = [...new Set(ports.map((each) => each.port))].join(', ');
    issues.push({
      ...issue(at, 'unknown_port', `${service} has no port ${port}`, `its ports: ${all}`),
      part: 'key',
    });
  }
  for (const [index, { match, to }] of routes.entries()) {
    if (match?.host !== undefined) {
      const message = `requests to ${service} are for its own names`;
      issues.push(issue([...at, index, 'match', 'host'], 'conflict', message, 'leave host out'));
    }
    for (const [item, target] of listed(to).entries()) {
      const name = typeof target === 'string' ? target : target.cluster;
      if (isTarget(name, known)) continue;
      const path = itemPath(to, [...at, index, 'to'], item);
      issues.push(unknownService(typeof target === 'string' ? path : [...path, 'cluster'], name, known));
    }
  }
  return issues;
}

/** The name of a service means its own port: who writes both has written one in vain. */
function twiceRouted(keys: readonly string[], known: Known): RawIssue[] {
  return keys.flatMap((key) => {
    const own = known.get(key)?.[0];
    const same = `${key}:${own?.port}`;
    if (own === undefined || !keys.includes(same)) return [];
    const message = `${key} is ${same}, which has routes of its own`;
    return [{ ...issue(['routes', key], 'conflict', message, 'write one list'), part: 'key' as const }];
  });
}

/** A service, one of its ports, or an address outside of the mesh. */
function isTarget(name: string, known: Known): boolean {
  const [service = '', port] = name.split(':');
  const ports = known.get(service);
  if (ports) return port === undefined || ports.some((each) => each.port === Number(port));
  return address.accepts(name) || dnsName.accepts(name);
}

function policyIssues(policy: PolicyConfig, at: Path, config: MeshConfig, known: Known): RawIssue[] {
  const issues: RawIssue[] = [];
  for (const [index, name] of listed(policy.to).entries()) {
    const path = itemPath(policy.to, [...at, 'to'], index);
    if (name === '*') continue;
    if (!known.has(name)) issues.push(unknownService(path, name, known));
    else if (isOutside(config.services[name] ?? {})) {
      const message = `${name} is outside of the mesh: nothing there enforces a policy`;
      issues.push(issue(path, 'conflict', message));
    }
  }
  for (const [index, name] of listed(policy.from).entries()) {
    const other = name === '*' || name === 'anyone' || /^(spiffe:|ns\/)/.test(name) || network.accepts(name);
    if (other) continue;
    const path = itemPath(policy.from, [...at, 'from'], index);
    if (!known.has(name)) issues.push(unknownService(path, name, known));
    else if (isOutside(config.services[name] ?? {})) {
      const message = `${name} is outside of the mesh: it can't prove who it is`;
      issues.push(issue(path, 'conflict', message, 'write the network that it calls from'));
    }
  }
  return [...issues, ...nobodyIssues(policy, at), ...portIssues(policy, at, config, known)];
}

/** An empty list is nobody, or nothing: what was meant is everybody, or a list that lost its last entry. */
function nobodyIssues(policy: PolicyConfig, at: Path): RawIssue[] {
  return (['to', 'from', 'ports', 'deny'] as const).flatMap((key) => {
    const written = policy[key];
    if (!Array.isArray(written) || written.length > 0) return [];
    const suggestion = key === 'to' ? "write a service, or '*'" : `name some, or leave ${key} out`;
    const message = 'the list is empty: the policy would say nothing, or more than it seems to';
    return [issue([...at, key], 'missing', message, key === 'deny' ? 'write true, or requests' : suggestion)];
  });
}

/** Ports are those of the services that are called; by what else a URL may call them, policy does not see. */
function portIssues(policy: PolicyConfig, at: Path, config: MeshConfig, known: Known): RawIssue[] {
  const inside = [...known].filter(([name]) => !isOutside(config.services[name] ?? {}));
  const to = listed(policy.to);
  const named = inside.filter(([name]) => to.includes(name) && !to.includes('*'));
  // Who else is named has been told.
  const called = named.length > 0 ? named : inside;
  const who = named.length > 0 ? `of ${named.map(([name]) => name).join(', ')}` : 'of a service';
  const ports = new Set(called.flatMap(([, each]) => each.map(({ port }) => port)));
  return (policy.ports ?? []).flatMap((port, index) => {
    if (ports.has(port)) return [];
    const message = `${port} is no port ${who}`;
    const suggestion = `the ports are ${[...ports].join(', ')}`;
    return [issue([...at, 'ports', index], 'unknown_port', message, suggestion)];
  });
}
