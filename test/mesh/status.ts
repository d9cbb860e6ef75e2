// What a mesh tells of itself, for tests of what is made of it.

import type { MeshSource } from '../../src/mesh/admin/server.js';
import type { EdgeStatus, MeshStatus, SidecarStatus } from '../../src/mesh/admin/types.js';
import { idOf } from './support.js';

/** An edge, as `web` saw it. */
export function edge(more: Partial<EdgeStatus>): EdgeStatus {
  return {
    identity: idOf('web'),
    direction: 'outbound',
    peer: '',
    service: 'basket.shop',
    port: 3000,
    protocol: 'http1',
    mtls: true,
    requests: 10,
    failures: {},
    denied: 0,
    audited: 0,
    timesNs: [
      [1e6, 9],
      [3e6, 1],
    ],
    rate: 1,
    ...more,
  };
}

/** A sidecar that is well. */
export function sidecar(more: Partial<SidecarStatus>): SidecarStatus {
  return {
    name: 'basket-1',
    identity: idOf('basket'),
    address: '127.0.0.1:40000',
    inboundAddress: '127.0.0.1:4143',
    services: [],
    phase: 'ready',
    version: '0.1.0',
    pid: 1,
    instance: '1',
    turn: 1,
    sharesName: false,
    sinceMs: 0,
    certificateNotAfterMs: 1_000_000,
    certificateSerial: '1',
    certificateLifeMs: null,
    telemetryAtMs: 0,
    nacks: [],
    has: [],
    ...more,
  };
}

/** A mesh that is well, seen 1 s after 1970 began. */
export function status(edges: EdgeStatus[], sidecars: SidecarStatus[] = [sidecar({})]): MeshStatus {
  return {
    trustDomain: 'mesh.test',
    version: '0.1.0',
    isBypassable: false,
    issuer: null,
    atMs: 1000,
    startedAtMs: 0,
    sidecars,
    missing: [],
    strangers: [],
    revoked: [],
    services: [],
    declared: ['web.shop:80', 'basket.shop:3000', 'basket.shop:9000'],
    edges,
    sources: [],
  };
}

/** A mesh of which there is nothing to tell. */
export function source(more: Partial<MeshSource> = {}): MeshSource {
  return {
    trustDomain: 'mesh.test',
    version: '0.1.0',
    isBypassable: false,
    strangers: () => [],
    revoked: () => [],
    issuer: () => null,
    sidecars: () => [],
    lifeMs: () => null,
    missing: () => [],
    services: () => [],
    declared: () => [],
    edges: () => [],
    sources: () => [],
    token: () => '',
    revoke: ({ whom }) => Promise.resolve({ revoked: whom, changed: true }),
    ...more,
  };
}
