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

/** A value at once or a promise of it. */
export type Eventual<T> = T | Promise<T>;

/**
 * A sequence of calls, each yielded for its answer: `const stats: Stats = yield disk.stat(path)`. Written once, it runs
 * through without a promise while its calls are answered at once, and as an async function from the first one that is
 * not. As async functions all the way, a put of 4 KiB took 26 µs on top of its system calls, so it takes 8.
 */
// biome-ignore lint/suspicious/noExplicitAny: the answer to a `yield` is of its call's type, which no generator type can say.
export type Steps<T> = Generator<Eventual<unknown>, T, any>;

/** Runs steps to their end. What they throw is thrown, or rejects. */
export function settle<T>(steps: Steps<T>): Eventual<T> {
  return advance(steps, steps.next(undefined));
}

function advance<T>(steps: Steps<T>, first: IteratorResult<Eventual<unknown>, T>): Eventual<T> {
  let step = first;
  while (!step.done) {
    if (step.value instanceof Promise) return resume(steps, step.value);
    step = steps.next(step.value);
  }
  return step.value;
}

async function resume<T>(steps: Steps<T>, first: Promise<unknown>): Promise<T> {
  for (let pending = first; ; ) {
    let step: IteratorResult<Eventual<unknown>, T>;
    let answer: unknown;
    let failed = false;
    try {
      answer = await pending;
    } catch (error) {
      [answer, failed] = [error, true];
    }
    step = failed ? steps.throw(answer) : steps.next(answer);
    while (!step.done && !(step.value instanceof Promise)) step = steps.next(step.value);
    if (step.done) return step.value;
    pending = step.value as Promise<unknown>;
  }
}

/** Time that calls in place may take of one turn of the event loop: about forty puts of 4 KiB. */
const TURN_BUDGET_MS = 2;

/** The disk is slow when calls take longer than this on average: a real one stalls for 7 to 11 ms at times. */
const SLOW_CALL_MS = 0.5;

/**
 * A call counts for no more than this in the average. On a busy machine a call may lose the processor for 10 ms and more,
 * which says nothing of the disk; going by way of the pool then would make it lose it once more often.
 */
const COUNTED_CALL_MS_MAX = 2;

/** Calls that the running average looks back on: a disk is slow when a quarter of them or more took long. */
const AVERAGED_CALLS = 32;

/** How long a slow disk keeps calls in the pool, until they are tried in place again. */
const SLOW_PAUSE_MS = 1_000;

type Callback<T> = (error: NodeJS.ErrnoException | null, value: T) => void;

export class InPlace {
  readonly #mode: IoMode;
  /** Calls that this turn had no time left for. */
  readonly #waiting: (() => void)[] = [];
  #spentMs = 0;
  #startedMs = 0;
  #nextTurnIsSet = false;
  #averageMs = 0;
  /** 0 while calls are made in place. */
  #pausedUntilMs = 0;

  constructor(mode: IoMode) {
    this.#mode = mode;
  }

  /** Whether a call may be made in place, now. It is, right after, and then `leave()` is called. */
  enter(): boolean {
    if (this.#mode !== 'auto') return this.#mode === 'sync';
    if (this.#spentMs >= TURN_BUDGET_MS || this.#isPaused()) return false;
    this.#startedMs = performance.now();
    return true;
  }

  leave(): void {
    if (this.#mode !== 'auto') return;
    const tookMs = performance.now() - this.#startedMs;
    this.#spentMs += tookMs;
    this.#averageMs += (Math.min(tookMs, COUNTED_CALL_MS_MAX) - this.#averageMs) / AVERAGED_CALLS;
    if (this.#averageMs > SLOW_CALL_MS) {
      this.#averageMs = 0;
      this.#pausedUntilMs = this.#startedMs + tookMs + SLOW_PAUSE_MS;
    }
    this.#setNextTurn();
  }

  /**
   * Makes a call that may not be made in place now: in the pool where calls in place are not wanted, else in the next
   * turn of the loop that has time for it.
   * @param doing what it does, to what, for the message
   * @param again makes the whole call once more
   */
  later<T>(doing: string, again: () => Eventual<T>, pooled: (done: Callback<T>) => void): Promise<T> {
    if (this.#mode === 'async' || this.#isPaused()) return this.pool(doing, pooled);
    return new Promise((resolve, reject) => {
      this.#waiting.push(() => {
        try {
          resolve(again());
        } catch (error) {
          reject(error);
        }
      });
      this.#setNextTurn();
    });
  }

  /** Makes one call in the pool, and turns its failure into the family of errors. */
  pool<T>(doing: string, pooled: (done: Callback<T>) => void): Promise<T> {
    return new Promise((resolve, reject) => {
      pooled((error, value) => (error ? reject(systemError(error, doing)) : resolve(value)));
    });
  }

  #isPaused(): boolean {
    if (this.#pausedUntilMs === 0) return false;
    if (performance.now() < this.#pausedUntilMs) return true;
    this.#pausedUntilMs = 0;
    return false;
  }

  #setNextTurn(): void {
    if (this.#nextTurnIsSet) return;
    this.#nextTurnIsSet = true;
    setImmediate(() => {
      this.#nextTurnIsSet = false;
      this.#spentMs = 0;
      // In order: what is made anew and finds the time gone queues up behind those that wait.
      for (const made of this.#waiting.splice(0)) {
        if (this.#spentMs >= TURN_BUDGET_MS && !this.#isPaused()) this.#waiting.push(made);
        else made();
      }
      if (this.#waiting.length > 0) this.#setNextTurn();
    });
  }
}
