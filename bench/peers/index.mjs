// Who takes part?

import { haproxy } from './haproxy.mjs';
import { httpProxy } from './http-proxy.mjs';
import { embedded, sidecar } from './mesh.mjs';
import { nginx } from './nginx.mjs';

/** Each peer: its name, the programs it needs, its version, and `plan`: its configuration files and its command. */
export const peers = { haproxy, nginx, 'http-proxy': httpProxy, sidecar, embedded };
