/**
 * Backlog: every item that a queue holds: those in line, dead letters, and as objects those that are delayed, taken
 * or being written. The moves of queue/items.ts that need no write are made here; whoever moves an item for a write tells
 * the backlog of its outcome.
 */
import type { Clock } from '../../../contracts/clock.js';
import type { LeaseToken, QueueItemId } from '../../../contracts/ids.js';
import { DeadLetters } from './dead-letters.js';
import { Deadlines } from './deadlines.js';
import { requireHeld } from './holding.js';
import { type Item, Items, Memory } from './items.js';
import { Line } from './line.js';
import type { QueueStore } from './store.js';
import { Waiters } from './waiters.js';

/** Rows deleted in one transaction by a purge. */
const ROWS_PER_PURGE = 1_000;

export class Backlog {
  readonly items: Items;
  readonly deadlines: Deadlines<Item>;
  readonly waiters: Waiters;
  readonly dead: DeadLetters;
  /** The largest id that was there when the queue was opened: what is not after it may have been handed over before. */
  replayedThrough: QueueItemId | null = null;
  /** Leases that have run out. */
  expiredTotal = 0;
  readonly #store: QueueStore;
  readonly #clock: Clock;
  #line: Line;
  /** Lines that are being purged. */
  readonly #doomed = new Set<Line>();

  readonly #onGone: () => void;

