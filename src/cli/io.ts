/** What a command touches of the world outside; tests hand in their own. */

import type { ResourceIssue } from '../config/resources.js';
import type { Decision, DescribedRequest } from '../decision.js';
import type { StartControlPlane } from '../mesh/control-plane.js';
import type { CreateProxy } from '../proxy/types.js';

/** Exit codes: what a script can tell apart. */
export const ExitCode = {
  ok: 0,
  /** Anything that is neither of the others. */
  failure: 1,
  /** Wrong usage or a configuration that is refused; `EX_USAGE` of sysexits.h. */
  usage: 64,
} as const;

export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** The part of the native core that commands need. Loaded late: most commands start faster without it. */
export interface Core {
  readonly createProxy: CreateProxy;
  /** Everything that is wrong with resources in JSON; nothing when they are right. */
  validateResources(json: string): readonly ResourceIssue[];
  /** The same, what is wrong with the files that they name included. */
  checkResources(json: string): readonly ResourceIssue[];
  /** Which way a request takes through resources in JSON. */
  routeRequest(json: string, request: DescribedRequest): Decision;
}

/** A stream to write to. */
export interface Output {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  /** How much of what was written waits to be read. Absent: nothing ever does. */
  readonly writableLength?: number | undefined;
}

/** Where signals come from: the process. */
export interface SignalSource {
  on(signal: NodeJS.Signals, listener: () => void): unknown;
  off(signal: NodeJS.Signals, listener: () => void): unknown;
}

/** The world of a command. */
export interface World {
  readonly stdout: Output;
  readonly stderr: Output;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signals: SignalSource;
  /** The command goes on until it is told to end, and ends then, whether anybody reads what it says or not. */
  serves(): void;
  loadCore(): Promise<Core>;
  loadControlPlane(): Promise<StartControlPlane>;
}
