// Which frames has a peer been sent?

import { type Frame, framesIn } from '../../src/attack/frames.js';
import type { Peer } from '../support/tcp.js';
import { until } from '../support/wait.js';

/** Every whole frame that has come so far, left where it is. */
export function framesOf(peer: Peer): Frame[] {
  return framesIn(peer.peek());
}

/** Waits for a frame that is wanted; fails when the connection ends before. */
export function arrives(what: string, peer: Peer, wanted: (frame: Frame) => boolean): Promise<Frame> {
  return until(what, () => {
    const found = framesOf(peer).find(wanted);
    if (!found && (peer.closed || peer.ended)) throw new Error(`the connection ended before ${what}`);
    return found;
  });
}
