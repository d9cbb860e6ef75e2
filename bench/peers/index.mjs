// Who takes part?

import { haproxy } from './haproxy.mjs';
import { httpProxy } from './http-proxy.mjs';
import { embedded, sidecar } from './mesh.mjs';
import { haproxyPair, sidecarPair } from './pairs.mjs';
import {
  controlPlane,
  haproxyInbound,
  restarted,
  sidecarInbound,
  subscribers,
  workload,
} from './workloads.mjs';
import { nginx } from './nginx.mjs';

/** Each peer: its name, the programs it needs, its version, and `plan`: its configuration files and its command. */
export const peers = {
  haproxy,
  nginx,
  'http-proxy': httpProxy,
  sidecar,
  embedded,
  'haproxy-pair': haproxyPair,
  'sidecar-pair': sidecarPair,
  'haproxy-inbound': haproxyInbound,
  'sidecar-inbound': sidecarInbound,
  workload,
  restarted,
  'control-plane': controlPlane,
  subscribers,
};
