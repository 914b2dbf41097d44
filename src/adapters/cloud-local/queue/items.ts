/**
 * The items that a queue holds, and the states each goes through.
 *
 *   stored ────> pending ──taken──> claiming ──count stored──> inFlight ──ack──> acking ──> gone
 *     │           ▲ ▲ ▲                │ │                      │ │ ▲ ▲            │
 *     │ delay     │ │ └─ write failed ─┘ └─> gone: no attempts  │ │ │ └ write failed ┘
 *     ▼           │ │                        left, dead letter  │ │ │
 *   delayed ─due──┘ └────────── nack, or the lease ended ───────┘ │ └─ write failed ─┐
 *     ▲                                                           └─ nack, delay ──> delaying
 *     └──────────────────────────────────────────────────────────────────────────────┘
 *   pending, delayed ──purge──> purging ──> gone; back to what it was if the write failed
 *
 * `claiming`, `acking`, `delaying` and `purging` last as long as one commit. They are entered synchronously, before the
 * first await, so no second caller gets hold of the item; timers do not see it, and its token is refused meanwhile.
 */
import { FatalError } from '../../../contracts/errors.js';
import type { LeaseToken, QueueItemId } from '../../../contracts/ids.js';
import type { Timed } from './deadlines.js';
import type { KeyRecord } from './keys.js';

export type ItemState = 'pending' | 'delayed' | 'claiming' | 'inFlight' | 'acking' | 'delaying' | 'purging';

const NEXT: Readonly<Record<ItemState, readonly (ItemState | 'gone')[]>> = {
  pending: ['claiming', 'purging'],
  delayed: ['pending', 'purging'],
  claiming: ['inFlight', 'pending', 'gone'],
  inFlight: ['pending', 'acking', 'delaying'],
  acking: ['inFlight', 'gone'],
  delaying: ['inFlight', 'delayed'],
  purging: ['pending', 'delayed', 'gone'],
};

/** One item. Others than {@link Items} only read `state`. */
export class Item implements Timed {
  state: ItemState = 'pending';
  /** Hand-overs so far. */
  attempts = 0;
  /** Whether it came out of storage: then an earlier process may have handed it over without counting. */
  replayed = false;
  /** Not to be handed over before this, ms since 1970; 0 for no delay. Kept in storage. */
  notBeforeMs = 0;
  key: KeyRecord | null = null;
  /** Whether storage holds a record of its attempts, delay or key. */
  hasRecord = false;
  /** Whether storage may hold it as a dead letter: the write that made it one was taken for failed. */
  mayBeDead = false;
  /** Of the lease that it is under. */
  token: LeaseToken | null = null;
  /** The ack under way, which a repeated ack joins. */
  acking: Promise<void> | null = null;
  dueAtMs = 0;
  heapIndex = -1;

  constructor(
    readonly id: QueueItemId,
    readonly payload: Uint8Array,
  ) {}
}

/** Every item of one queue by id, with a count per state. */
export class Items {
  readonly #byId = new Map<QueueItemId, Item>();
  readonly #counts: Record<ItemState, number> = {
    pending: 0,
    delayed: 0,
    claiming: 0,
    inFlight: 0,
    acking: 0,
    delaying: 0,
    purging: 0,
  };
  #bytes = 0;

  get(id: QueueItemId): Item | undefined {
    return this.#byId.get(id);
  }

  count(...states: ItemState[]): number {
    return states.reduce((sum, state) => sum + this.#counts[state], 0);
  }

  /** Payload bytes of all items together. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The items in one state, in no order. Walks over all. */
  inState(state: ItemState): Item[] {
    return [...this.#byId.values()].filter((item) => item.state === state);
  }

  add(item: Item, state: 'pending' | 'delayed'): void {
    this.#byId.set(item.id, item);
    this.#counts[state] += 1;
    this.#bytes += item.payload.length;
    item.state = state;
  }

  /** The only place where an item's state changes. */
  move(item: Item, next: ItemState | 'gone'): void {
    if (!NEXT[item.state].includes(next)) {
      throw new FatalError('Internal', `queue item ${item.id} cannot go from ${item.state} to ${next}`);
    }
    this.#counts[item.state] -= 1;
    if (next === 'gone') {
      this.#byId.delete(item.id);
      this.#bytes -= item.payload.length;
      return;
    }
    this.#counts[next] += 1;
    item.state = next;
  }
}
