// A control plane for the benchmark: one question is a line of JSON on standard input, its answer one on standard
// output. It ends with its input.
//
// With `--alone` it starts by itself, with an issuer of its own, and goes on until it is ended.
//
//     start: {chain, key, roots}       the issuer            -> {addresses}
//     token: service                   for one sidecar       -> {token}
//     serve: {service, address, http2} makes a service known -> {}
//     change: N                        moves an endpoint of one of the others -> {at}, in milliseconds of the wall clock
//     others: N                        N services that nobody calls, with 10 endpoints each -> {}

import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { startControlPlane } from '../../dist/mesh/native-control-plane.js';
import { TRUST_DOMAIN, idOf, serverNameOf } from '../lib/authority.mjs';

const ENDPOINTS = 10;
const TOKEN = { uses: 1, ttlMs: 60_000 };

let control;
let others = 0;
let changes = 0;

/** Everything that makes a service known. */
function resources(service, addresses, protocol = 'auto') {
  const cluster = `${service}.bench:3000`;
  const routes = [{ name: service, action: { kind: 'forward', to: [{ cluster }] } }];
  const endpoints = addresses.map((address) => ({ address, identity: idOf(service) }));
  return {
    routeTables: [{ name: cluster, virtualHosts: [{ hosts: ['*'], routes }] }],
    clusters: [{ name: cluster, protocol, workload: { serverName: serverNameOf(service, 3000) } }],
    endpoints: [{ cluster, localities: [{ endpoints }] }],
    services: ['', '.bench', `.bench.${TRUST_DOMAIN}`].flatMap((more) =>
      [80, 3000].map((port) => ({ name: `${service}${more}:${port}`, routeTable: cluster })),
    ),
  };
}

/** One batch of many. */
function together(all) {
  const batch = { routeTables: [], clusters: [], endpoints: [], services: [] };
  for (const each of all) for (const [kind, list] of Object.entries(each)) batch[kind].push(...list);
  return batch;
}

const other = (n) =>
  resources(
    `other-${n}`,
    Array.from({ length: ENDPOINTS }, (_, m) => `10.${m}.${n >> 8}.${n & 255}:4143`),
  );

const answers = {
  async start(issuer) {
    control = await startControlPlane({
      listen: ['127.0.0.1:0'],
      trustDomain: TRUST_DOMAIN,
      certificateTtlMs: 86_400_000,
      ...(issuer && { issuer }),
      onEvent: () => {},
    });
    return { addresses: control.addresses };
  },
  token: (service) => ({ token: control.issueToken(idOf(service), TOKEN) }),
  serve({ service, address, http2 }) {
    control.apply({ upsert: resources(service, [address], http2 ? 'http2' : 'auto') });
    return {};
  },
  change(n) {
    changes += 1;
    const { endpoints } = other(n);
    endpoints[0].localities[0].endpoints[0].address = `10.255.0.1:${1024 + (changes % 60_000)}`;
    const at = Date.now();
    control.apply({ upsert: { endpoints } });
    return { at };
  },
  others(count) {
    const range = (from, to) => Array.from({ length: Math.max(0, to - from) }, (_, n) => other(from + n));
    const names = ({ routeTables, clusters, endpoints, services }) => ({
      routeTables: routeTables.map(({ name }) => name),
      clusters: clusters.map(({ name }) => name),
      endpoints: endpoints.map(({ cluster }) => cluster),
      services: services.map(({ name }) => name),
    });
    control.apply({ upsert: together(range(others, count)), delete: names(together(range(count, others))) });
    others = count;
    return {};
  },
};

const tell = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);

if (process.argv.includes('--alone')) {
  tell(await answers.start());
  // Nothing else keeps it: the core's threads don't.
  const stays = setInterval(() => {}, 60_000);
  await once(process, 'SIGTERM');
  clearInterval(stays);
}
for await (const line of createInterface({ input: process.stdin })) {
  const [[kind, argument]] = Object.entries(JSON.parse(line));
  tell(await answers[kind](argument));
}
await control?.close();
