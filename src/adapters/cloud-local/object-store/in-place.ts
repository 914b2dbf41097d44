/**
 * Where a system call is made: in place, or in Node's thread pool.
 *
 * A small call answered from the page cache takes 2 to 10 µs in place, and about 40 µs of CPU by way of the pool. So
 * calls are made in place as long as that holds up nobody: at most {@link TURN_BUDGET_MS} in each turn of the event
 * loop, the rest in later turns, in order; and none for a while after one was slow, for the pool has them then. That
 * also lets the loop turn when a caller awaits put after put and would never reach it.
 */
import { systemError } from '../../../contracts/errors.js';

/** `auto` as above; `sync`: whatever may be made in place is, at once; `async`: nothing is. */
export type IoMode = 'auto' | 'sync' | 'async';

/** A value at once or a promise of it; to be awaited at once, never stored. */
export type Eventual<T> = T | Promise<T>;

/** Time that calls in place may take of one turn of the event loop: about forty puts of 4 KiB. */
const TURN_BUDGET_MS = 2;

/** A call in place that took longer than this found a slow disk: stalls of 7 to 11 ms were seen on real ones. */
const SLOW_CALL_MS = 5;

/** How long a slow call keeps all others in the pool. */
const SLOW_PAUSE_MS = 1_000;

type Callback<T> = (error: NodeJS.ErrnoException | null, value: T) => void;

export class InPlace {
  readonly #mode: IoMode;
  /** Calls that this turn had no time left for. */
  readonly #waiting: (() => void)[] = [];
  #spentMs = 0;
  #nextTurnIsSet = false;
  #pausedUntilMs = 0;

  constructor(mode: IoMode) {
    this.#mode = mode;
  }

  /**
   * Makes one call, and turns its failure into the family of errors.
   * @param doing what it does, to what, for the message
   * @param here the call in place; `null` for one that may take long
   * @param pooled the same by way of the pool
   */
  run<T>(doing: string, here: (() => T) | null, pooled: (done: Callback<T>) => void): Eventual<T> {
    if (here === null || this.#mode === 'async' || this.#isPaused()) {
      return new Promise((resolve, reject) => {
        pooled((error, value) => (error ? reject(systemError(error, doing)) : resolve(value)));
      });
    }
    if (this.#mode === 'auto' && this.#spentMs >= TURN_BUDGET_MS) {
      return new Promise((resolve) => {
        this.#waiting.push(() => resolve((async () => this.run(doing, here, pooled))()));
      });
    }
    const startedMs = performance.now();
    try {
      return here();
    } catch (error) {
      throw systemError(error, doing);
    } finally {
      if (this.#mode === 'auto') this.#spend(startedMs);
    }
  }

  #spend(startedMs: number): void {
    const nowMs = performance.now();
    this.#spentMs += nowMs - startedMs;
    if (nowMs - startedMs > SLOW_CALL_MS) this.#pausedUntilMs = nowMs + SLOW_PAUSE_MS;
    if (this.#nextTurnIsSet) return;
    this.#nextTurnIsSet = true;
    setImmediate(() => {
      this.#nextTurnIsSet = false;
      this.#spentMs = 0;
      while (this.#waiting.length > 0 && (this.#spentMs < TURN_BUDGET_MS || this.#isPaused()))
        this.#waiting.shift()?.();
    });
  }

  #isPaused(): boolean {
    return this.#mode === 'auto' && performance.now() < this.#pausedUntilMs;
  }
}
