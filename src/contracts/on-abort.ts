/** Waiting for a signal to abort. Not exported from the contracts. */

/** Who waits for a signal, by the signal: it has one listener for all of them. */
const WAITING = new WeakMap<AbortSignal, { readonly calls: Set<() => void>; readonly listener: () => void }>();

/**
 * Calls back when `signal` aborts, at once where it has. However many wait, the signal has one listener: a service gives
 * one signal to all the calls of its life, and at the eleventh listener Node would warn of a leak.
 * @returns what ends the waiting
 */
export function onAbort(signal: AbortSignal | undefined, callback: () => void): () => void {
  if (signal === undefined || signal.aborted) {
    if (signal !== undefined) callback();
    return () => {};
  }
  // A function of its own, so that one that waits twice leaves once.
  const call = () => callback();
  let waiting = WAITING.get(signal);
  if (waiting === undefined) {
    const calls = new Set<() => void>();
    waiting = { calls, listener: () => [...calls].forEach((each) => void each()) };
    WAITING.set(signal, waiting);
  }
  const { calls, listener } = waiting;
  if (calls.size === 0) signal.addEventListener('abort', listener);
  calls.add(call);
  return () => {
    if (calls.delete(call) && calls.size === 0) signal.removeEventListener('abort', listener);
  };
}
