/**
 * InMemQueue: the work queue of one process, in memory, with every item written to a Storage first.
 *
 * `enqueue` commits the item, then puts it on the deque, then resolves; so what a consumer is handed is always stored.
 * `ack` deletes the row and resolves after that commit. `nack` writes nothing: the row is still there. Opening the queue
 * reads the rows back in ULID order, so whatever was stored and not acked is pending again after a crash.
 *
 * Peculiar to it: one process, and in it one instance, owns a queue, held by a lock of the Storage. A first hand-over
 * writes nothing; every later one stores its count first, so that an item which kills its process reaches the dead
 * letters; a crash loses at most one of the count. Leases run on a clock that no one can set, and end while the process
 * lives; after it, every item is pending. Payloads are held in memory as well as stored.
 *
 * The states of an item are drawn in queue/items.ts, the rows described in queue/store.ts.
 */
import { randomUUID } from 'node:crypto';
import { checked } from '../../contracts/capability.js';
import type { Clock } from '../../contracts/clock.js';
import { LeaseToken, type QueueItemId } from '../../contracts/ids.js';
import {
  type EnqueueOptions,
  type NackOptions,
  Queue,
  type QueueItem,
  type QueueStats,
  type ReceiveOptions,
  WAIT_MS_MAX,
} from '../../contracts/queue.js';
import type { Storage } from '../../contracts/storage.js';
import { Arrivals, bytesOf } from './queue/arrivals.js';
import { DeadLetters } from './queue/dead-letters.js';
import { Deadlines } from './queue/deadlines.js';
import { Deque } from './queue/deque.js';
import { itemUnknown, leaseLost, requireHeld } from './queue/holding.js';
import { idsAfter, idTimeMs } from './queue/ids.js';
import { Item, Items } from './queue/items.js';
import { Keys } from './queue/keys.js';
import {
  checkOptions,
  type InMemQueueOptions,
  type InMemQueueSettings,
  requireFits,
  requireRoom,
} from './queue/options.js';
import { replay } from './queue/replay.js';
import { QueueStore } from './queue/store.js';
import { Waiters } from './queue/waiters.js';

export type { InMemQueueOptions } from './queue/options.js';

/** What the manifest of `local.in-mem` declares. */
export const IN_MEM_QUEUE_FEATURES = ['lease', 'replay', 'delay', 'key', 'dead-letters'] as const;

/** Rows deleted in one transaction by `purge`. */
const ROWS_PER_PURGE = 1_000;

export class InMemQueue implements Queue {
  readonly #settings: InMemQueueSettings;
  readonly #store: QueueStore;
  readonly #items = new Items();
  readonly #pending = new Deque<Item>();
  readonly #clock: Clock;
  readonly #deadlines: Deadlines<Item>;
  readonly #waiters: Waiters;
  readonly #keys: Keys;
  readonly #dead: DeadLetters;
  readonly #arrivals = new Arrivals((items) => this.#enter(items));
  #newId: () => QueueItemId;
  /** Makes tokens of one opening differ from those of any other. */
  readonly #tokenPrefix = randomUUID();
  #leases = 0;
  readonly #totals = { enqueuedTotal: 0, ackedTotal: 0, nackedTotal: 0, expiredTotal: 0 };

  private constructor(store: QueueStore, settings: InMemQueueSettings) {
    this.#store = store;
    this.#settings = settings;
    this.#clock = settings.clock;
    this.#deadlines = new Deadlines(() => this.#sweep(), settings.clock);
    this.#waiters = new Waiters(settings.clock);
    this.#newId = idsAfter(null, settings.clock);
    this.#keys = new Keys(settings.keyRetentionMs, () => this.#newId(), settings.clock);
    this.#dead = new DeadLetters(store);
  }

  /**
   * Opens a queue of `storage`, which stays the caller's to close, after the queue.
   * @throws FatalError ConfigInvalid, code `LOCKED`: somebody has it open. FatalError Internal, code `STORAGE_FORMAT`: a
   * row under the queue's namespace is not one of its own.
   */
  static async open(storage: Storage, options: InMemQueueOptions = {}): Promise<InMemQueue> {
    const settings = checkOptions(options);
    const store = await QueueStore.open(storage, settings.name);
    const queue = new InMemQueue(store, settings);
    try {
      await queue.#replay();
    } catch (error) {
      await queue.close();
      throw error;
    }
    return checked(Queue, queue, { adapter: 'local.in-mem', features: IN_MEM_QUEUE_FEATURES });
  }

