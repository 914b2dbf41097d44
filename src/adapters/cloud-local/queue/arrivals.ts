/**
 * Arrivals: enqueues between their write and the moment their items join the deque, in id order.
 *
 * Commits take effect in the order of their calls, but nothing says that their promises resolve in that order. So what
 * is stored waits for everything older to be stored, or to have failed, before it joins; and its enqueue resolves after.
 */
import { Deque } from './deque.js';
import type { Item } from './items.js';

interface Arrival {
  readonly items: readonly Item[];
  readonly bytes: number;
  outcome: 'open' | 'stored' | 'failed' | 'joined';
  onJoined: (() => void) | null;
}

export class Arrivals {
  readonly #arrivals = new Deque<Arrival>();
  readonly #join: (items: readonly Item[]) => void;
  #bytes = 0;

  constructor(join: (items: readonly Item[]) => void) {
    this.#join = join;
  }

  /** Payload bytes that have not joined yet. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Writes items, and resolves once they have joined. Rejects as `write` does, and then they never join.
   * To be called in the order of the items' ids.
   */
  async store(items: readonly Item[], write: () => Promise<void>): Promise<void> {
    const arrival: Arrival = { items, bytes: bytesOf(items), outcome: 'open', onJoined: null };
    this.#arrivals.pushBack(arrival);
    this.#bytes += arrival.bytes;
    try {
      await write();
      arrival.outcome = 'stored';
    } catch (error) {
      arrival.outcome = 'failed';
      throw error;
    } finally {
      this.#joinSettled();
    }
    if (arrival.outcome !== 'stored') return;
    await new Promise<void>((resolve) => {
      arrival.onJoined = resolve;
    });
  }

  #joinSettled(): void {
    for (let first = this.#arrivals.front; first !== undefined; first = this.#arrivals.front) {
      if (first.outcome === 'open') return;
      this.#arrivals.popFront();
      this.#bytes -= first.bytes;
      if (first.outcome === 'failed') continue;
      first.outcome = 'joined';
      this.#join(first.items);
      first.onJoined?.();
    }
  }
}

export function bytesOf(items: readonly { readonly payload: Uint8Array }[]): number {
  return items.reduce((sum, { payload }) => sum + payload.length, 0);
}