  /** @param onGone called whenever an item is settled for good */
  constructor(store: QueueStore, clock: Clock, memoryBytesMax: number, onGone: () => void = () => {}) {
    this.#onGone = onGone;
    const memory = new Memory(memoryBytesMax);
    this.#store = store;
    this.#clock = clock;
    this.items = new Items(memory);
    this.dead = new DeadLetters(store, (id) => this.items.get(id) !== undefined);
    this.deadlines = new Deadlines(() => this.sweep(), clock);
    this.waiters = new Waiters(clock);
    this.#line = new Line({
      store,
      items: this.items,
      memory,
      isForeign: (id) => this.dead.mayBeAmongItems(id),
      isReplayed: (id) => this.replayedThrough !== null && id <= this.replayedThrough,
    });
  }

  /** How many items are in line. */
  get pending(): number {
    return this.#line.size;
  }

  /** Id of the first in line, as {@link Line.frontId}. */
  get frontId(): QueueItemId | null {
    return this.#line.frontId;
  }

  /** Payload bytes of all items. */
  get bytes(): number {
    let bytes = this.items.bytes + this.#line.bytes;
    for (const line of this.#doomed) bytes += line.bytes;
    return bytes;
  }

  /** How many of {@link bytes} are in memory. */
  get bytesInMemory(): number {
    let bytes = this.items.bytesInMemory + this.#line.bytesInMemory;
    for (const line of this.#doomed) bytes += line.bytesInMemory;
    return bytes;
  }

  /** A stored item of which nothing more is to be known joins at the back. In the order of ids. */
  append(id: QueueItemId, payload: Uint8Array): void {
    this.#line.append(id, payload);
  }

  /** The row of an item that is not here may be in storage all the same. */
  passOver(id: QueueItemId): void {
    this.#line.passOver(id);
  }

  /** A stored item joins: at the back, or, while it is delayed, nowhere yet. */
  join(item: Item): void {
    const { id, payload } = item;
    if (item.notBeforeMs > 0 || payload === null || !this.#line.isNext(id)) this.#enter(item);
    else if (item.key === null) this.#line.append(id, payload);
    else this.#enterInPlace(item, payload);
  }

  /** As {@link join}, for what an earlier process left: the rows come in the order of their ids. */
  rejoin(id: QueueItemId, payload: Uint8Array, item: Item | null, isDelayed: boolean): void {
    if (item === null) this.#line.append(id, payload);
    else if (isDelayed) this.#enter(item);
    else this.#enterInPlace(item, payload);
  }

  /** A dead letter is an item again: it goes to the front of the line, as {@link Line.requeue}. */
  requeue(item: Item): void {
    this.items.add(item, 'pending');
    this.items.dropIfFull(item);
    this.#line.requeue(item);
    this.waiters.wake(1);
  }

  /** Takes up to `max` items out of the line; reads them first where they lie in storage. */
  async claim(max: number): Promise<Item[]> {
    const claimed: Item[] = [];
    this.#claim(claimed, max);
    if (claimed.length === max || !this.#line.isUnread) return claimed;
    try {
      while (claimed.length < max && this.#line.isUnread) {
        await this.#line.read();
        this.#claim(claimed, max);
      }
    } catch (error) {
      this.toFront(claimed);
      throw error;
    }
    return claimed;
  }

  /** Items become pending, the first of them first in line. */
  toFront(items: readonly Item[]): void {
    for (const item of items.toReversed()) {
      this.deadlines.delete(item);
      item.token = null;
      this.items.move(item, 'pending');
      this.items.dropIfFull(item);
      this.#line.pushFront(item);
    }
    this.waiters.wake(items.length);
  }

  /** An item becomes delayed. */
  putOff(item: Item, dueAtMs: number): void {
    item.token = null;
    this.items.move(item, 'delayed');
    this.items.dropIfFull(item);
    this.deadlines.set(item, dueAtMs);
  }

  /** After a write that failed: under the lease it had, which may have ended by now. */
  backInFlight(item: Item): void {
    this.items.move(item, 'inFlight');
    if (item.token !== null) this.deadlines.set(item, item.dueAtMs);
    this.sweep();
  }

  /** An item is settled for good. */
  gone(item: Item): void {
    this.items.move(item, 'gone');
    this.#line.gone(item.id);
    for (const line of this.#doomed) line.gone(item.id);
    this.#onGone();
  }

  /** Items whose one hand-over so far storage does not know of. */
  uncounted(): Item[] {
    const items = [...this.items.inState('pending'), ...this.items.inState('inFlight')];
    return items.filter(({ attempts, replayed }) => attempts === 1 && !replayed);
  }

  /** Refuses to settle what nobody has taken; an id that the queue does not hold passes. */
  async refuseUntaken(id: QueueItemId, token: LeaseToken | null): Promise<void> {
    const place = this.#line.find(id);
    // Whoever takes it while its row is looked for: it was pending when it was asked about.
    const isThere =
      place === 'in line' || (place === 'unread' && !this.dead.mayBeAmongItems(id) && (await this.#store.holds(id)));
    if (isThere) requireHeld({ id, state: 'pending', token: null }, token);
    await this.dead.refuseSettling(id, token);
  }

  /**
   * Ends leases and delays whose time has come. Run by the timer, and by each call that a late timer could mislead.
   * What was handed over before goes to the front, the oldest first; what was only held back goes to the back.
   */
  sweep(): void {
    const due = this.deadlines.takeDue(this.#clock.monotonicMs());
    if (due.length === 0) return;
    const back = due.filter(({ attempts }) => attempts === 0);
    for (const item of back) {
      this.items.move(item, 'pending');
      this.#line.pushBack(item);
    }
    const front = due.filter(({ attempts }) => attempts > 0).sort(byId);
    this.expiredTotal += front.filter(({ state }) => state === 'inFlight').length;
    this.toFront(front);
    this.waiters.wake(back.length);
  }

  /** Deletes what is in line or delayed now, page by page, telling of each item; resolves to how many. */
  async purge(onGone: (item: Item) => void): Promise<number> {
    const delayed = this.items.inState('delayed');
    for (const item of delayed) {
      this.deadlines.delete(item);
      this.items.move(item, 'purging');
    }
    const line = this.#line;
    this.#line = line.successor();
    this.#doomed.add(line);
    let page: Item[] = [];
    let delayedOfPage: Item[] = [];
    let purged = 0;
    try {
      for (;;) {
        delayedOfPage = delayed.splice(0, ROWS_PER_PURGE);
        page = [...delayedOfPage];
        while (page.length < ROWS_PER_PURGE) {
          const item = line.take('purging');
          if (item === null) break;
          page.push(item);
        }
        if (page.length > 0) await this.#store.remove(page);
        else if (line.isUnread) await line.read();
        else return purged;
        for (const item of page) {
          this.gone(item);
          onGone(item);
        }
        purged += page.length;
      }
    } catch (error) {
      for (const item of page) item.mayBeGone = true;
      for (const item of [...delayedOfPage, ...delayed]) this.putOff(item, item.dueAtMs);
      await line.idle();
      this.#line.prepend(line);
      this.toFront(page.slice(delayedOfPage.length));
      this.waiters.wake(this.#line.size);
      throw error;
    } finally {
      this.#doomed.delete(line);
    }
  }

  /** Lets go of what is in memory, as somebody may hold the queue for long after it was closed. */
  clear(): void {
    this.#line = this.#line.successor();
  }

  #claim(claimed: Item[], max: number): void {
    while (claimed.length < max) {
      const item = this.#line.take('claiming');
      if (item === null) return;
      claimed.push(item);
    }
  }

  /** An item that has its own place: among the delayed, or at the back, whatever its id. */
  #enter(item: Item): void {
    if (item.notBeforeMs > 0 && item.dueAtMs > this.#clock.monotonicMs()) {
      this.items.add(item, 'delayed');
      this.deadlines.set(item, item.dueAtMs);
    } else {
      this.items.add(item, 'pending');
      this.#line.pushBack(item);
    }
    this.items.dropIfFull(item);
  }

  /** An item of which more is known, where its id belongs. */
  #enterInPlace(item: Item, payload: Uint8Array): void {
    item.inPlace = true;
    this.items.add(item, 'pending');
    this.#line.append(item.id, payload);
  }
}

function byId(one: Item, other: Item): number {
  return one.id < other.id ? -1 : 1;
}
