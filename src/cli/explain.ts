/**
 * `mesh explain`: which listener, route and cluster would a request take, and why?
 *
 * Nothing is sent: the core is asked what it would decide. The request is described as one writes it for curl.
 */

import type { Command } from 'commander';
import { Option } from 'commander';
import type { ConfigPlace, LoadedConfig } from '../config/load.js';
import { parsePath, valueAt } from '../config/path.js';
import type { RouteMatch, ValueMatch } from '../config/resources.js';
import type { Decision, DescribedRequest, Outcome, Share } from '../decision.js';
import { loadChecked } from './check.js';
import { ExitCode, type World } from './io.js';
import { outputOption } from './options.js';
import { type Format, UsageError, coloursOf, json } from './output.js';

interface ExplainOptions {
  readonly config: string;
  readonly method?: string;
  readonly header: readonly string[];
  readonly listener?: string;
  readonly protocol?: 'http' | 'grpc' | 'tcp';
  readonly sni?: string;
  readonly output: Format;
}

export function addExplain(program: Command, world: World, end: (code: ExitCode) => void): void {
  program
    .command('explain')
    .description('show which listener, route and cluster a request would take, and why')
    .argument('<url>', 'http://host/path, https://, tcp:// or tls://; or a path alone')
    .addOption(
      new Option('-c, --config <file>', 'configuration, YAML or JSON')
        .env('MESH_CONFIG')
        .makeOptionMandatory(),
    )
    .addOption(new Option('-X, --method <method>', 'method (default: GET; POST for gRPC)'))
    .addOption(
      new Option('-H, --header <header>', "a header, 'name: value'; may be repeated")
        .argParser((value: string, before: readonly string[]) => [...before, value])
        .default([], 'none'),
    )
    .addOption(
      new Option('--listener <name>', "listener (default: the one with the URL's port, or the only one)"),
    )
    .addOption(new Option('--protocol <protocol>', 'what is spoken').choices(['http', 'grpc', 'tcp']))
    .addOption(new Option('--sni <name>', "server name of the TLS client (default: the URL's host)"))
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Nothing is sent. Exits with 0 when the request is served, 1 when it is refused, 64 when more has to be said.

Examples:
  mesh explain -c mesh.yaml http://shop.test/api/items
  mesh explain -c mesh.yaml https://shop.test/cart -X POST -H 'x-user: ann' -o json
  mesh explain -c mesh.yaml --protocol grpc http://shop.test/shop.v1.Basket/Get
  mesh explain -c mesh.yaml tls://db.test:5432`,
    )
    .action(async (url: string, options: ExplainOptions) => {
      const request = described(url, options);
      const core = await world.loadCore();
      const loaded = await loadChecked(options.config, core);
      const decision = core.routeRequest(loaded.toJson(), request);
      const text =
        options.output === 'json' ? json(withPlaces(decision, loaded)) : render(decision, loaded, world);
      world.stdout.write(text);
      end(exitCodeOf(decision.outcome));
    });
}

function exitCodeOf({ kind }: Outcome): ExitCode {
  if (kind === 'unclear') return ExitCode.usage;
  return kind === 'refused' ? ExitCode.failure : ExitCode.ok;
}

/** The request that a command line describes. `host` is a header to people, and the request's host to the core. */
function described(url: string, options: ExplainOptions): DescribedRequest {
  const { method, listener, protocol, sni } = options;
  const headers: Record<string, string[]> = {};
  const wrong: string[] = [];
  let host: string | undefined;
  for (const line of options.header) {
    const [, name, value = ''] = /^([^\s:]+):\s*(.*?)\s*$/.exec(line) ?? [];
    if (name === undefined) wrong.push(`--header: expected 'name: value', received ${JSON.stringify(line)}`);
    else if (name.toLowerCase() === 'host') host = value;
    else (headers[name.toLowerCase()] ??= []).push(value);
  }
  if (wrong.length > 0) throw new UsageError(wrong);
  return {
    url,
    headers,
    ...(host !== undefined && { host }),
    ...(method !== undefined && { method }),
    ...(listener !== undefined && { listener }),
    ...(protocol !== undefined && { protocol }),
    ...(sni !== undefined && { sni }),
  };
}

