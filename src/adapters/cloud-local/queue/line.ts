/**
 * The line: everything that is pending, in the order in which it will be handed over.
 *
 *   front                 what was handed over before, or requeued: objects, the last one put back first, but requeued
 *                         ones that follow each other by their ids
 *   then, one after the other:
 *     a run               items that nobody has taken yet, in the order of their ids:
 *       slab              id and payload, in memory
 *       unread            no more than a range of ids: the items lie in storage, and are read page by page into the slab
 *     an item             that came to the back with an id older than those before it: its delay is over
 *
 * A run has an unread part once memory is full; what is enqueued after that goes there, until all of it has been read. So
 * a backlog of any length takes as much memory as it may, and what lies in storage is read in order, ahead of its turn.
 * Which rows of a range are the run's is known by what they are not: an item that is an object has its own place.
 */
import type { QueueItemId } from '../../../contracts/ids.js';
import { Deque } from './deque.js';
import { Item, type Items, type Memory } from './items.js';
import { Slab, slabBytes } from './slab.js';
import type { QueueStore } from './store.js';

/** Rows, and bytes of payload, that are read at a time. One row is, however large. */
const ROWS_PER_READ = 1_000;
const BYTES_PER_READ = 8 * 2 ** 20;

/** Items of a run that are in storage only: ids after `after`, up to and with `through`. */
interface Unread {
  after: QueueItemId | null;
  through: QueueItemId;
  size: number;
  payloadBytes: number;
}

interface Run {
  readonly slab: Slab;
  unread: Unread | null;
}

export interface LineOwner {
  readonly store: QueueStore;
  readonly items: Items;
  readonly memory: Memory;
  /** Whether a row is no pending item, although it lies where those do: a dead letter whose requeue had no answer. */
  isForeign(id: QueueItemId): boolean;
  /** Whether an item was there when the queue was opened. */
  isReplayed(id: QueueItemId): boolean;
}

export class Line {
  readonly #owner: LineOwner;
  readonly #front = new Deque<Item>();
  /** How many at the front are known to be requeued ones in the order of their ids. */
  #requeued = 0;
  readonly #rest = new Deque<Run | Item>();
  /** The last id that was put into a run, or that no run may hold. */
  #last: QueueItemId | null = null;
  /** Whether the ids after `#last` go on where the last run ends. */
  #contiguous = true;
  #size = 0;
  /** Payload bytes of runs: all, and those in memory. */
  #bytes = 0;
  #bytesInMemory = 0;
  #reading: Promise<void> | null = null;
  /** Ids that were settled since the page that is being read was asked for: it may hold them still. */
  #goneMeanwhile: Set<QueueItemId> | null = null;

  constructor(owner: LineOwner) {
    this.#owner = owner;
  }

  get size(): number {
    return this.#size;
  }

  /** Payload bytes of everything in line that is no object. */
  get bytes(): number {
    return this.#bytes;
  }

  /** How many of {@link bytes} are in memory. */
  get bytesInMemory(): number {
    return this.#bytesInMemory;
  }

  /** Id of the first in line; of the last that was read, while the first one is unread. */
  get frontId(): QueueItemId | null {
    const item = this.#front.front;
    if (item !== undefined) return item.id;
    const first = this.#first();
    if (first === undefined || first instanceof Item) return first?.id ?? null;
    return first.slab.frontId ?? first.unread?.after ?? null;
  }

