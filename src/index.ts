/**
 * `@mesh/proxy`: a proxy for every protocol, embedded in this process.
 *
 *     import { createProxy } from '@mesh/proxy';
 *
 *     const proxy = createProxy({ listeners: [{ name: 'web', address: ':8080', to: '127.0.0.1:3000' }] });
 *     await proxy.listen();
 */

import type { ResourceIssue, Resources } from './config/resources.js';
import { type Decision, type DescribedRequest, asJson, readDecision } from './decision.js';
import { native } from './native.js';
import { Proxy as EmbeddedProxy } from './proxy/proxy.js';
import type { CreateProxy } from './proxy/types.js';
import { Orchestrator } from './controller/orchestrator.js';
import type { CreateControlPlane } from './controller/types.js';
import { startControlPlane } from './mesh/native-control-plane.js';
import { findWithRoots } from './mesh/roots.js';

export * from './config/index.js';
export { checkConfig, loadConfig, loadMesh, parseConfig, parseMesh, watchConfig } from './checked.js';
export type * from './decision.js';
export * from './errors.js';
export { type LogLevel, type LogMethod, type Logger, plainLogger, silentLogger } from './logger.js';
export type * from './proxy/types.js';
export type * from './controller/types.js';
export { EndpointError } from './discovery/endpoints.js';
export { etcdSource } from './discovery/etcd.js';
export type { EtcdOptions } from './discovery/etcd-access.js';
export { EtcdError } from './discovery/etcd-client.js';
export { fileSource } from './discovery/file.js';
export { staticSource } from './discovery/static.js';
export type * from './discovery/types.js';
export { RestartError } from './mesh/batch.js';
export type {
  Attestor,
  CertificateRequest,
  ControlEvent,
  Decision as CertificateDecision,
  Edge,
  Evidence,
  PolicyDecision,
  Sidecar,
} from './mesh/control-plane.js';
export type { LoadedMesh } from './mesh/load.js';
export type * from './mesh/types.js';

/** Makes a proxy. Nothing listens before `listen()`. */
export const createProxy: CreateProxy = (config, options) => new EmbeddedProxy(config, options);

/** Makes a control plane for sidecars. Nothing listens before `listen()`. */
export const createControlPlane: CreateControlPlane = (config, options) =>
  new Orchestrator(
    config,
    { start: startControlPlane, validateResources: findWithRoots({ validateResources, checkResources }) },
    options,
  );

/** Everything that is wrong with resources, an object or its JSON text; nothing when they are right. */
export function validateResources(resources: Resources | string): readonly ResourceIssue[] {
  return JSON.parse(native().validate(asJson(resources))) as ResourceIssue[];
}

/** The same, what is wrong with the files that they name included: certificates, keys, roots. Reads them at once. */
export function checkResources(resources: Resources | string): readonly ResourceIssue[] {
  return JSON.parse(native().check(asJson(resources))) as ResourceIssue[];
}

/**
 * Which listener, route and cluster a request would take, and if none, why.
 *
 * @throws {InputError} when the resources or the description are wrong, with every mistake
 */
export function routeRequest(resources: Resources | string, request: DescribedRequest): Decision {
  return readDecision(native().decide(asJson(resources), asJson(request)));
}
