/**
 * `@mesh/proxy`: a proxy for every protocol, embedded in this process.
 *
 *     import { createProxy } from '@mesh/proxy';
 *
 *     const proxy = createProxy({ listeners: [{ name: 'web', address: ':8080', to: '127.0.0.1:3000' }] });
 *     await proxy.listen();
 */

import type { ResourceIssue } from './config/resources.js';
import { native } from './native.js';
import { Proxy as EmbeddedProxy } from './proxy/proxy.js';
import type { CreateProxy } from './proxy/types.js';

export * from './config/index.js';
export * from './errors.js';
export { type LogLevel, type LogMethod, type Logger, plainLogger, silentLogger } from './logger.js';
export type * from './proxy/types.js';

/** Makes a proxy. Nothing listens before `listen()`. */
export const createProxy: CreateProxy = (config, options) => new EmbeddedProxy(config, options);

/** Everything that is wrong with resources in JSON; nothing when they are right. */
export function validateResources(json: string): readonly ResourceIssue[] {
  return JSON.parse(native().validate(json)) as ResourceIssue[];
}
