/**
 * What does the core mean when it refuses?
 *
 * Its errors are JSON; here they become the errors of this package. Whatever is none of the core's stays as it is.
 */

import { getSystemErrorMap } from 'node:util';
import type { ResourceIssue } from './config/resources.js';
import { InternalError, ListenError, MeshError, OptionError, StateError } from './errors.js';

/** What the core says. */
interface Failure {
  readonly code: 'invalid' | 'listen' | 'option' | 'authority' | 'closed' | 'start' | 'panic';
  readonly issues?: readonly ResourceIssue[];
  readonly listener?: string;
  readonly address?: string;
  /** The listener of ours that has the port at another address. */
  readonly holder?: string | null;
  readonly errno?: number | null;
  readonly message?: string;
}

/** What the core was asked to take. */
interface Asked {
  /** The error for what is wrong with it. */
  explain(issues: readonly ResourceIssue[]): MeshError;
}

/** The error for a call that the core refused; `asked` is what it was asked to take. */
export function meshError(error: unknown, asked?: Asked): unknown {
  const failure = parse(error);
  switch (failure?.code) {
    case 'invalid':
      return asked?.explain(failure.issues ?? []) ?? error;
    case 'listen':
      return new ListenError(
        systemCode(failure.errno) ?? 'ELISTEN',
        failure.listener ?? '',
        failure.address ?? '',
        { cause: new Error(failure.message) },
        failure.holder ?? undefined,
      );
    case 'option':
      return new OptionError(failure.message ?? 'an option makes no sense');
    case 'authority':
      return new MeshError('MESH_AUTHORITY', failure.message ?? 'there is no authority');
    case 'closed':
      return new StateError(failure.message ?? 'the proxy was closed');
    case 'start':
      return new InternalError(`the core's threads can't be started: ${failure.message}`);
    case 'panic':
      return new InternalError('the core panicked; please report what it wrote to standard error');
    default:
      return error;
  }
}

function parse(error: unknown): Failure | undefined {
  try {
    return JSON.parse((error as Error).message) as Failure;
  } catch {
    return undefined;
  }
}

function systemCode(errno: number | null | undefined): string | undefined {
  return errno === null || errno === undefined ? undefined : getSystemErrorMap().get(-errno)?.[0];
}
