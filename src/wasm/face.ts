/** What `@mesh/proxy/wasm` exports everywhere, beside the `loadModel` of the platform. */

export type { ResourceIssue, Resources } from '../config/resources.js';
export type * from '../decision.js';
export { InputError, InternalError, MeshError } from '../mesh-error.js';
export type { CompiledModule, Model } from './model.js';