  // The door looks at `signal` before the call; a commit under way cannot be taken back.
  async enqueue(payload: Uint8Array, { key, delayMs }: EnqueueOptions = {}): Promise<QueueItemId> {
    requireFits(payload, this.#settings.payloadBytesMax);
    if (key !== undefined) return this.#keys.once(key, payload, (item) => this.#append([item], delayMs));
    const item = new Item(this.#newId(), payload);
    await this.#append([item], delayMs);
    return item.id;
  }

  async enqueueMany(payloads: readonly Uint8Array[], { delayMs }: EnqueueOptions = {}): Promise<QueueItemId[]> {
    for (const payload of payloads) requireFits(payload, this.#settings.payloadBytesMax);
    const items = payloads.map((payload) => new Item(this.#newId(), payload));
    await this.#append(items, delayMs);
    return items.map((item) => item.id);
  }

  async dequeue(): Promise<QueueItem | null> {
    return (await this.#take(1, null))[0] ?? null;
  }

  async dequeueWithLease(leaseMs: number): Promise<QueueItem | null> {
    return (await this.#take(1, leaseMs))[0] ?? null;
  }

  dequeueMany(max: number, leaseMs: number): Promise<QueueItem[]> {
    return this.#take(max, leaseMs);
  }

  async receive({ leaseMs, max = 1, waitMs, signal }: ReceiveOptions): Promise<QueueItem[]> {
    const untilMs = this.#clock.monotonicMs() + waitMs;
    for (;;) {
      if (signal?.aborted) {
        // It may have been woken for an item that it will not take now.
        this.#waiters.wake(this.#pending.size);
        throw signal.reason;
      }
      const items = await this.#take(max, leaseMs);
      if (items.length > 0 || waitMs === 0) return items;
      // What came while nothing was found woke nobody: look again.
      if (this.#pending.size > 0) continue;
      if (!(await this.#waiters.wait(untilMs, signal))) return [];
    }
  }

  async extendLease(id: QueueItemId, token: LeaseToken, byMs: number): Promise<void> {
    this.#sweep();
    const item = this.#items.get(id);
    if (item?.state !== 'inFlight' || item.token !== token) throw leaseLost(id);
    this.#deadlines.set(item, this.#clock.monotonicMs() + byMs);
  }

  async ack(id: QueueItemId, token: LeaseToken | null = null): Promise<void> {
    this.#sweep();
    const item = this.#items.get(id);
    if (item === undefined) return this.#dead.refuseSettling(id, token);
    if (item.acking !== null && item.token === token) return item.acking;
    requireHeld(item, token);
    item.acking = this.#remove(item);
    return item.acking;
  }

  async nack(id: QueueItemId, token: LeaseToken | null = null, { delayMs = 0 }: NackOptions = {}): Promise<void> {
    this.#sweep();
    const item = this.#items.get(id);
    if (item === undefined) {
      this.#dead.refuseSettling(id, token);
      throw itemUnknown(id, 'an item of this queue');
    }
    requireHeld(item, token);
    if (delayMs > 0) await this.#putOff(item, delayMs);
    else this.#toFront([item]);
    this.#totals.nackedTotal += 1;
  }

  deadLetters(): AsyncIterable<QueueItem> {
    return this.#dead.read();
  }

  async requeue(id: QueueItemId): Promise<void> {
    const letter = this.#dead.take(id);
    if (letter === undefined) throw itemUnknown(id, 'a dead letter of this queue');
    try {
      const item = new Item(id, await this.#dead.payload(id));
      item.key = letter.key;
      await this.#store.requeue(item);
      this.#dead.forget(id);
      this.#items.add(item, 'pending');
      this.#pending.pushFront(item);
      this.#waiters.wake(1);
    } catch (error) {
      this.#dead.add(letter);
      throw error;
    }
  }

  async purge(which: 'pending' | 'dead'): Promise<number> {
    if (which === 'pending') return this.#purgePending();
    return this.#dead.purge(({ key }) => {
      if (key !== null) this.#keys.release(key);
    });
  }

  async stats(): Promise<QueueStats> {
    this.#sweep();
    const first = this.#pending.front;
    return {
      pending: this.#pending.size,
      delayed: this.#items.count('delayed'),
      inFlight: this.#items.count('claiming', 'inFlight', 'acking', 'delaying'),
      deadLetters: this.#dead.size,
      oldestPendingAgeMs: first === undefined ? null : Math.max(0, this.#clock.wallMs() - idTimeMs(first.id)),
      ...this.#totals,
      durability: this.#store.durability,
      payloadBytesMax: this.#settings.payloadBytesMax,
      bytesInMemory: this.#items.bytes,
      bytesInStorage: this.#items.bytes + this.#dead.bytes,
    };
  }

  async close(): Promise<void> {
    this.#deadlines.stop();
    this.#waiters.close();
    await this.#store.close(this.#settings.closeTimeoutMs);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Reads back what an earlier process left: everything stored and not acked is pending, or delayed, again. */
  async #replay(): Promise<void> {
    const { items, last } = await replay(this.#store, this.#dead, this.#keys, this.#clock);
    this.#newId = idsAfter(last, this.#clock);
    const clockMs = this.#clock.wallMs();
    for (const item of items) {
      // The clock may have been set back since the delay was stored: none is longer than the longest that can be asked.
      item.dueAtMs = this.#clock.monotonicMs() + Math.min(item.notBeforeMs - clockMs, WAIT_MS_MAX);
    }
    this.#enter(items);
  }

  /** Stores new items, then lets them join. To be called in the turn in which new ids were made: they order commits. */
  async #append(items: readonly Item[], delayMs = 0): Promise<void> {
    requireRoom(bytesOf(items), this.#items.bytes + this.#arrivals.bytes, this.#settings.maxPendingBytes);
    if (delayMs > 0) {
      for (const item of items) {
        item.notBeforeMs = this.#clock.wallMs() + delayMs;
        item.dueAtMs = this.#clock.monotonicMs() + delayMs;
      }
    }
    await this.#arrivals.store(items, () => this.#store.append(items, this.#keys.takeOutdated()));
    this.#totals.enqueuedTotal += items.length;
  }

  /** Stored items join: at the back, or, while they are delayed, nowhere yet. */
  #enter(items: readonly Item[]): void {
    const nowMs = this.#clock.monotonicMs();
    for (const item of items) {
      if (item.notBeforeMs > 0 && item.dueAtMs > nowMs) {
        this.#items.add(item, 'delayed');
        this.#deadlines.set(item, item.dueAtMs);
      } else {
        this.#items.add(item, 'pending');
        this.#pending.pushBack(item);
      }
    }
    this.#waiters.wake(this.#pending.size);
  }

  async #take(max: number, leaseMs: number | null): Promise<QueueItem[]> {
    for (;;) {
      this.#sweep();
      const claimed: Item[] = [];
      while (claimed.length < max) {
        const item = this.#pending.popFront();
        if (item === undefined) break;
        this.#items.move(item, 'claiming');
        claimed.push(item);
      }
      if (claimed.length === 0) return [];
      const handedOver = await this.#handOver(claimed, leaseMs);
      // Empty when all that was claimed had no attempts left: look at the next ones.
      if (handedOver.length > 0) return handedOver;
    }
  }

  async #handOver(claimed: readonly Item[], leaseMs: number | null): Promise<QueueItem[]> {
    const isSpent = (item: Item) => item.attempts >= this.#settings.maxAttempts;
    const counted = claimed.filter((item) => (item.attempts > 0 || item.replayed) && !isSpent(item));
    const spent = claimed.filter(isSpent);
    if (counted.length + spent.length > 0) {
      try {
        await this.#store.handOver(counted, spent);
      } catch (error) {
        for (const item of spent) item.mayBeDead = true;
        this.#toFront(claimed);
        throw error;
      }
    }
    for (const item of spent) {
      this.#items.move(item, 'gone');
      this.#dead.add({ id: item.id, attempts: item.attempts, payloadBytes: item.payload.length, key: item.key });
    }
    // One moment for all: leases of one call end together, and so give back the oldest first.
    const nowMs = this.#clock.monotonicMs();
    return claimed.filter((item) => !isSpent(item)).map((item) => this.#lease(item, leaseMs, nowMs));
  }

  /** The lease begins here, after the count is stored. */
  #lease(item: Item, leaseMs: number | null, nowMs: number): QueueItem {
    this.#items.move(item, 'inFlight');
    item.attempts += 1;
    item.notBeforeMs = 0;
    if (leaseMs !== null) {
      this.#leases += 1;
      item.token = LeaseToken.parse(`${this.#tokenPrefix}.${this.#leases}`);
      this.#deadlines.set(item, nowMs + leaseMs);
    }
    const { id, attempts, token } = item;
    // A copy: the item may be handed over again, and this one is the consumer's to change.
    return { id, payload: new Uint8Array(item.payload), attempts, token, leaseMs };
  }

  async #remove(item: Item): Promise<void> {
    this.#items.move(item, 'acking');
    this.#deadlines.delete(item);
    if (item.key !== null) this.#keys.beginAck(item.key);
    try {
      await this.#store.remove([item]);
    } catch (error) {
      if (item.key !== null) this.#keys.endAck(item.key, false);
      item.acking = null;
      this.#backInFlight(item);
      throw error;
    }
    this.#items.move(item, 'gone');
    if (item.key !== null) this.#keys.endAck(item.key, true);
    this.#totals.ackedTotal += 1;
  }

  /** A nack with a delay stores until when, so that a restart does not cut it short. */
  async #putOff(item: Item, delayMs: number): Promise<void> {
    const dueAtMs = this.#clock.monotonicMs() + delayMs;
    const notBeforeMs = this.#clock.wallMs() + delayMs;
    this.#items.move(item, 'delaying');
    this.#deadlines.delete(item);
    try {
      await this.#store.delay(item, notBeforeMs);
    } catch (error) {
      this.#backInFlight(item);
      throw error;
    }
    item.notBeforeMs = notBeforeMs;
    item.token = null;
    this.#items.move(item, 'delayed');
    this.#deadlines.set(item, dueAtMs);
  }

  /** After a write that failed: under the lease it had, which may have ended by now. */
  #backInFlight(item: Item): void {
    this.#items.move(item, 'inFlight');
    if (item.token !== null) this.#deadlines.set(item, item.dueAtMs);
    this.#sweep();
  }

  /** Items become pending, the first of them first in line. */
  #toFront(items: readonly Item[]): void {
    for (const item of items.toReversed()) {
      this.#deadlines.delete(item);
      item.token = null;
      this.#items.move(item, 'pending');
      this.#pending.pushFront(item);
    }
    this.#waiters.wake(items.length);
  }

  /**
   * Ends leases and delays whose time has come. Run by the timer, and by each call that a late timer could mislead.
   * What was handed over before goes to the front, the oldest first; what was only held back goes to the back.
   */
  #sweep(): void {
    const due = this.#deadlines.takeDue(this.#clock.monotonicMs());
    if (due.length === 0) return;
    const back = due.filter(({ attempts }) => attempts === 0);
    for (const item of back) {
      this.#items.move(item, 'pending');
      this.#pending.pushBack(item);
    }
    const front = due.filter(({ attempts }) => attempts > 0).sort(byId);
    this.#totals.expiredTotal += front.filter(({ state }) => state === 'inFlight').length;
    this.#toFront(front);
    this.#waiters.wake(back.length);
  }

  async #purgePending(): Promise<number> {
    const delayed = this.#items.inState('delayed');
    const doomed: Item[] = [...delayed];
    for (let item = this.#pending.popFront(); item !== undefined; item = this.#pending.popFront()) doomed.push(item);
    for (const item of doomed) {
      this.#deadlines.delete(item);
      this.#items.move(item, 'purging');
    }
    for (let at = 0; at < doomed.length; at += ROWS_PER_PURGE) {
      const page = doomed.slice(at, at + ROWS_PER_PURGE);
      try {
        await this.#store.remove(page);
      } catch (error) {
        for (const item of delayed.slice(at)) {
          this.#items.move(item, 'delayed');
          this.#deadlines.set(item, item.dueAtMs);
        }
        this.#toFront(doomed.slice(Math.max(at, delayed.length)));
        throw error;
      }
      for (const item of page) {
        this.#items.move(item, 'gone');
        if (item.key !== null) this.#keys.release(item.key);
      }
    }
    return doomed.length;
  }
}

function byId(one: Item, other: Item): number {
  return one.id < other.id ? -1 : 1;
}
