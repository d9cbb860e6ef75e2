/**
 * What do routes mean in resources?
 *
 * The friendly forms of paths, conditions, headers and actions are each turned into the one form that the core
 * reads, and routes are gathered by host.
 */

import { type Compilation, filled, itemPath, listed, present } from './compile-values.js';
import type { Path } from './path.js';
import type {
  Action,
  Filters,
  HashKey,
  HeaderEdits,
  HeaderValue,
  HostRewrite,
  PathMatch,
  PathRewrite,
  Route,
  RouteMatch,
  RouteTable,
  RouteTimeouts,
  ValueCondition,
  ValueMatch,
} from './resources.js';
import type { SourceMap } from './source-map.js';
import type {
  HashKeyConfig,
  MatchConfig,
  PathConfig,
  PathRewriteConfig,
  RedirectConfig,
  ResponseEditsConfig,
  RouteConfig,
  ValueConditionConfig,
} from './types.js';

/** A route table of routes, at `resource` in the resources; `placeOf` says where each stands in the configuration. */
export function routeTable(
  compilation: Compilation,
  name: string,
  routes: readonly RouteConfig[],
  resource: Path,
  placeOf: (route: number) => Path,
): RouteTable {
  const virtualHosts = hostGroups(routes).map(({ hosts, members }, group) => {
    const at = [...resource, 'virtualHosts', group];
    for (const [index, { from, item }] of hosts.entries()) {
      const origin = placeOf(from);
      compilation.sources.set([...at, 'hosts', index], item ? [...origin, 'match', 'host', ...item] : origin);
    }
    const made = members.map((member, index) => {
      const source = routes[member] as RouteConfig;
      const compiled = route(compilation, source, [...at, 'routes', index], placeOf(member));
      // A route of several hosts that other routes share only in part stands once for each group, by its own name.
      const first = hostsOf(source)[0]?.host;
      const again = first !== undefined && !hosts.some(({ host }) => host === first);
      return compiled.name !== undefined && again
        ? { ...compiled, name: `${compiled.name}@${hosts[0]?.host}` }
        : compiled;
    });
    return { hosts: hosts.map(({ host }) => host), routes: made };
  });
  return { name, virtualHosts };
}

interface Host {
  readonly host: string;
  /** The route that names it first. */
  readonly from: number;
  /** Its place in that route's `match.host`; undefined when the route names no host. */
  readonly item: Path | undefined;
}

function hostsOf({ match }: RouteConfig): { host: string; item: Path | undefined }[] {
  const written = match?.host;
  if (written === undefined) return [{ host: '*', item: undefined }];
  return listed(written).map((host, index) => ({
    host: hostKey(host),
    item: itemPath(written, [], index),
  }));
}

/** One text for each host, as the core has it: lower case, IPv6 addresses in their short form. */
function hostKey(host: string): string {
  return host.startsWith('[') ? new URL(`http://${host}`).hostname : host.toLowerCase();
}

/** The hosts that have the very same routes, together: a host stands in one virtual host only. */
function hostGroups(routes: readonly RouteConfig[]): { hosts: Host[]; members: number[] }[] {
  const members = new Map<string, { host: Host; routes: Set<number> }>();
  for (const [index, config] of routes.entries()) {
    for (const { host, item } of hostsOf(config)) {
      const known = members.get(host);
      if (known) known.routes.add(index);
      else members.set(host, { host: { host, from: index, item }, routes: new Set([index]) });
    }
  }
  const groups = new Map<string, { hosts: Host[]; members: number[] }>();
  for (const { host, routes: indexes } of members.values()) {
    const signature = [...indexes].join();
    const group = groups.get(signature);
    if (group) group.hosts.push(host);
    else groups.set(signature, { hosts: [host], members: [...indexes] });
  }
  return [...groups.values()];
}

