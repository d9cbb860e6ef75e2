// Does a proxy find servers by name, follow them when they move, and keep them when names fail?

import http from 'node:http';
import test, { type ExecutionContext } from 'ava';
import { OptionError, createProxy } from '../../src/index.js';
import type { MeshError, ProxyStats } from '../../src/index.js';
import { keepAliveAgent, proxyStatus, request, serve } from '../support/http.js';
import { start } from '../support/processes.js';
import { type Sidecar, type Work, cleanEnvironment, sidecarFile, startSidecar } from '../support/sidecar.js';
import { closedPort } from '../support/tcp.js';
import { until, within } from '../support/wait.js';
import { NameServer } from '../support/name-server.js';

interface Server {
  port: number;
  requests: number;
  server: http.Server;
}

/** A server that says who it is, at an address of its own. */
async function named(t: ExecutionContext, name: string, host = '127.0.0.1', port = 0): Promise<Server> {
  const server = http.createServer({ keepAliveTimeout: 0 }, (_, response) => {
    told.requests += 1;
    response.end(name);
  });
  const told: Server = { port: 0, requests: 0, server };
  return Object.assign(told, await serve(t, server, port, host));
}

function work(cluster: object): Work {
  return {
    // No TCP target: a client's silence would call it, and shift the turns that are counted.
    listeners: [{ name: 'web', address: '127.0.0.1:0', routes: [{ to: 'site' }] }],
    clusters: { site: cluster },
  };
}

const asking = (names: NameServer): { env: Record<string, string> } => ({
  env: { MESH_DNS_SERVER: names.address },
});

/** Requests, one after the other, until one is answered by this server; none may fail meanwhile. */
async function untilAnsweredBy(t: ExecutionContext, proxy: Sidecar, name: string): Promise<void> {
  const agent = keepAliveAgent(t);
  await until(`${name} answers`, async () => {
    const { status, text } = await request(proxy.port(), { agent });
    t.is(status, 200);
    return text === name;
  });
}

test('servers are found by name and followed when their TTL ends', async (t) => {
  const names = await NameServer.start(t);
  const first = await named(t, 'first');
  await named(t, 'second', '127.0.0.2', first.port);
  names.host('site.test', ['127.0.0.1']);
  const proxy = await startSidecar(t, work({ dns: `site.test:${first.port}` }), asking(names));
  t.is((await request(proxy.port())).text, 'first');
  names.host('site.test', ['127.0.0.2']);
  await untilAnsweredBy(t, proxy, 'second');
  t.false(/warning/.test(proxy.stderr()));
});

