/**
 * Deadlines: what is due when, with one timer for all of it: the ends of leases and of delays.
 *
 * A binary heap whose entries know their place in it, so that an ack takes its lease out at once: a heap of stale
 * entries would grow by every lease taken until the longest of them had run out.
 *
 * Times are the clock's monotonic ones, which no change of the wall clock moves; they stand still while the machine sleeps.
 * The timer does not keep the process alive: who waits for an item holds a timer of their own.
 */
import { type Clock, type ScheduledCall, systemClock } from '../../../contracts/clock.js';

export interface Timed {
  /** When it is due, ms of the clock's `monotonicMs()`. */
  dueAtMs: number;
  /** Place in the heap; -1 while it is in none. Only {@link Deadlines} writes it. */
  heapIndex: number;
}

export class Deadlines<T extends Timed> {
  readonly #heap: T[] = [];
  readonly #onDue: () => void;
  readonly #clock: Clock;
  #timer: ScheduledCall | undefined;
  #timerAtMs = Number.POSITIVE_INFINITY;
  #stopped = false;

  /** @param onDue called by the timer once something is due; it is to call {@link takeDue} */
  constructor(onDue: () => void, clock: Clock = systemClock) {
    this.#onDue = onDue;
    this.#clock = clock;
  }

  /** Enters an element, or moves one that is in already. `atMs` lies at most 2^31 - 1 ms ahead, a timer's longest. */
  set(element: T, atMs: number): void {
    element.dueAtMs = atMs;
    if (element.heapIndex === -1) {
      element.heapIndex = this.#heap.length;
      this.#heap.push(element);
    }
    this.#siftDown(this.#siftUp(element));
    this.#arm();
  }

  /** Takes an element out; one that is not in stays out. */
  delete(element: T): void {
    const { heapIndex } = element;
    if (heapIndex === -1) return;
    element.heapIndex = -1;
    const last = this.#heap.pop();
    if (last === undefined || last === element) return;
    this.#place(last, heapIndex);
    this.#siftDown(this.#siftUp(last));
  }

  /** Takes out everything due by `nowMs`, the earliest first. */
  takeDue(nowMs: number): T[] {
    const due: T[] = [];
    for (let first = this.#heap[0]; first !== undefined && first.dueAtMs <= nowMs; first = this.#heap[0]) {
      this.delete(first);
      due.push(first);
    }
    return due;
  }

  /** No timer fires after this. */
  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  /** A timer that is set for earlier stays: it fires once for nothing, and a lease taken and acked sets no timer. */
  #arm(): void {
    const first = this.#heap[0];
    if (this.#stopped || first === undefined || first.dueAtMs >= this.#timerAtMs) return;
    this.#timer?.cancel();
    this.#timerAtMs = first.dueAtMs;
    // Rounded up: a timer that fires in the millisecond before would find nothing due.
    const delayMs = Math.max(1, Math.ceil(first.dueAtMs - this.#clock.monotonicMs()));
    this.#timer = this.#clock.schedule(delayMs, () => this.#fire(), { keepAlive: false });
  }

  #fire(): void {
    this.#timerAtMs = Number.POSITIVE_INFINITY;
    this.#onDue();
    this.#arm();
  }

  #siftUp(element: T): T {
    while (element.heapIndex > 0) {
      const parent = this.#heap[(element.heapIndex - 1) >> 1];
      if (parent === undefined || parent.dueAtMs <= element.dueAtMs) break;
      this.#swap(element, parent);
    }
    return element;
  }

  #siftDown(element: T): void {
    for (;;) {
      const left = this.#heap[element.heapIndex * 2 + 1];
      const right = this.#heap[element.heapIndex * 2 + 2];
      const child = right !== undefined && left !== undefined && right.dueAtMs < left.dueAtMs ? right : left;
      if (child === undefined || element.dueAtMs <= child.dueAtMs) return;
      this.#swap(child, element);
    }
  }

  #swap(one: T, other: T): void {
    const at = one.heapIndex;
    this.#place(one, other.heapIndex);
    this.#place(other, at);
  }

  #place(element: T, index: number): void {
    this.#heap[index] = element;
    element.heapIndex = index;
  }
}
