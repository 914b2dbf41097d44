/**
 * Where a system call is made: in place, or in Node's thread pool.
 *
 * A small call answered from the page cache takes 2 to 10 µs in place, and about 40 µs of CPU by way of the pool. So
 * calls are made in place as long as that holds up nobody: at most {@link TURN_BUDGET_MS} in each turn of the event
 * loop, the rest in later turns, in order; and none for a while when they are slow, for the pool has them then. That
 * also lets the loop turn when a caller awaits put after put and would never reach it.
 */
import { systemError } from '../../../contracts/errors.js';

/** `auto` as above; `sync`: whatever may be made in place is, at once; `async`: nothing is. */
export type IoMode = 'auto' | 'sync' | 'async';

/** A value at once or a promise of it; to be awaited at once, never stored. */
export type Eventual<T> = T | Promise<T>;

/** Time that calls in place may take of one turn of the event loop: about forty puts of 4 KiB. */
const TURN_BUDGET_MS = 2;

/** The disk is slow when calls take longer than this on average: a real one stalls for 7 to 11 ms at times. */
const SLOW_CALL_MS = 0.5;

/** Calls that the running average looks back on, so that one stall, or one loss of the processor, says nothing yet. */
const AVERAGED_CALLS = 32;

/** How long a slow disk keeps calls in the pool, until they are tried in place again. */
const SLOW_PAUSE_MS = 1_000;

type Callback<T> = (error: NodeJS.ErrnoException | null, value: T) => void;

export class InPlace {
  readonly #mode: IoMode;
  /** Calls that this turn had no time left for. */
  readonly #waiting: (() => void)[] = [];
  #spentMs = 0;
  #nextTurnIsSet = false;
  #averageMs = 0;
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
    this.#averageMs += (nowMs - startedMs - this.#averageMs) / AVERAGED_CALLS;
    if (this.#averageMs > SLOW_CALL_MS) {
      this.#averageMs = 0;
      this.#pausedUntilMs = nowMs + SLOW_PAUSE_MS;
    }
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
