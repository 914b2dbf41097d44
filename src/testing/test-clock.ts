/**
 * A clock for tests: it runs as time does, and jumps when told, so that a lease of a minute ends without a minute's wait.
 *
 * It runs, rather than stands, so that a wait in the code under test ends by itself; `freeze()` stops it, for tests of
 * exact moments. Calls are made in the order in which they are due, each at its moment by this clock.
 */
import * as check from '../contracts/arguments.js';
import type { Clock, ScheduledCall } from '../contracts/clock.js';
import { FatalError } from '../contracts/errors.js';
import { WAIT_MS_MAX } from '../contracts/queue.js';

/** Calls made by one `advance`: one that schedules itself anew at once would go on for ever. */
const CALLS_PER_ADVANCE_MAX = 10_000;

interface Scheduled {
  readonly dueAtMs: number;
  readonly order: number;
  readonly callback: () => void;
  readonly keepAlive: boolean;
  timer: NodeJS.Timeout | undefined;
}

export class TestClock implements Clock {
  readonly #scheduled = new Set<Scheduled>();
  /** What has been jumped over, ms. */
  #aheadMs = 0;
  #frozenAtMs: number | null = null;
  #order = 0;

  // Arrows: an adapter may take them off the clock.
  readonly wallMs = (): number => Math.floor(performance.timeOrigin + this.monotonicMs());

  /** Whole milliseconds: a sum of fractions could miss a moment by the last bit. */
  readonly monotonicMs = (): number => this.#frozenAtMs ?? Math.floor(performance.now()) + this.#aheadMs;

  readonly schedule = (delayMs: number, callback: () => void, { keepAlive = true } = {}): ScheduledCall => {
    this.#order += 1;
    const dueAtMs = this.monotonicMs() + Math.ceil(delayMs);
    const call: Scheduled = { dueAtMs, order: this.#order, callback, keepAlive, timer: undefined };
    this.#scheduled.add(call);
    this.#arm(call);
    return {
      cancel: () => {
        clearTimeout(call.timer);
        this.#scheduled.delete(call);
      },
    };
  };

  /**
   * Moves the clock on by `ms`. Resolves when everything that was due meanwhile has been called, and what those calls
   * set off in memory has settled: after it, an item whose lease ended is pending.
   */
  async advance(ms: number): Promise<void> {
    check.integer('ms', ms, 0, WAIT_MS_MAX);
    await settled();
    const untilMs = this.monotonicMs() + ms;
    for (let calls = 0; ; calls += 1) {
      const due = [...this.#scheduled].filter(({ dueAtMs }) => dueAtMs <= untilMs).sort(byMoment)[0];
      if (due === undefined) break;
      if (calls === CALLS_PER_ADVANCE_MAX) {
        const message = `${CALLS_PER_ADVANCE_MAX} calls were due within ${ms} ms, and there are more: something schedules itself anew at once`;
        throw new FatalError('Internal', message);
      }
      this.#jumpTo(due.dueAtMs);
      this.#make(due);
      await settled();
    }
    this.#jumpTo(untilMs);
    for (const call of this.#scheduled) this.#arm(call);
    await settled();
  }

  /** Stops the clock: from now on only {@link advance} moves it. */
  freeze(): void {
    this.#frozenAtMs ??= this.monotonicMs();
    for (const { timer } of this.#scheduled) clearTimeout(timer);
  }

  /** Never back: the clock may have run past it meanwhile. */
  #jumpTo(ms: number): void {
    const byMs = Math.max(0, ms - this.monotonicMs());
    this.#aheadMs += byMs;
    if (this.#frozenAtMs !== null) this.#frozenAtMs += byMs;
  }

  #arm(call: Scheduled): void {
    clearTimeout(call.timer);
    if (this.#frozenAtMs !== null) return;
    // A timer may be early by a fraction of a millisecond; a call is not.
    const onTime = () => (this.monotonicMs() < call.dueAtMs ? this.#arm(call) : this.#make(call));
    call.timer = setTimeout(onTime, Math.max(0, call.dueAtMs - this.monotonicMs()));
    if (!call.keepAlive) call.timer.unref();
  }

  #make(call: Scheduled): void {
    clearTimeout(call.timer);
    if (this.#scheduled.delete(call)) call.callback();
  }
}

function byMoment(one: Scheduled, other: Scheduled): number {
  return one.dueAtMs - other.dueAtMs || one.order - other.order;
}

/** After the microtasks, and what they put off to the next turn. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}
