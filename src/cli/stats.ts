/** `mesh stats`: what has a running proxy done? */

import { request } from 'node:http';
import type { Command } from 'commander';
import { Option } from 'commander';
import * as formats from '../config/formats.js';
import type { ProxyStats } from '../proxy/types.js';
import { ExitCode, type World } from './io.js';
import { givenBy } from './mistyped.js';
import { DEFAULT_ADMIN, outputOption } from './options.js';
import { type Format, UsageError, coloursOf, json, table } from './output.js';

/** 10,000 label sets of 500 bytes are 5 MB. */
const MAX_BYTES = 32 * 1024 * 1024;
/** An admin server answers in milliseconds; one that hangs should not hang us. */
const TIMEOUT_MS = 5000;

export function addStats(program: Command, world: World, end: (code: ExitCode) => void): void {
  program
    .command('stats')
    .description('print what a running proxy has done: routes, latencies, clusters, endpoints')
    .addOption(
      new Option('--admin <address>', "the proxy's admin address").default(DEFAULT_ADMIN).env('MESH_ADMIN'),
    )
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Examples:
  mesh stats
  mesh stats --admin 127.0.0.1:9901 -o json | jq '.routes[].duration.p99Ms'`,
    )
    .action(async ({ admin: given, output }: { admin: string; output: Format }, command: Command) => {
      // What a variable says holds for every command: `off` is for the one that runs a proxy, and an empty one is none.
      const isNone = command.getOptionValueSource('admin') === 'env' && ['', 'off'].includes(given);
      const admin = isNone ? DEFAULT_ADMIN : given;
      if (!formats.address.accepts(admin))
        throw new UsageError([
          `${givenBy(command)('--admin')}: expected ${formats.address.expected}, received ${admin}`,
        ]);
      const text = await read(admin);
      const stats = parse(text, admin);
      world.stdout.write(output === 'json' ? json(stats) : render(stats, world));
      end(ExitCode.ok);
    });
}

/** The text of `/stats`. */
function read(admin: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const colon = admin.lastIndexOf(':');
    const host = admin.slice(0, colon).replace(/^\[|\]$/g, '') || 'localhost';
    const place = admin.startsWith('unix:')
      ? { socketPath: admin.slice(5) }
      : { host, port: admin.slice(colon + 1) };
    const asked = request(
      { ...place, path: '/stats', headers: { accept: 'application/json' } },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
          if (text.length > MAX_BYTES)
            asked.destroy(new Error(`the answer has more than ${MAX_BYTES} bytes`));
        });
        response.on('error', (error) => reject(noAnswer(admin, error.message)));
        response.on('end', () => {
          if (response.statusCode === 200) resolve(text);
          else if (response.statusCode === 403) reject(fromThere(admin));
          else
            reject(
              noAnswer(admin, `it answered ${response.statusCode}, which a proxy's admin server does not`),
            );
        });
      },
    );
    asked.setTimeout(TIMEOUT_MS, () => asked.destroy(new Error(`no answer within ${TIMEOUT_MS} ms`)));
    asked.on('error', (error) => reject(noAnswer(admin, error.message || error.name)));
    asked.end();
  });
}

function noAnswer(admin: string, reason: string): Error {
  return new Error(
    `no statistics from ${admin}: ${reason}; start a proxy with mesh run, or give its admin address with --admin`,
  );
}

/** An admin server tells what it knows to its own host. */
function fromThere(admin: string): Error {
  return new Error(
    `no statistics from ${admin}: it answers its own host alone; ask from there, by a loopback address or its Unix socket`,
  );
}

function parse(text: string, admin: string): ProxyStats {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && 'routes' in value) return value as ProxyStats;
  } catch {
    // Told below.
  }
  throw noAnswer(admin, 'the answer is not that of a proxy');
}

function render(stats: ProxyStats, world: World): string {
  const { stdout, env } = world;
  const { dim } = coloursOf(stdout, env);
  const withPeers = stats.routes.some(({ peer }) => peer !== undefined);
  const withPorts = stats.routes.some(({ port }) => port !== undefined);
  const columns = ['REQUESTS', 'SUCCESS', 'P50', 'P95', 'P99'];
  const routes = table(
    [
      'LISTENER',
      'ROUTE',
      'CLUSTER',
      'PROTOCOL',
      ...(withPeers ? ['PEER'] : []),
      ...(withPorts ? ['PORT'] : []),
      ...columns,
    ],
    stats.routes.map(
      ({ listener, route, cluster, protocol, peer, port, requests, successRate, duration }) => [
        listener,
        route,
        cluster,
        protocol,
        ...(withPeers ? [peer ?? '-'] : []),
        ...(withPorts ? [port ?? '-'] : []),
        requests,
        successRate === null ? '-' : `${(100 * successRate).toFixed(2)} %`,
        milliseconds(duration.p50Ms),
        milliseconds(duration.p95Ms),
        milliseconds(duration.p99Ms),
      ],
    ),
    stdout,
    env,
  );
  const endpoints = table(
    ['CLUSTER', 'ENDPOINT', 'STATE', 'IN FLIGHT', 'REQUESTS'],
    stats.clusters.flatMap((cluster) =>
      cluster.endpoints.map(({ address, state, active, requests }) => [
        cluster.name,
        address,
        state,
        active,
        requests,
      ]),
    ),
    stdout,
    env,
  );
  const { residentBytes, cpuSeconds } = stats.process;
  const facts = [
    `mesh ${stats.version}`,
    `${stats.threads.length} data threads`,
    residentBytes === null ? undefined : `${(residentBytes / 1e6).toFixed(1)} MB resident`,
    cpuSeconds === null ? undefined : `${cpuSeconds.toFixed(1)} s CPU`,
  ];
  return `${dim(facts.filter(Boolean).join(', '))}\n\n${routes}\n${endpoints}`;
}

function milliseconds(value: number | null): string {
  return value === null ? '-' : `${value.toFixed(value < 10 ? 2 : 0)} ms`;
}
