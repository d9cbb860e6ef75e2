// Is Envoy driven by our control plane: clusters, endpoints and route tables, in both forms of xDS, with real requests?

import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { MeshBatch } from '../../src/mesh/control-plane.js';
import { freePort } from '../mesh/support.js';
import { temporaryFolder } from '../support/files.js';
import { httpOrigin } from '../support/http.js';
import { start } from '../support/processes.js';
import { PATIENCE_MS, until } from '../support/wait.js';
import { plane } from './support.js';

const ENVOY = process.env['TEST_ENVOY'] ?? '';
const TYPES = 'type.googleapis.com/envoy.extensions';

const ads = { resource_api_version: 'V3', ads: {} };
const socket = (port: number) => ({ socket_address: { address: '127.0.0.1', port_value: port } });

/** A front with a route table of the control plane at `control`; everything else is asked for there too. */
function bootstrap(front: number, control: number, api: 'DELTA_GRPC' | 'GRPC'): object {
  const manager = {
    '@type': `${TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: 'front',
    rds: { config_source: ads, route_config_name: 'shop' },
    http_filters: [
      {
        name: 'envoy.filters.http.router',
        typed_config: { '@type': `${TYPES}.filters.http.router.v3.Router` },
      },
    ],
  };
  const http2 = {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': `${TYPES}.upstreams.http.v3.HttpProtocolOptions`,
      explicit_http_config: { http2_protocol_options: {} },
    },
  };
  const endpoint = { endpoint: { address: socket(control) } };
  return {
    node: { id: 'envoy-1', cluster: 'test' },
    dynamic_resources: {
      ads_config: {
        api_type: api,
        transport_api_version: 'V3',
        grpc_services: [{ envoy_grpc: { cluster_name: 'control-plane' } }],
      },
      cds_config: ads,
    },
    static_resources: {
      listeners: [
        {
          name: 'front',
          address: socket(front),
          filter_chains: [
            { filters: [{ name: 'envoy.filters.network.http_connection_manager', typed_config: manager }] },
          ],
        },
      ],
      clusters: [
        {
          name: 'control-plane',
          type: 'STATIC',
          typed_extension_protocol_options: http2,
          load_assignment: {
            cluster_name: 'control-plane',
            endpoints: [{ lb_endpoints: [endpoint] }],
          },
        },
      ],
    },
  };
}

/** The shop: `/api` goes to one cluster, the rest to another. */
function shop(api: readonly string[], web: readonly string[]): MeshBatch {
  const to = (cluster: string) => ({ kind: 'forward' as const, to: [{ cluster }] });
  const addresses = { api, web };
  const names = ['api', 'web'] as const;
  return {
    upsert: {
      routeTables: [
        {
          name: 'shop',
          virtualHosts: [
            {
              hosts: ['*'],
              routes: [
                { name: 'api', match: { path: { kind: 'prefix', value: '/api' } }, action: to('api') },
                { name: 'web', action: to('web') },
              ],
            },
          ],
        },
      ],
      clusters: names.map((name) => ({ name, protocol: 'http1' as const })),
      endpoints: names.map((cluster) => ({
        cluster,
        localities: [{ endpoints: addresses[cluster].map((address) => ({ address })) }],
      })),
    },
  };
}

async function origin(t: ExecutionContext, name: string): Promise<string> {
  const { address } = await httpOrigin(t, (_, response) => response.end(name));
  return address;
}

for (const api of ['DELTA_GRPC', 'GRPC'] as const) {
  (existsSync(ENVOY) ? test : test.skip)(`${api}: requests go where the control plane says`, async (t) => {
    t.timeout(3 * PATIENCE_MS);
    const [one, two, three] = [await origin(t, 'one'), await origin(t, 'two'), await origin(t, 'three')];
    const { mesh, port } = await plane(t);
    mesh.control.apply(shop([one], [two]));
    const front = await freePort();
    const file = join(temporaryFolder(t), 'envoy.json');
    writeFileSync(file, JSON.stringify(bootstrap(front, port, api)));
    const flags = ['--concurrency', '1', '--use-dynamic-base-id', '--log-level', 'error'];
    const envoy = start(t, ENVOY, ['--config-path', file, ...flags]);
    const ask = async (path: string): Promise<string> => {
      if (envoy.ended) throw new Error(`Envoy ended: ${envoy.stderr()}`);
      return await fetch(`http://127.0.0.1:${front}${path}`).then(
        (response) => response.text(),
        () => 'nothing',
      );
    };
    await until('the first answer', async () => (await ask('/api/items')) === 'one');
    t.is(await ask('/'), 'two');
    mesh.control.apply(shop([three], [two]));
    await until('other endpoints', async () => (await ask('/api/items')) === 'three');
    t.is(await ask('/'), 'two');
    mesh.control.apply(shop([], [two]));
    await until('no endpoints', async () => /no healthy upstream/.test(await ask('/api/items')));
    // The table changes, and a cluster that nothing uses any more goes, in one batch.
    mesh.control.apply({
      upsert: {
        routeTables: [
          {
            name: 'shop',
            virtualHosts: [
              {
                hosts: ['*'],
                routes: [{ name: 'web', action: { kind: 'forward', to: [{ cluster: 'web' }] } }],
              },
            ],
          },
        ],
      },
      delete: { clusters: ['api'], endpoints: ['api'] },
    });
    await until('the other table', async () => (await ask('/api/items')) === 'two');
    t.deepEqual(
      mesh.events.filter(({ kind }) => kind === 'nack'),
      [],
    );
  });
}