/** The place of the listener that decided. */
function listenerPath(decision: Decision, loaded: LoadedConfig): string | undefined {
  const { listeners } = loaded.compiled.resources;
  const at = listeners.findIndex(({ name }) => name === decision.listener);
  return at < 0 ? undefined : `listeners[${at}]`;
}

/** The decision with the places where its parts were written. */
function withPlaces(decision: Decision, loaded: LoadedConfig): object {
  const { listener, route, passedOver, outcome } = decision;
  const at = listenerPath(decision, loaded);
  return {
    ...(at !== undefined && { listener: { name: listener, place: loaded.place(at) } }),
    ...(route && { route: { ...route, place: loaded.place(route.path) } }),
    ...(passedOver && { passedOver: passedOver.map((one) => ({ ...one, place: loaded.place(one.path) })) }),
    outcome,
  };
}

function render(decision: Decision, loaded: LoadedConfig, world: World): string {
  const { route, passedOver = [] } = decision;
  const { resources } = loaded.compiled;
  const rows: [what: string, text: string][] = [];
  const at = listenerPath(decision, loaded);
  if (at !== undefined) {
    const { address } = valueAt(resources, parsePath(at)) as { address: string };
    rows.push(['listener', `${decision.listener} on ${address}${shown(loaded.place(at))}`]);
  }
  if (route) {
    const { match = {} } = valueAt(resources, parsePath(route.path)) as { match?: RouteMatch };
    rows.push(
      ['route', `${route.name}${shown(loaded.place(route.path))}`],
      ['takes', conditions(route.hosts, match)],
    );
  }
  rows.push(...outcomeRows(decision.outcome));
  for (const { name, path, why } of passedOver)
    rows.push(['passed over', `${name}${shown(loaded.place(path))}: ${why}`]);
  const { stdout, env } = world;
  if (!stdout.isTTY) return rows.map((row) => `${row.join('\t')}\n`).join('');
  const width = Math.max(...rows.map(([what]) => what.length));
  const { bold } = coloursOf(stdout, env);
  return rows.map(([what, text]) => `${bold(what.padEnd(width))}  ${text}\n`).join('');
}

function shown({ file, line, column, field }: ConfigPlace): string {
  const place = [file, line, column].filter((part) => part !== undefined).join(':');
  return ` (${place || field})`;
}

function outcomeRows(outcome: Outcome): [what: string, text: string][] {
  switch (outcome.kind) {
    case 'forward':
      return [
        ['forward', shares(outcome.clusters)],
        ['sends', `${outcome.host ?? "the server's own name,"} ${outcome.path}`.trim()],
        ...(outcome.timeout === undefined ? [] : [['within', outcome.timeout] as [string, string]]),
      ];
    case 'stream':
      return [['stream', shares(outcome.clusters)]];
    case 'redirect':
      return [['redirect', `${outcome.status} ${outcome.location}`]];
    case 'respond':
      return [
        ['respond', `${outcome.status} ${outcome.contentType}, ${Buffer.byteLength(outcome.body)} bytes`],
      ];
    case 'refused': {
      const grpc = outcome.grpcStatus === undefined ? '' : ` (grpc-status ${outcome.grpcStatus})`;
      return [['refused', `${outcome.status} ${outcome.reason}${grpc}: ${outcome.message}`]];
    }
    case 'unclear':
      return [['unclear', outcome.message]];
  }
}

/** `site 95 %, site-next 5 %`; one cluster alone has no share. */
function shares(clusters: readonly Share[]): string {
  const percent = (value: number): string => ` ${Number(value.toFixed(2))} %`;
  return clusters
    .map(({ cluster, percent: value }) => cluster + (clusters.length > 1 ? percent(value) : ''))
    .join(', ');
}

/** What a route asks of a request. */
function conditions(hosts: readonly string[], match: RouteMatch): string {
  const { path, methods = [], headers = [], query = [], grpc } = match;
  const names = (list: readonly ValueMatch[]): string => list.map(({ name }) => name).join(', ');
  return [
    `host ${hosts.join(' or ')}`,
    path && `path ${path.kind === 'prefix' ? `${path.value.replace(/\/$/, '')}/*` : path.value}`,
    grpc && `gRPC ${grpc.service}/${grpc.method ?? '*'}`,
    methods.length > 0 && `method ${methods.join(' or ')}`,
    headers.length > 0 && `header ${names(headers)}`,
    query.length > 0 && `query ${names(query)}`,
  ]
    .filter(Boolean)
    .join(', ');
}
