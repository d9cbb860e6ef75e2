/** How does a command hear signals, and end without a trace of that? */

import type { SignalSource } from './io.js';

/** Hears these signals until what this gives is called. */
export function hearSignals(
  source: SignalSource,
  heard: Partial<Record<NodeJS.Signals, () => void>>,
): () => void {
  const all = Object.entries(heard) as [NodeJS.Signals, () => void][];
  for (const [signal, listener] of all) source.on(signal, listener);
  return () => {
    for (const [signal, listener] of all) source.off(signal, listener);
  };
}