function route(compilation: Compilation, config: RouteConfig, at: Path, from: Path): Route {
  const { sources } = compilation;
  sources.set(at, from);
  const { match, hashKey } = config;
  return present({
    name: config.name,
    match: match && routeMatch(match, sources, [...at, 'match'], [...from, 'match']),
    filters: filters(config, sources, [...at, 'filters'], from),
    action: action(compilation, config, [...at, 'action'], from),
    timeouts: timeouts(config, sources, [...at, 'timeouts'], [...from, 'timeout']),
    hashKey: filled(
      listed(hashKey).map((key, index) => {
        sources.set([...at, 'hashKey', index], itemPath(hashKey, [...from, 'hashKey'], index));
        return hashKeyOf(key);
      }),
    ),
  });
}

// Which requests --------------------------------------------------------------------------------------------------

function routeMatch(match: MatchConfig, sources: SourceMap, at: Path, from: Path): RouteMatch | undefined {
  const { path, method, grpc } = match;
  sources.set(at, from);
  for (const [index] of listed(method).entries()) {
    sources.set([...at, 'methods', index], itemPath(method, [...from, 'method'], index));
  }
  const [service, call] = grpc?.split('/') ?? [];
  const made = present<RouteMatch>({
    path: path === undefined ? undefined : pathMatch(path),
    methods: filled([...listed(method)]),
    headers: conditions(match.headers, sources, [...at, 'headers'], [...from, 'headers']),
    query: conditions(match.query, sources, [...at, 'query'], [...from, 'query']),
    grpc: service === undefined ? undefined : present({ service, method: call === '*' ? undefined : call }),
  });
  return Object.keys(made).length > 0 ? made : undefined;
}

/** A path condition as the core has it. */
export function pathMatch(path: PathConfig): PathMatch {
  if (typeof path !== 'string') return kindAndValue<PathMatch['kind']>(path);
  if (path.startsWith('~')) return { kind: 'regex', value: path.slice(1) };
  if (path.includes('{')) return { kind: 'template', value: path };
  if (path.endsWith('/*')) return { kind: 'prefix', value: path.slice(0, -2) || '/' };
  return { kind: 'exact', value: path };
}

/** `{ exact: /x }` as `{ kind: 'exact', value: '/x' }`. */
function kindAndValue<K extends string>(object: { [kind in K]?: string }): { kind: K; value: string } {
  const [kind, value] = Object.entries(object).find(([, written]) => written !== undefined) as [K, string];
  return { kind, value };
}

type Conditions = MatchConfig['headers'];

/** Conditions on headers or parameters as the core has them. */
export function conditions(
  written: Conditions,
  sources: SourceMap,
  at: Path,
  from: Path,
): ValueMatch[] | undefined {
  const made = Object.entries(written ?? {}).flatMap(([name, value]) => {
    const source = [...from, name];
    // Not `listed`: each condition of a list has a place of its own.
    return Array.isArray(value)
      ? value.map((condition, index) => ({ match: valueMatch(name, condition), source: [...source, index] }))
      : [{ match: valueMatch(name, value), source }];
  });
  for (const [index, { source }] of made.entries()) sources.set([...at, index], source);
  return filled(made.map(({ match }) => match));
}

function valueMatch(name: string, written: string | boolean | ValueConditionConfig): ValueMatch {
  if (typeof written === 'string') return { name, value: { kind: 'exact', value: written } };
  if (typeof written === 'boolean') return present({ name, invert: written ? undefined : true });
  const { not, present: there, ...texts } = written;
  const value: ValueCondition | undefined = there
    ? undefined
    : kindAndValue<'exact' | 'prefix' | 'suffix' | 'regex'>(texts);
  return present({ name, value, invert: not ? true : undefined });
}

// What is changed -------------------------------------------------------------------------------------------------

