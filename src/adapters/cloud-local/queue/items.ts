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
 * An item becomes an object when it is taken, or when more is known of it: until then it is `pending` as a record of the
 * line (queue/line.ts). `claiming`, `acking`, `delaying` and `purging` last as long as one commit. They are entered synchronously, before the
 * first await, so no second caller gets hold of the item; timers do not see it, and its token is refused meanwhile.
 */
import { FatalError } from '../../../contracts/errors.js';
import type { LeaseToken, QueueItemId } from '../../../contracts/ids.js';
import type { Timed } from './deadlines.js';
import type { KeyRecord } from './keys.js';

export type ItemState = 'pending' | 'delayed' | 'claiming' | 'inFlight' | 'acking' | 'delaying' | 'purging' | 'gone';

const NEXT: Readonly<Record<ItemState, readonly ItemState[]>> = {
  pending: ['claiming', 'purging'],
  delayed: ['pending', 'purging'],
  claiming: ['inFlight', 'pending', 'gone'],
  inFlight: ['pending', 'acking', 'delaying'],
  acking: ['inFlight', 'gone'],
  delaying: ['inFlight', 'delayed'],
  purging: ['pending', 'delayed', 'gone'],
  gone: [],
};

/** One item that more is to be known of than its id and payload. Others than {@link Items} only read `state`. */
export class Item implements Timed {
  state: ItemState = 'pending';
  /** `null` while it is in a slab of the line, or in storage alone; then it is read again for the hand-over. */
  payload: Uint8Array | null;
  readonly payloadBytes: number;
  /** Whether its place in line is that of its id among items that are no objects: the line has its payload. */
  inPlace = false;
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
  /** Whether storage may hold it no more: the write that deleted it was taken for failed. */
  mayBeGone = false;
  /** Of the lease that it is under. */
  token: LeaseToken | null = null;
  /** The ack under way, which a repeated ack joins. */
  acking: Promise<void> | null = null;
  dueAtMs = 0;
  heapIndex = -1;

  constructor(
    readonly id: QueueItemId,
    payload: Uint8Array,
  ) {
    this.payload = payload;
    this.payloadBytes = payload.length;
  }
}

/**
 * Bytes that an item takes as an object, besides its payload; for its key; and for a payload that is an array of its own.
 * Measured with 100,000 items on Node 20.
 */
const ITEM_BYTES = 280;
const KEY_BYTES = 180;
const ARRAY_BYTES = 200;

/**
 * What is held in memory. Payloads that find no room stay in storage, and are read when their turn comes; items that are
 * objects stay, and leave half of memory to payloads, however many they are. What consumers hold counts, too, as it may
 * come back.
 */
export class Memory {
  /** Of payloads, and what it takes to find them. */
  bytes = 0;
  /** Of items that are objects, payloads aside. */
  objectBytes = 0;

  constructor(readonly bytesMax: number) {}

  hasRoom(bytes: number): boolean {
    return this.bytes + bytes <= this.payloadBytesMax;
  }

  /** What objects leave to {@link bytes}. */
  get payloadBytesMax(): number {
    return this.bytesMax - Math.min(this.objectBytes, this.bytesMax / 2);
  }
}

/** The items of one queue that are objects, by id, with a count per state. All others are in the line. */
export class Items {
  readonly #byId = new Map<QueueItemId, Item>();
  readonly #memory: Memory;
  readonly #counts: Record<Exclude<ItemState, 'gone'>, number> = {
    pending: 0,
    delayed: 0,
    claiming: 0,
    inFlight: 0,
    acking: 0,
    delaying: 0,
    purging: 0,
  };
  #bytes = 0;
  #bytesInMemory = 0;

  constructor(memory: Memory) {
    this.#memory = memory;
  }

  get(id: QueueItemId): Item | undefined {
    return this.#byId.get(id);
  }

  count(...states: Exclude<ItemState, 'gone'>[]): number {
    return states.reduce((sum, state) => sum + this.#counts[state], 0);
  }

  /** Payload bytes of all items together, but those that the line has. */
  get bytes(): number {
    return this.#bytes;
  }

  /** How many of {@link bytes} are in memory. */
  get bytesInMemory(): number {
    return this.#bytesInMemory;
  }

  /** The items in one state, in no order. Walks over all. */
  inState(state: ItemState): Item[] {
    return [...this.#byId.values()].filter((item) => item.state === state);
  }

  /** Takes an item in, with its payload unless it is in place. */
  add(item: Item, state: 'pending' | 'delayed' | 'claiming' | 'purging'): void {
    this.#byId.set(item.id, item);
    this.#counts[state] += 1;
    item.state = state;
    this.#memory.objectBytes += objectBytes(item);
    if (item.inPlace) item.payload = null;
    else {
      item.payload &&= whole(item.payload);
      this.#count(item, 1);
    }
  }

  /** The line hands an item over that was in place, with its payload. */
  leavePlace(item: Item, payload: Uint8Array): void {
    item.inPlace = false;
    item.payload = payload;
    this.#count(item, 1);
  }

  /** Its payload has been read again. */
  hold(item: Item, payload: Uint8Array): void {
    this.#count(item, -1);
    item.payload = payload;
    this.#count(item, 1);
  }

  /** Its payload stays in storage when memory is full: to be called for what waits. */
  dropIfFull(item: Item): void {
    if (item.payload === null || this.#memory.hasRoom(0)) return;
    this.#count(item, -1);
    item.payload = null;
    this.#count(item, 1);
  }

  /** The only place where an item's state changes. */
  move(item: Item, next: ItemState): void {
    const { state } = item;
    if (state === 'gone' || !NEXT[state].includes(next)) {
      throw new FatalError('Internal', `queue item ${item.id} cannot go from ${state} to ${next}`);
    }
    this.#counts[state] -= 1;
    item.state = next;
    if (next === 'gone') {
      this.#byId.delete(item.id);
      this.#memory.objectBytes -= objectBytes(item);
      this.#count(item, -1);
    } else this.#counts[next] += 1;
  }

  #count({ payload, payloadBytes }: Item, sign: 1 | -1): void {
    this.#bytes += sign * payloadBytes;
    if (payload === null) return;
    this.#bytesInMemory += sign * payloadBytes;
    this.#memory.bytes += sign * (ARRAY_BYTES + payloadBytes);
  }
}

/** The bytes alone: a part of a buffer that others have parts of would keep all of it in memory. */
function whole(bytes: Uint8Array): Uint8Array {
  return bytes.length === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes);
}

function objectBytes({ key }: Item): number {
  return key === null ? ITEM_BYTES : ITEM_BYTES + KEY_BYTES;
}
