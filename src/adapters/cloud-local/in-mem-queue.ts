/**
 * InMemQueue: the work queue of one process, in memory, with every item written to a Storage first.
 *
 * `enqueue` commits the item, then puts it in line, then resolves; so what a consumer is handed is always stored.
 * `ack` deletes the row and resolves after that commit. `nack` writes nothing: the row is still there. Opening the queue
 * reads the rows back in ULID order, so whatever was stored and not acked is pending again after a crash.
 *
 * Peculiar to it: one process, and in it one instance, owns a queue, held by a lock of the Storage. A first hand-over
 * writes nothing; every later one stores its count first, so that an item which kills its process reaches the dead
 * letters; a crash loses at most one of the count, closing none. Leases run on a clock that no one can set, and end while the process
 * lives; after it, every item is pending. Payloads are held in memory as well as stored, up to a bound (queue/line.ts).
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
} from '../../contracts/queue.js';
import type { Storage } from '../../contracts/storage.js';
import { Backlog } from './queue/backlog.js';
import { itemUnknown, leaseLost, requireHeld, rowMissing } from './queue/holding.js';
import { idsAfter, idTimeMs, laterOf } from './queue/ids.js';
import { Item } from './queue/items.js';
import { type KeyRecord, Keys } from './queue/keys.js';
import {
  checkOptions,
  type InMemQueueOptions,
  type InMemQueueSettings,
  requireFits,
  requireRoom,
} from './queue/options.js';
import { replay } from './queue/replay.js';
import { Room } from './queue/room.js';
import { QueueStore } from './queue/store.js';

export type { InMemQueueOptions } from './queue/options.js';

/** What the manifest of `local.in-mem` declares. */
export const IN_MEM_QUEUE_FEATURES = ['lease', 'replay', 'delay', 'key', 'dead-letters'] as const;

/** Payloads asked for in one call of the storage. */
const PAYLOADS_PER_READ = 1_000;

const NO_OPTIONS: EnqueueOptions = {};

export class InMemQueue implements Queue {
  readonly #settings: InMemQueueSettings;
  readonly #store: QueueStore;
  readonly #clock: Clock;
  readonly #backlog: Backlog;
  readonly #keys: Keys;
  /** Where enqueues wait for a full backlog; none: they are refused. */
  readonly #room: Room | null;
  /** Payload bytes of items that are being stored. */
  #arrivingBytes = 0;
  #newId: () => QueueItemId;
  /** Makes tokens of one opening differ from those of any other. */
  readonly #tokenPrefix = randomUUID();
  #leases = 0;
  readonly #totals = { enqueuedTotal: 0, ackedTotal: 0, nackedTotal: 0 };

  private constructor(store: QueueStore, settings: InMemQueueSettings) {
    this.#store = store;
    this.#settings = settings;
    this.#clock = settings.clock;
    this.#newId = idsAfter(null, settings.clock);
    this.#keys = new Keys(settings.keyRetentionMs, () => this.#newId(), settings.clock);
    this.#backlog = new Backlog(store, settings.clock, settings.memoryBytesMax, () => this.#room?.freed());
    const { maxPendingBytes, whenFull } = settings;
    const fits = (bytes: number) => this.#backlog.bytes + this.#arrivingBytes + bytes <= maxPendingBytes;
    this.#room = whenFull === 'wait' ? new Room(fits) : null;
  }