  /** Whether the next one has to be read first. */
  get isUnread(): boolean {
    if (this.#front.size > 0) return false;
    const first = this.#first();
    return first !== undefined && !(first instanceof Item) && first.slab.size === 0 && first.unread !== null;
  }

  pushFront(item: Item): void {
    this.#front.pushFront(item);
    this.#requeued = 0;
    this.#size += 1;
  }

  /** Puts an item before all others but those that were requeued before it, and are older. */
  requeue(item: Item): void {
    let [older, end] = [0, this.#countRequeued()];
    while (older < end) {
      const middle = (older + end) >> 1;
      if (this.#front.at(middle).id < item.id) older = middle + 1;
      else end = middle;
    }
    this.#front.insert(older, item);
    this.#requeued += 1;
    this.#size += 1;
  }

  pushBack(item: Item): void {
    this.#rest.pushBack(item);
    this.#size += 1;
  }

  /** Whether an id comes after all that runs hold. */
  isNext(id: QueueItemId): boolean {
    return this.#last === null || id > this.#last;
  }

  /** Appends what is stored; in the order of ids. */
  append(id: QueueItemId, payload: Uint8Array): void {
    const { memory } = this.#owner;
    const last = this.#rest.back;
    let run = last === undefined || last instanceof Item ? undefined : last;
    const { length } = payload;
    this.#size += 1;
    this.#bytes += length;
    if (run?.unread == null && memory.hasRoom(slabBytes(length))) {
      run ??= this.#newRun();
      this.#keep(run, id, payload);
    } else {
      if (run === undefined || !this.#contiguous) run = this.#newRun();
      run.unread ??= { after: this.#last, through: id, size: 0, payloadBytes: 0 };
      run.unread.through = id;
      run.unread.size += 1;
      run.unread.payloadBytes += length;
    }
    this.#contiguous = true;
    this.#last = id;
  }

  /** An id that was drawn for an item which is not in line: its row may be in storage, and no range is to reach over it. */
  passOver(id: QueueItemId): void {
    this.#contiguous = false;
    if (this.#last === null || id > this.#last) this.#last = id;
  }

  /** Takes the first one out; `null` when nothing is in line, or {@link isUnread}. */
  take(state: 'claiming' | 'purging'): Item | null {
    const { items, memory } = this.#owner;
    const object = this.#front.popFront();
    if (object !== undefined) {
      this.#requeued = Math.max(0, this.#requeued - 1);
      return this.#moved(object, state);
    }
    const first = this.#first();
    if (first === undefined) return null;
    if (first instanceof Item) {
      this.#rest.popFront();
      return this.#moved(first, state);
    }
    if (first.unread !== null) this.#readAhead();
    const id = first.slab.frontId;
    if (id === null) return null;
    const payload = first.slab.popPayload();
    this.#size -= 1;
    this.#bytes -= payload.length;
    this.#bytesInMemory -= payload.length;
    memory.bytes -= slabBytes(payload.length);
    const known = items.get(id);
    if (known?.inPlace) {
      items.leavePlace(known, payload);
      items.move(known, state);
      return known;
    }
    const item = new Item(id, payload);
    item.replayed = this.#owner.isReplayed(id);
    items.add(item, state);
    return item;
  }

  /** Reads the next page of what is unread, if there is any. Whoever asks meanwhile waits for the same page. */
  read(): Promise<void> {
    this.#reading ??= this.#readPage().finally(() => {
      this.#reading = null;
      this.#goneMeanwhile = null;
    });
    return this.#reading;
  }

  /** To be told of each item that is settled for good. */
  gone(id: QueueItemId): void {
    this.#goneMeanwhile?.add(id);
  }

  /** Whether an id is in line; `unread` when only its row can tell. */
  find(id: QueueItemId): 'in line' | 'unread' | 'not in line' {
    for (const part of this.#rest) {
      if (part instanceof Item) continue;
      if (part.slab.has(id)) return 'in line';
      const { unread } = part;
      if (unread !== null && id <= unread.through && (unread.after === null || id > unread.after)) return 'unread';
    }
    return 'not in line';
  }

  /** Puts another line, which is idle, before this one. That one is not to be used any more. */
  prepend(other: Line): void {
    for (const item of [...this.#front].reverse()) this.#rest.pushFront(item);
    for (const part of [...other.#rest].reverse()) this.#rest.pushFront(part);
    while (this.#front.popFront() !== undefined);
    for (const item of other.#front) this.#front.pushBack(item);
    this.#requeued = other.#requeued;
    if (this.#last === null) {
      this.#last = other.#last;
      this.#contiguous = other.#contiguous;
    }
    this.#size += other.#size;
    this.#bytes += other.#bytes;
    this.#bytesInMemory += other.#bytesInMemory;
  }

  /** Resolves when nothing is being read. */
  async idle(): Promise<void> {
    await this.#reading?.catch(() => {});
  }

  /** A line for what comes after everything in this one. */
  successor(): Line {
    const line = new Line(this.#owner);
    line.#last = this.#last;
    line.#contiguous = this.#contiguous;
    return line;
  }

  /** A run that is empty stays only where it is the last part: the next item goes there. */
  #first(): Run | Item | undefined {
    for (;;) {
      const first = this.#rest.front;
      if (first === undefined || first instanceof Item || first.slab.size > 0 || first.unread !== null) return first;
      if (this.#rest.size === 1) return first;
      this.#rest.popFront();
    }
  }

  /** How many at the front nobody has taken since they came there, in the order of their ids. */
  #countRequeued(): number {
    const front = this.#front;
    const isNext = (i: number) => front.at(i).attempts === 0 && (i === 0 || front.at(i - 1).id < front.at(i).id);
    while (this.#requeued < front.size && isNext(this.#requeued)) this.#requeued += 1;
    return this.#requeued;
  }

  #moved(item: Item, state: 'claiming' | 'purging'): Item {
    this.#size -= 1;
    this.#owner.items.move(item, state);
    return item;
  }

  #newRun(): Run {
    const run: Run = { slab: new Slab(), unread: null };
    this.#rest.pushBack(run);
    return run;
  }

  #keep(run: Run, id: QueueItemId, payload: Uint8Array): void {
    run.slab.push(id, payload);
    this.#bytesInMemory += payload.length;
    this.#owner.memory.bytes += slabBytes(payload.length);
  }

  /** Begins to read while half of memory is free, so that whoever takes items seldom waits for storage. */
  #readAhead(): void {
    if (this.#reading !== null) return;
    const { memory } = this.#owner;
    if (memory.bytes > memory.payloadBytesMax / 2) return;
    // Whoever comes to where nothing is read asks for the page again, and gets the error then.
    this.read().catch(() => {});
  }

  async #readPage(): Promise<void> {
    const run = this.#firstUnread();
    if (run?.unread == null) return;
    const { store, memory } = this.#owner;
    const { unread } = run;
    const { through } = unread;
    const gone = new Set<QueueItemId>();
    this.#goneMeanwhile = gone;
    let [last, rows, bytes] = [unread.after, 0, 0];
    let isWhole = true;
    await store.page(unread.after, ROWS_PER_READ, (id, payload) => {
      if (id > through) return false;
      last = id;
      rows += 1;
      bytes += payload.length;
      if (!gone.has(id)) this.#enter(run, unread, id, payload);
      if (id === through) return false;
      isWhole = rows < ROWS_PER_READ && bytes < BYTES_PER_READ && memory.hasRoom(0);
      return isWhole;
    });
    unread.after = isWhole ? through : last;
    if (!isWhole || unread.through !== through) return;
    // All of it has been read. What was counted and not found has been deleted by somebody else.
    run.unread = null;
    this.#size -= unread.size;
    this.#bytes -= unread.payloadBytes;
  }

  #enter(run: Run, unread: Unread, id: QueueItemId, payload: Uint8Array): void {
    const { items } = this.#owner;
    const known = items.get(id);
    if (known === undefined ? this.#owner.isForeign(id) : !known.inPlace) return;
    unread.size -= 1;
    unread.payloadBytes -= payload.length;
    this.#keep(run, id, payload);
  }

  #firstUnread(): Run | null {
    for (const part of this.#rest) if (!(part instanceof Item) && part.unread !== null) return part;
    return null;
  }
}