test('the last answer serves through every kind of trouble, which is said once', async (t) => {
  for (const trouble of ['no such name', 'failure', 'nothing'] as const) {
    const names = await NameServer.start(t);
    const first = await named(t, 'first');
    await named(t, 'second', '127.0.0.2', first.port);
    names.host('site.test', ['127.0.0.1']);
    const proxy = await startSidecar(t, work({ dns: `site.test:${first.port}` }), asking(names));
    names.trouble('site.test', trouble);
    await proxy.said(/warning: site\.test can't be looked up: .*; what is known of it stays/);
    for (let n = 0; n < 5; n += 1) t.is((await request(proxy.port())).text, 'first', trouble);
    names.host('site.test', ['127.0.0.2']);
    await untilAnsweredBy(t, proxy, 'second');
    t.is(proxy.stderr().match(/can't be looked up/g)?.length, 1, trouble);
  }
});

test('a name that is not there is a clear error, until it is there', async (t) => {
  const names = await NameServer.start(t);
  const server = await named(t, 'late');
  const proxy = await startSidecar(t, work({ dns: `site.test:${server.port}` }), asking(names));
  await proxy.said(
    /warning: site\.test can't be looked up: there is no such name; its clusters have no endpoints/,
  );
  const refused = await request(proxy.port());
  t.is(refused.status, 502);
  t.deepEqual(proxyStatus(refused.headers), { error: 'dns_error', details: 'dns_failed' });
  t.is(refused.text, "The server's name could not be resolved.\n");
  names.host('site.test', ['127.0.0.1']);
  await until('it is found', async () => (await request(proxy.port())).status === 200);
});

test('a name server that says nothing holds a start up for a while only', async (t) => {
  const names = await NameServer.start(t);
  names.trouble('site.test', 'nothing');
  const proxy = await startSidecar(t, work({ dns: 'site.test:80' }), asking(names));
  const refused = await request(proxy.port());
  t.true([502, 503].includes(refused.status));
  t.true(['no_endpoints', 'dns_failed'].includes(proxyStatus(refused.headers).details));
});

test('a start that waits for a name ends at once when it is told to', async (t) => {
  const names = await NameServer.start(t);
  names.trouble('site.test', 'nothing');
  const env = {
    ...cleanEnvironment(),
    MESH_ADMIN: 'off',
    MESH_LAME_DUCK: '0s',
    MESH_DNS_SERVER: names.address,
  };
  const proxy = start(t, sidecarFile(), ['--listen', '127.0.0.1:0', '--to', 'site.test:80'], { env });
  await until('the name is asked for', () => names.asked('site.test') > 0);
  proxy.signal('SIGTERM');
  t.is((await within('its end', proxy.exit)).code, 0);
  t.false(/listens/.test(proxy.stderr()));
});

test('SRV records say which ports, in which shares, at which priority, in both families', async (t) => {
  const names = await NameServer.start(t);
  const [much, little, spare] = [
    await named(t, 'much'),
    await named(t, 'little', '::1'),
    await named(t, 'spare'),
  ];
  names.host('a.test', ['127.0.0.1']);
  names.host('b.test', ['::1']);
  names.service('_http._tcp.site.test', [
    { priority: 1, weight: 30, port: much.port, target: 'a.test' },
    { priority: 1, weight: 10, port: little.port, target: 'b.test' },
    { priority: 2, weight: 50, port: spare.port, target: 'a.test' },
  ]);
  const cluster = { srv: '_http._tcp.site.test', balance: 'roundRobin' };
  const proxy = await startSidecar(t, work(cluster), asking(names));
  for (let n = 0; n < 40; n += 1) t.is((await request(proxy.port())).status, 200);
  t.deepEqual([much.requests, little.requests, spare.requests], [30, 10, 0]);
  // The records change: only the spare one is left.
  names.service('_http._tcp.site.test', [{ port: spare.port, target: 'a.test' }]);
  await untilAnsweredBy(t, proxy, 'spare');
});

test('when no server of a name can be connected to, the name is looked up before its TTL ends', async (t) => {
  const names = await NameServer.start(t);
  const first = await named(t, 'first');
  await named(t, 'second', '127.0.0.2', first.port);
  names.host('site.test', ['127.0.0.1'], 300);
  const proxy = await startSidecar(t, work({ dns: `site.test:${first.port}` }), asking(names));
  t.is((await request(proxy.port())).text, 'first');
  names.host('site.test', ['127.0.0.2'], 300);
  first.server.close();
  first.server.closeAllConnections();
  await until('it is found where it moved to', async () => {
    const { status, text } = await request(proxy.port());
    return status === 200 && text === 'second';
  });
  // The first lookup, and the early one.
  t.is(names.questions('site.test'), 2);
});

test('dnsmasq is a name server like any other', async (t) => {
  const server = await named(t, 'found');
  const port = await closedPort();
  const dnsmasq = start(t, 'dnsmasq', [
    '--keep-in-foreground',
    '--conf-file=/dev/null',
    '--no-resolv',
    '--no-hosts',
    `--port=${port}`,
    '--listen-address=127.0.0.1',
    '--bind-interfaces',
    '--local=/test/',
    '--local-ttl=1',
    `--host-record=a.test,127.0.0.1,::1,1`,
    `--srv-host=_http._tcp.site.test,a.test,${server.port},0,5`,
    `--pid-file=`,
    `--user=`,
    `--log-facility=-`,
  ]);
  await dnsmasq.said(/started/);
  const env = { MESH_DNS_SERVER: `127.0.0.1:${port}` };
  const proxy = await startSidecar(t, work({ srv: '_http._tcp.site.test' }), { env });
  for (let n = 0; n < 10; n += 1) t.is((await request(proxy.port())).text, 'found');
});

test('in Node: name servers by option, trouble as a warning, everything in the statistics', async (t) => {
  const names = await NameServer.start(t);
  const server = await named(t, 'found');
  names.host('site.test', ['127.0.0.1']);
  const proxy = createProxy(
    {
      listeners: [{ name: 'web', address: '127.0.0.1:0', to: 'site' }],
      clusters: { site: { dns: `site.test:${server.port}` } },
    },
    { dnsServers: [names.address] },
  );
  t.teardown(() => proxy.close());
  const warnings: MeshError[] = [];
  proxy.on('warning', (warning) => warnings.push(warning));
  const { addresses } = await proxy.listen();
  t.is((await request(addresses[0]?.port ?? 0)).text, 'found');
  names.trouble('site.test', 'no such name');
  const [warning] = await until('a warning', () => warnings.length > 0 && warnings);
  t.is(warning?.code, 'MESH_LOOKUP_FAILED');
  t.regex(warning?.message ?? '', /^site\.test can't be looked up: there is no such name/);
  const stats: ProxyStats = await proxy.stats();
  const [name] = stats.dns.names;
  t.like(name, { name: 'site.test', kind: 'host', answers: 1, error: 'there is no such name' });
  t.true((name?.ageMs ?? -1) > 0 && (name?.failures ?? 0) > 0);
  t.true((stats.dns.lookups['success'] ?? 0) > 0 && (stats.dns.lookups['not_found'] ?? 0) > 0);
  const metrics = await proxy.metrics();
  t.regex(metrics, /^mesh_dns_lookups_total\{result="not_found"\} [1-9]/m);
  t.regex(metrics, /^mesh_dns_answer_age_seconds\{name="site\.test",kind="host"\} \d/m);
});

test('in Node: while a change waits for a silent name server, the proxy answers and can be closed', async (t) => {
  const names = await NameServer.start(t);
  names.trouble('site.test', 'nothing');
  const listeners = [{ name: 'web', address: '127.0.0.1:0', to: 'here' }];
  const here = { endpoints: ['127.0.0.1:1'] };
  const proxy = createProxy({ listeners, clusters: { here } }, { dnsServers: [names.address] });
  t.teardown(() => proxy.close());
  await proxy.listen();
  const order: string[] = [];
  const changed = proxy
    .apply({ listeners, clusters: { here, site: { dns: 'site.test:80' } } })
    .catch((error: MeshError) => error.code)
    .then((outcome) => order.push(`changed: ${String(outcome)}`));
  await until('the name is asked for', () => names.asked('site.test') > 0);
  t.is((await proxy.stats()).updates.applied, 1);
  order.push('looked at');
  await proxy.close();
  order.push('closed');
  await changed;
  t.deepEqual(order.toSorted(), ['changed: MESH_STATE', 'closed', 'looked at']);
  t.is(order[0], 'looked at');
});

test('in Node: a name server that is none is refused', (t) => {
  const config = { listeners: [{ address: '127.0.0.1:0', to: '127.0.0.1:1' }] };
  const error = t.throws(() => createProxy(config, { dnsServers: ['ns.test'] }), { instanceOf: OptionError });
  t.regex(error?.message ?? '', /^dnsServers: expected an IP address, .*, received ns\.test$/);
});