  /**
   * Opens a queue of `storage`, which stays the caller's to close, after the queue.
   * @throws FatalError ConfigInvalid, code `LOCKED`: somebody has it open. FatalError Internal, code `STORAGE_FORMAT`: a
   * row under the queue's namespace is not one of its own.
   */
  static async open(storage: Storage, options: InMemQueueOptions = {}): Promise<InMemQueue> {
    const settings = checkOptions(options);
    const store = await QueueStore.open(storage, settings);
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
  async enqueue(payload: Uint8Array, { key, delayMs = 0, signal }: EnqueueOptions = NO_OPTIONS): Promise<QueueItemId> {
    requireFits(payload, this.#settings.payloadBytesMax);
    // One that stands for an item already needs no room.
    if (this.#room !== null && !(key !== undefined && this.#keys.has(key))) {
      return this.#inRoom(payload.length, signal, () => this.#enqueue(payload, key, delayMs));
    }
    return this.#enqueue(payload, key, delayMs);
  }

  async enqueueMany(
    payloads: readonly Uint8Array[],
    { delayMs = 0, signal }: EnqueueOptions = NO_OPTIONS,
  ): Promise<QueueItemId[]> {
    let bytes = 0;
    for (const payload of payloads) {
      requireFits(payload, this.#settings.payloadBytesMax);
      bytes += payload.length;
    }
    const enqueue = async () => {
      const items = payloads.map((payload) => new Item(this.#newId(), payload));
      await this.#append(items, delayMs);
      return items.map((item) => item.id);
    };
    // More than the backlog could ever hold is refused: it would wait for ever.
    if (this.#room === null || bytes > this.#settings.maxPendingBytes) return enqueue();
    return this.#inRoom(bytes, signal, enqueue);
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
        this.#backlog.waiters.wake(this.#backlog.pending);
        throw signal.reason;
      }
      const items = await this.#take(max, leaseMs);
      if (items.length > 0 || waitMs === 0) return items;
      // What came while nothing was found woke nobody: look again.
      if (this.#backlog.pending > 0) continue;
      if (!(await this.#backlog.waiters.wait(untilMs, signal))) return [];
    }
  }

  async extendLease(id: QueueItemId, token: LeaseToken, byMs: number): Promise<void> {
    this.#backlog.sweep();
    const item = this.#backlog.items.get(id);
    if (item?.state !== 'inFlight' || item.token !== token) throw leaseLost(id);
    this.#backlog.deadlines.set(item, this.#clock.monotonicMs() + byMs);
  }

  async ack(id: QueueItemId, token: LeaseToken | null = null): Promise<void> {
    this.#backlog.sweep();
    const item = this.#backlog.items.get(id);
    if (item === undefined) {
      await this.#backlog.refuseUntaken(id, token);
      return;
    }
    if (item.acking !== null && item.token === token) return item.acking;
    requireHeld(item, token);
    item.acking = this.#remove(item);
    return item.acking;
  }

  async nack(id: QueueItemId, token: LeaseToken | null = null, { delayMs = 0 }: NackOptions = {}): Promise<void> {
    this.#backlog.sweep();
    const item = this.#backlog.items.get(id);
    if (item === undefined) {
      await this.#backlog.refuseUntaken(id, token);
      throw itemUnknown(id, 'an item of this queue');
    }
    requireHeld(item, token);
    if (delayMs > 0) await this.#putOff(item, delayMs);
    else this.#backlog.toFront([item]);
    this.#totals.nackedTotal += 1;
  }

  deadLetters(): AsyncIterable<QueueItem> {
    return this.#backlog.dead.read();
  }

  async requeue(id: QueueItemId): Promise<void> {
    const { dead } = this.#backlog;
    const letter = await dead.take(id);
    if (letter === null) throw itemUnknown(id, 'a dead letter of this queue');
    const item = new Item(id, letter.payload);
    item.key = this.#keys.of(letter.key, id);
    try {
      await this.#store.requeue(item);
    } catch (error) {
      dead.putBack(letter);
      throw error;
    }
    dead.forget(id);
    this.#backlog.requeue(item);
  }

  async purge(which: 'pending' | 'dead'): Promise<number> {
    const release = (key: KeyRecord | null) => {
      if (key !== null) this.#keys.release(key);
    };
    if (which === 'pending') return this.#backlog.purge(({ key }) => release(key));
    return this.#backlog.dead.purge(({ id, key }) => release(this.#keys.of(key, id)));
  }

  async stats(): Promise<QueueStats> {
    this.#backlog.sweep();
    const { frontId: first, pending, expiredTotal, bytes, bytesInMemory } = this.#backlog;
    return {
      pending,
      delayed: this.#backlog.items.count('delayed'),
      inFlight: this.#backlog.items.count('claiming', 'inFlight', 'acking', 'delaying'),
      deadLetters: this.#backlog.dead.size,
      oldestPendingAgeMs: first === null ? null : Math.max(0, this.#clock.wallMs() - idTimeMs(first)),
      ...this.#totals,
      expiredTotal,
      durability: this.#store.durability,
      payloadBytesMax: this.#settings.payloadBytesMax,
      bytesInMemory,
      bytesInStorage: bytes + this.#backlog.dead.bytes,
    };
  }

  async close(): Promise<void> {
    this.#backlog.deadlines.stop();
    this.#backlog.waiters.close();
    this.#room?.close();
    await this.#store.close(this.#settings.closeTimeoutMs, () => this.#store.keepCounts(this.#backlog.uncounted()));
    this.#backlog.clear();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Reads back what an earlier process left: everything stored and not acked is pending, or delayed, again. */
  async #replay(): Promise<void> {
    const clockMs = this.#clock.wallMs();
    const last = await replay(this.#store, this.#backlog.dead, this.#keys, this.#clock, (id, payload, item) => {
      const delayMs = item === null ? 0 : item.notBeforeMs - clockMs;
      if (item !== null) item.dueAtMs = this.#clock.monotonicMs() + delayMs;
      this.#backlog.rejoin(id, payload, item, delayMs > 0);
    });
    this.#newId = idsAfter(laterOf(last, await this.#store.mark()), this.#clock);
    this.#backlog.replayedThrough = last;
  }

  async #enqueue(payload: Uint8Array, key: string | undefined, delayMs: number): Promise<QueueItemId> {
    if (key !== undefined) return this.#keys.once(key, payload, (item) => this.#append([item], delayMs));
    const id = this.#newId();
    if (delayMs > 0) await this.#append([new Item(id, payload)], delayMs);
    else await this.#appendOne(id, payload);
    return id;
  }

  /** Waits for room, then enqueues; ids are drawn only then, as they order the line. */
  async #inRoom<T>(bytes: number, signal: AbortSignal | undefined, enqueue: () => Promise<T>): Promise<T> {
    const taken = await (this.#room as Room).take(bytes, signal);
    // The call counts its bytes before it returns.
    const enqueued = enqueue();
    taken();
    return enqueued;
  }

  /** Stores a new item of which nothing more is to be known. To be called in the turn in which its id was made. */
  #appendOne(id: QueueItemId, payload: Uint8Array): Promise<void> {
    const { length } = payload;
    requireRoom(length, this.#backlog.bytes + this.#arrivingBytes, this.#settings.maxPendingBytes);
    this.#arrivingBytes += length;
    return new Promise((resolve, reject) => {
      const stored = () => {
        this.#arrivingBytes -= length;
        this.#backlog.append(id, payload);
        this.#totals.enqueuedTotal += 1;
        this.#backlog.waiters.wake(1);
        resolve();
      };
      const failed = (error: unknown) => {
        this.#arrivingBytes -= length;
        this.#backlog.passOver(id);
        this.#room?.freed();
        reject(error);
      };
      this.#store.appendOne(id, payload, this.#keys.takeOutdated(), stored, failed);
    });
  }

  /** Stores new items, all or none, then lets them join. To be called in the turn in which new ids were made. */
  #append(items: readonly Item[], delayMs: number): Promise<void> {
    const bytes = items.reduce((sum, { payloadBytes }) => sum + payloadBytes, 0);
    requireRoom(bytes, this.#backlog.bytes + this.#arrivingBytes, this.#settings.maxPendingBytes);
    if (delayMs > 0) {
      for (const item of items) {
        item.notBeforeMs = this.#clock.wallMs() + delayMs;
        item.dueAtMs = this.#clock.monotonicMs() + delayMs;
      }
    }
    this.#arrivingBytes += bytes;
    return new Promise((resolve, reject) => {
      const stored = () => {
        this.#arrivingBytes -= bytes;
        for (const item of items) this.#backlog.join(item);
        this.#totals.enqueuedTotal += items.length;
        this.#backlog.waiters.wake(items.length);
        resolve();
      };
      const failed = (error: unknown) => {
        this.#arrivingBytes -= bytes;
        for (const { id } of items) this.#backlog.passOver(id);
        this.#room?.freed();
        reject(error);
      };
      this.#store.append(items, this.#keys.takeOutdated(), stored, failed);
    });
  }

  async #take(max: number, leaseMs: number | null): Promise<QueueItem[]> {
    const ready: Item[] = [];
    try {
      for (let spent = true; spent && ready.length < max; ) {
        this.#backlog.sweep();
        const claimed = await this.#backlog.claim(max - ready.length);
        if (!claimed.every(isFresh)) await this.#prepare(claimed);
        const before = ready.length;
        for (const item of claimed) if (item.state === 'claiming') ready.push(item);
        // Some had no attempts left: others may take their places.
        spent = ready.length - before < claimed.length;
      }
    } catch (error) {
      this.#backlog.toFront(ready);
      throw error;
    }
    // One moment for all: leases of one call end together, and so give back the oldest first.
    const nowMs = this.#clock.monotonicMs();
    return ready.map((item) => this.#lease(item, leaseMs, nowMs));
  }

  /** What is not handed over for the first time: reads payloads, stores counts, makes dead letters of what is spent. */
  async #prepare(claimed: readonly Item[]): Promise<void> {
    const isSpent = (item: Item) => item.attempts >= this.#settings.maxAttempts;
    try {
      const unread = claimed.filter(({ payload }) => payload === null);
      for (let at = 0; at < unread.length; at += PAYLOADS_PER_READ) {
        await this.#readPayloads(unread.slice(at, at + PAYLOADS_PER_READ));
      }
      const there = claimed.filter(({ state }) => state === 'claiming');
      const spent = there.filter(isSpent);
      const counted = there.filter((item) => (item.attempts > 0 || item.replayed) && !isSpent(item));
      if (counted.length + spent.length === 0) return;
      try {
        await this.#store.handOver(counted, spent);
      } catch (error) {
        for (const item of spent) item.mayBeDead = true;
        throw error;
      }
      for (const item of spent) {
        this.#backlog.gone(item);
        this.#backlog.dead.add(item.payloadBytes);
      }
    } catch (error) {
      this.#backlog.toFront(claimed.filter(({ state }) => state === 'claiming'));
      throw error;
    }
  }

  /** @throws FatalError Internal, code `STORAGE_FORMAT`: somebody else deleted a row. The item is given up. */
  async #readPayloads(items: readonly Item[]): Promise<void> {
    const payloads = await this.#store.readItems(items);
    const deleted: QueueItemId[] = [];
    for (const [i, item] of items.entries()) {
      const payload = payloads[i];
      if (payload) this.#backlog.items.hold(item, payload);
      else {
        this.#backlog.gone(item);
        if (item.key !== null) this.#keys.release(item.key);
        if (!item.mayBeGone) deleted.push(item.id);
      }
    }
    if (deleted[0] !== undefined) throw rowMissing(deleted[0], deleted.length);
  }

  /** The lease begins here, after the count is stored. */
  #lease(item: Item, leaseMs: number | null, nowMs: number): QueueItem {
    this.#backlog.items.move(item, 'inFlight');
    item.attempts += 1;
    item.notBeforeMs = 0;
    if (leaseMs !== null) {
      this.#leases += 1;
      item.token = LeaseToken.parse(`${this.#tokenPrefix}.${this.#leases}`);
      this.#backlog.deadlines.set(item, nowMs + leaseMs);
    }
    const { id, attempts, token } = item;
    // A copy: the item may be handed over again, and this one is the consumer's to change.
    return { id, payload: new Uint8Array(item.payload as Uint8Array), attempts, token, leaseMs };
  }

  async #remove(item: Item): Promise<void> {
    this.#backlog.items.move(item, 'acking');
    this.#backlog.deadlines.delete(item);
    if (item.key !== null) this.#keys.beginAck(item.key);
    try {
      await this.#store.remove([item]);
    } catch (error) {
      if (item.key !== null) this.#keys.endAck(item.key, false);
      item.acking = null;
      item.mayBeGone = true;
      this.#backlog.backInFlight(item);
      throw error;
    }
    this.#backlog.gone(item);
    if (item.key !== null) this.#keys.endAck(item.key, true);
    this.#totals.ackedTotal += 1;
  }

  /** A nack with a delay stores until when, so that a restart does not cut it short. */
  async #putOff(item: Item, delayMs: number): Promise<void> {
    const dueAtMs = this.#clock.monotonicMs() + delayMs;
    const notBeforeMs = this.#clock.wallMs() + delayMs;
    this.#backlog.items.move(item, 'delaying');
    this.#backlog.deadlines.delete(item);
    try {
      await this.#store.delay(item, notBeforeMs, delayMs);
    } catch (error) {
      this.#backlog.backInFlight(item);
      throw error;
    }
    item.notBeforeMs = notBeforeMs;
    this.#backlog.putOff(item, dueAtMs);
  }
}

function isFresh({ attempts, replayed, payload }: Item): boolean {
  return attempts === 0 && !replayed && payload !== null;
}
