/**
 * What does the core say by itself, and who wants to know?
 *
 * Each entry goes to the logger with its level. Some are also news for the proxy, told apart by `about`.
 */

import { InternalError, MeshError } from '../errors.js';
import type { LogLevel, Logger } from '../logger.js';

/** What the core says. */
interface Entry {
  readonly time: string;
  readonly level: LogLevel;
  readonly message: string;
  /** `drain`: the admin server was asked for one; `panic`: a defect was contained; else what a warning is about. */
  readonly about?: string;
  readonly [field: string]: unknown;
}

/** Who is told what. */
export interface Listeners {
  /** A drain has begun, and nobody in this process asked for it. */
  draining: () => void;
  warning: (warning: MeshError) => void;
  error: (error: MeshError) => void;
}

/** The codes of warnings, by what they are about. */
const CODES: Readonly<Record<string, string>> = {
  lookup: 'MESH_LOOKUP_FAILED',
  certificate: 'MESH_CERTIFICATE_ENDING',
  reload: 'MESH_RELOAD_REFUSED',
};

/** Takes an entry of the core, as JSON. */
export function hear(json: string, logger: Logger, tell: Listeners): void {
  const { time: _, level, message, about, ...fields } = JSON.parse(json) as Entry;
  if (Object.keys(fields).length > 0) logger[level](fields, message);
  else logger[level](message);
  if (about === 'drain') tell.draining();
  else if (about === 'panic') tell.error(new InternalError(message));
  else if (level === 'warn' || level === 'error') {
    tell.warning(new MeshError(CODES[about ?? ''] ?? 'MESH_WARNING', message));
  }
}
