/**
 * What can go wrong, and how does a caller tell one from another?
 *
 * Every error that this package throws by itself is a `MeshError` and has a `code` to branch on; messages are for
 * people and may change. What an `AbortSignal` ends rejects with the signal's own reason, as everywhere in Node.
 */

import { inspect } from 'node:util';
import { MeshError } from './mesh-error.js';

export { CertificateError, ConfigError } from './config/errors.js';
export { InputError, InternalError, MeshError } from './mesh-error.js';

/** An address that can't be listened on. The code is the system's: `EADDRINUSE`, `EACCES`, `EADDRNOTAVAIL`, ... */
export class ListenError extends MeshError {
  static {
    this.prototype.name = 'ListenError';
  }

  /** The call that failed, as in the errors of Node. */
  readonly syscall = 'listen';
  /** The listener's name; `admin` for the admin server. */
  readonly listener: string;
  /** The address as configured. */
  readonly address: string;

  /** `holder` is the listener of the same proxy that has the port, where one has. */
  constructor(code: string, listener: string, address: string, options?: ErrorOptions, holder?: string) {
    const own = `listener ${holder} has that port until a change is live; move it to another port first (${code})`;
    const reason = holder === undefined ? (LISTEN_REASONS[code] ?? code) : own;
    super(code, `listener ${listener}: cannot listen on ${address}: ${reason}`, options);
    this.listener = listener;
    this.address = address;
  }
}

const LISTEN_REASONS: Record<string, string> = {
  EADDRINUSE: 'the address is in use; stop the process that holds it or choose another port (EADDRINUSE)',
  EACCES: 'permission denied; ports below 1024 need a privilege (EACCES)',
  EADDRNOTAVAIL: 'this machine has no such address (EADDRNOTAVAIL)',
};

/**
 * Options of `createProxy` or `createControlPlane`, or what a call on theirs or one that loads a file or a text is given,
 * that make no sense. Code `MESH_OPTION_INVALID`.
 */
export class OptionError extends MeshError {
  static {
    this.prototype.name = 'OptionError';
  }

  declare readonly code: 'MESH_OPTION_INVALID';

  /** By what was expected of an option and what was received, or by all of its message. */
  constructor(message: string);
  constructor(option: string, expected: string, received: unknown, suggestion?: string);
  constructor(option: string, expected?: string, received?: unknown, suggestion?: string) {
    if (expected === undefined) {
      super('MESH_OPTION_INVALID', option);
      return;
    }
    const shown =
      typeof received === 'string' ? received : inspect(received, { depth: 0, breakLength: Infinity });
    const advice = suggestion === undefined ? '' : `; ${suggestion}`;
    super('MESH_OPTION_INVALID', `${option}: expected ${expected}, received ${shown}${advice}`);
  }
}

/** A call on a proxy or a control plane that can't take it any more, or not yet. Code `MESH_STATE`. */
export class StateError extends MeshError {
  static {
    this.prototype.name = 'StateError';
  }

  declare readonly code: 'MESH_STATE';

  constructor(message: string) {
    super('MESH_STATE', message);
  }
}

/** The native core is missing for this platform or can't be loaded. Code `MESH_CORE_UNAVAILABLE`. */
export class CoreUnavailableError extends MeshError {
  static {
    this.prototype.name = 'CoreUnavailableError';
  }

  declare readonly code: 'MESH_CORE_UNAVAILABLE';

  constructor(message: string, options?: ErrorOptions) {
    super('MESH_CORE_UNAVAILABLE', message, options);
  }
}
