/**
 * Idempotency keys: which item a key stands for. One queue is the scope of a key.
 *
 * A key is taken from the moment its enqueue begins until its item is acked (or purged), and `keyRetentionMs` longer.
 * It is compared by the SHA-256 of the payload, because after the ack there is no payload to compare with.
 * An enqueue that failed frees its key, but may have reached storage: the next one with the key writes over it, under
 * the same id, so that no restart finds two items of one key. Such an item's id may be older than its place in line.
 * Retained keys are dropped in the order of their acks, by the enqueues that come later: no timer is needed, as a key
 * that nobody asks for is in nobody's way.
 */
import { createHash } from 'node:crypto';
import { type Clock, systemClock } from '../../../contracts/clock.js';
import { FatalError, isCoreError } from '../../../contracts/errors.js';
import { type QueueItemId, show } from '../../../contracts/ids.js';
import { Deque } from './deque.js';
import { Item } from './items.js';

export interface KeyRecord {
  readonly key: string;
  readonly id: QueueItemId;
  /** SHA-256 of the payload, lower-case hex. */
  readonly digest: string;
  /** When a key whose item was acked is forgotten, ms since 1970; 0 while the item is there. */
  untilMs: number;
  /** The enqueue under way; a second one with the same key shares its outcome. */
  storing: Promise<unknown> | null;
}

/** Retained keys dropped along with one enqueue: more than one, so that dropping keeps up with coming. */
const DROPS_PER_ENQUEUE_MAX = 16;

/** Failed enqueues whose id is remembered for their keys, the latest of them: some 200 bytes each. */
const DOUBTFUL_MAX = 10_000;

export class Keys {
  readonly #retentionMs: number;
  readonly #records = new Map<string, KeyRecord>();
  readonly #retained = new Deque<KeyRecord>();
  /** Ids under which a key may stand in storage, though its enqueue failed; the oldest failure first. */
  readonly #doubtful = new Map<string, QueueItemId>();
  readonly #newId: () => QueueItemId;
  readonly #clock: Clock;

  /** @param newId draws the id of an item that is to be stored in the same turn */
  constructor(retentionMs: number, newId: () => QueueItemId, clock: Clock = systemClock) {
    this.#retentionMs = retentionMs;
    this.#newId = newId;
    this.#clock = clock;
  }

  /**
   * Stores an item once per key: answers its id, or that of the item that `key` stands for already.
   * @param store writes the item with its `key`; a second call with the same key meanwhile shares the outcome
   * @throws FatalError SchemaViolation, code `KEY_REUSED`: the key stands for other bytes
   */
  async once(key: string, payload: Uint8Array, store: (item: Item) => Promise<void>): Promise<QueueItemId> {
    const digest = createHash('sha256').update(payload).digest('hex');
    const known = this.#records.get(key);
    if (known !== undefined && this.has(key)) {
      if (known.digest !== digest) throw reused(known);
      await known.storing;
      return known.id;
    }
    const item = new Item(this.#doubtful.get(key) ?? this.#newId(), payload);
    const record: KeyRecord = { key, id: item.id, digest, untilMs: 0, storing: null };
    item.key = record;
    this.#records.set(key, record);
    try {
      record.storing = store(item);
      await record.storing;
      this.#doubtful.delete(key);
    } catch (error) {
      this.release(record);
      if (mayBeStored(error)) this.#doubt(record);
      throw error;
    } finally {
      record.storing = null;
    }
    return item.id;
  }

  /** Whether a key stands for an item, or did until a moment ago. */
  has(key: string): boolean {
    const known = this.#records.get(key);
    return known !== undefined && (known.untilMs === 0 || known.untilMs > this.#clock.wallMs());
  }

  /** The record of an item's key, as storage tells of it. */
  of(key: string | null, id: QueueItemId): KeyRecord | null {
    const known = key === null ? undefined : this.#records.get(key);
    return known?.id === id ? known : null;
  }

  /** Takes a key as storage tells of it; retained ones are to come in the order of their ends. */
  recall(record: KeyRecord): void {
    this.#records.set(record.key, record);
    if (record.untilMs > 0) this.#retained.pushBack(record);
  }

  /** The item is about to be acked: sets until when its key is kept, to be stored along. */
  beginAck(record: KeyRecord): void {
    if (this.#retentionMs > 0) record.untilMs = this.#clock.wallMs() + this.#retentionMs;
  }

  endAck(record: KeyRecord, acked: boolean): void {
    if (!acked) record.untilMs = 0;
    else if (record.untilMs > 0) this.#retained.pushBack(record);
    else this.release(record);
  }

  /** Forgets a record; a later one of the same key stays. */
  release(record: KeyRecord): void {
    if (this.#records.get(record.key) === record) this.#records.delete(record.key);
  }

  /** Forgets some of the retained keys whose time is over; their records are to be deleted from storage. */
  takeOutdated(): QueueItemId[] {
    const ids: QueueItemId[] = [];
    for (let first = this.#retained.front; first !== undefined; first = this.#retained.front) {
      if (ids.length === DROPS_PER_ENQUEUE_MAX || first.untilMs > this.#clock.wallMs()) break;
      this.#retained.popFront();
      this.release(first);
      ids.push(first.id);
    }
    return ids;
  }

  #doubt({ key, id }: KeyRecord): void {
    this.#doubtful.delete(key);
    this.#doubtful.set(key, id);
    for (const oldest of this.#doubtful.keys()) {
      if (this.#doubtful.size <= DOUBTFUL_MAX) return;
      this.#doubtful.delete(oldest);
    }
  }
}

/** What was turned away, or refused for good, was not written. */
function mayBeStored(error: unknown): boolean {
  return !isCoreError(error) || (error.severity === 'recoverable' && error.kind !== 'Throttled');
}

function reused({ key, id }: KeyRecord): FatalError {
  return new FatalError('SchemaViolation', `key ${show(key)} stands for other bytes; give a new item a new key`, {
    code: 'KEY_REUSED',
    context: { key, id },
  });
}