function filters(config: RouteConfig, sources: SourceMap, at: Path, from: Path): Filters | undefined {
  const { rewritePath, host, response } = config;
  if (host !== undefined) sources.set([...at, 'host'], [...from, 'host']);
  if (rewritePath !== undefined) sources.set([...at, 'rewritePath'], [...from, 'rewritePath']);
  const made = present<Filters>({
    requestHeaders: headerEdits(config, sources, [...at, 'requestHeaders'], from),
    responseHeaders:
      response && headerEdits(response, sources, [...at, 'responseHeaders'], [...from, 'response']),
    rewritePath: rewritePath === undefined ? undefined : pathRewrite(rewritePath),
    host: host === undefined ? undefined : hostRewrite(host),
  });
  return Object.keys(made).length > 0 ? made : undefined;
}

function headerEdits(
  edits: ResponseEditsConfig,
  sources: SourceMap,
  at: Path,
  from: Path,
): HeaderEdits | undefined {
  const values = (key: 'setHeaders' | 'addHeaders', name: 'set' | 'add'): HeaderValue[] => {
    const made = Object.entries(edits[key] ?? {}).flatMap(([header, written]) =>
      listed<string>(written).map((value, index) => ({
        header: { name: header, value },
        source: itemPath(written, [...from, key, header], index),
      })),
    );
    for (const [index, { source }] of made.entries()) sources.set([...at, name, index], source);
    return made.map(({ header }) => header);
  };
  if (edits.removeHeaders) sources.set([...at, 'remove'], [...from, 'removeHeaders']);
  const made = present<HeaderEdits>({
    remove: filled([...(edits.removeHeaders ?? [])]),
    set: filled(values('setHeaders', 'set')),
    add: filled(values('addHeaders', 'add')),
  });
  return Object.keys(made).length > 0 ? made : undefined;
}

function pathRewrite(written: string | PathRewriteConfig): PathRewrite {
  if (typeof written !== 'string') return kindAndValue<PathRewrite['kind']>(written);
  return written.endsWith('/*')
    ? { kind: 'prefix', value: written.slice(0, -2) || '/' }
    : { kind: 'full', value: written };
}

function hostRewrite(written: NonNullable<RouteConfig['host']>): HostRewrite {
  if (written === 'keep' || written === 'upstream') return { kind: written };
  return { kind: 'set', value: typeof written === 'string' ? written : written.set };
}

// Where they go ---------------------------------------------------------------------------------------------------

function action(compilation: Compilation, config: RouteConfig, at: Path, from: Path): Action {
  const { to, redirect, respond } = config;
  const { sources } = compilation;
  if (to !== undefined) {
    sources.set(at, [...from, 'to']);
    sources.set([...at, 'to'], [...from, 'to']);
    return { kind: 'forward', to: compilation.targets(to, [...at, 'to'], [...from, 'to']) };
  }
  if (redirect !== undefined) {
    sources.set(at, [...from, 'redirect']);
    return { kind: 'redirect', ...redirectOf(redirect) };
  }
  sources.set(at, [...from, 'respond']);
  if (typeof respond === 'number') return { kind: 'respond', status: respond };
  // The schema lets no route through that has none of the three.
  return { kind: 'respond', ...present(respond ?? { status: 404 }) };
}

function redirectOf({
  status,
  scheme,
  host,
  path,
}: RedirectConfig): Omit<Action & { kind: 'redirect' }, 'kind'> {
  return present({ status, scheme, host, path: path === undefined ? undefined : pathRewrite(path) });
}

function timeouts(config: RouteConfig, sources: SourceMap, at: Path, from: Path): RouteTimeouts | undefined {
  const { timeout } = config;
  if (timeout === undefined) return undefined;
  sources.set(at, from);
  return typeof timeout === 'string' ? { request: timeout } : present({ ...timeout });
}

function hashKeyOf(key: 'sourceAddress' | HashKeyConfig): HashKey {
  return key === 'sourceAddress' ? { kind: key } : kindAndValue<'header' | 'cookie' | 'query'>(key);
}
