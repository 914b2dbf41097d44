/**
 * Clock: where adapters take the time from, so that a test can move it (`rollout-cloud/testing`).
 *
 * Leases, delays and retention run on it. What bounds an operation against a machine that hangs, as the host's timeouts
 * do, runs on real time: moving a test's clock is not to end an activation.
 */
export interface Clock {
  /** Milliseconds since 1970-01-01 UTC. May be set back. For what is stored, and for what people read. */
  wallMs(): number;
  /** Milliseconds since some moment in this process; never set back. For leases, delays and waits. */
  monotonicMs(): number;
  /**
   * Calls `callback` once, `delayMs` from now or later. `delayMs` is at most 2^31 - 1, a timer's longest.
   * @param options `keepAlive` false lets the process end meanwhile. Default true.
   */
  schedule(delayMs: number, callback: () => void, options?: { readonly keepAlive?: boolean }): ScheduledCall;
}

export interface ScheduledCall {
  /** The call is not made, if it has not been. */
  cancel(): void;
}

/** The machine's own time. */
export const systemClock: Clock = Object.freeze({
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  schedule(delayMs: number, callback: () => void, { keepAlive = true } = {}) {
    const timer = setTimeout(callback, delayMs);
    if (!keepAlive) timer.unref();
    return { cancel: () => clearTimeout(timer) };
  },
});
