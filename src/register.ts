/**
 * `@mesh/proxy/register`: lets a Node program call the services of its mesh by their names.
 *
 *     NODE_OPTIONS="--import @mesh/proxy/register" node app.mjs
 *     node --require @mesh/proxy/register app.cjs
 *
 * Requests by `http`, `https` and the global `fetch` to the names in `MESH_NAMES` go through the sidecar at
 * `MESH_OUTBOUND`; everything else is left as it is. Without these variables it does nothing. Node 22.21 and later can
 * do without it, by `NODE_USE_ENV_PROXY=1`, but for agents that a program makes itself.
 */

import { patchFetch } from './register/fetch.js';
import { patchAgents } from './register/http.js';
import { meshOf } from './register/names.js';

const REGISTERED = Symbol.for('@mesh/proxy/register');
const here = globalThis as unknown as Record<symbol, boolean | undefined>;
const mesh = meshOf(process.env);

// A program may bring a copy of this module of its own.
if (mesh && here[REGISTERED] !== true) {
  here[REGISTERED] = true;
  patchAgents(mesh);
  patchFetch(mesh);
}
