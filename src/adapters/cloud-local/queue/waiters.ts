/**
 * Waiters: the `receive` calls that wait for an item, first come, first served.
 *
 * Being woken promises nothing: somebody else may take the item first, and then the woken one waits again. One waiter is
 * woken for each item that becomes pending, so none is left asleep while an item lies there.
 */
import { type Clock, systemClock } from '../../../contracts/clock.js';
import { onAbort } from '../../../contracts/on-abort.js';

export class Waiters {
  /** Each ends one wait: true when woken, false when the time is over or the queue closes. */
  readonly #ends = new Set<(woken: boolean) => void>();
  readonly #clock: Clock;
  #closed = false;

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
  }

  /**
   * Resolves true when woken, false when `untilMs` (of the clock's `monotonicMs()`) has come or the queue closes.
   * Rejects with the signal's reason when it aborts.
   */
  wait(untilMs: number, signal: AbortSignal | undefined): Promise<boolean> {
    if (this.#closed) return Promise.resolve(false);
    if (signal?.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.#ends.delete(end);
        timer.cancel();
        stopListening();
      };
      const end = (woken: boolean) => {
        leave();
        resolve(woken);
      };
      const delayMs = Math.max(0, Math.ceil(untilMs - this.#clock.monotonicMs()));
      const timer = this.#clock.schedule(delayMs, () => end(false));
      const stopListening = onAbort(signal, () => {
        leave();
        reject(signal?.reason);
      });
      this.#ends.add(end);
    });
  }

  /** Wakes up to `count` waiters, those who came first. */
  wake(count: number): void {
    let left = count;
    for (const end of this.#ends) {
      if (left === 0) return;
      left -= 1;
      end(true);
    }
  }

  /** Ends every wait, also those to come, without an item. */
  close(): void {
    this.#closed = true;
    for (const end of this.#ends) end(false);
  }
}
