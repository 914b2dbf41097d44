/** Replay: what an opening queue finds in its storage, read row by row. */
import type { Clock } from '../../../contracts/clock.js';
import type { QueueItemId } from '../../../contracts/ids.js';
import { WAIT_MS_MAX } from '../../../contracts/queue.js';
import type { DeadLetters } from './dead-letters.js';
import { Item } from './items.js';
import type { KeyRecord, Keys } from './keys.js';
import type { ItemRecord, QueueStore } from './store.js';

/** Records deleted in one transaction. */
const RECORDS_PER_DELETE = 1_000;

/** Told of each item in the order of the ids; `item` when more is known of it than its payload. */
type Enter = (id: QueueItemId, payload: Uint8Array, item: Item | null) => void;

/** Fills `dead` and `keys`, tells `enter` of the items, and resolves to the largest id that any row has. */
export async function replay(
  store: QueueStore,
  dead: DeadLetters,
  keys: Keys,
  clock: Clock,
  enter: Enter,
): Promise<QueueItemId | null> {
  const beside = await Beside.open(store, dead, keys);
  await store.eachItem((id, payload) => {
    beside.see(id);
    if (beside.isPast(id)) {
      enter(id, payload, null);
      return true;
    }
    return beside.recordOf(id).then((record) => {
      const item = record === null ? null : replayed(id, payload, record, clock.wallMs());
      if (item?.key) keys.recall(item.key);
      enter(id, payload, item);
      return true;
    });
  });
  await beside.recordOf(AFTER_ALL);
  await recallRetainedKeys(store, beside.left, keys, clock.wallMs());
  return beside.last;
}

function replayed(id: QueueItemId, payload: Uint8Array, record: ItemRecord, nowMs: number): Item {
  const item = new Item(id, payload);
  item.replayed = true;
  item.attempts = record.attempts ?? 0;
  // The clock may have been set back since the delay was stored: what is left of it is no more than it was.
  item.notBeforeMs = Math.min(record.notBeforeMs ?? 0, nowMs + (record.delayMs ?? WAIT_MS_MAX));
  item.hasRecord = true;
  item.key = keyRecord(id, record);
  return item;
}

/** What no id is after. */
const AFTER_ALL = '~' as QueueItemId;

/** What is read beside the items, as far as they have been: dead letters and records. Each record belongs to one row. */
class Beside {
  /** The largest id of all that was read. */
  last: QueueItemId | null = null;
  /** Records that belong to no row. */
  readonly left = new Map<QueueItemId, ItemRecord>();
  readonly #dead: DeadLetters;
  readonly #keys: Keys;
  readonly #letters: AsyncIterator<[QueueItemId, Uint8Array]>;
  readonly #records: AsyncIterator<[QueueItemId, ItemRecord]>;
  /** The next ones. */
  #letter: readonly [QueueItemId, Uint8Array] | null = null;
  #record: readonly [QueueItemId, ItemRecord] | null = null;

  private constructor(store: QueueStore, dead: DeadLetters, keys: Keys) {
    this.#dead = dead;
    this.#keys = keys;
    this.#letters = store.dead();
    this.#records = store.records();
  }

  static async open(store: QueueStore, dead: DeadLetters, keys: Keys): Promise<Beside> {
    const beside = new Beside(store, dead, keys);
    await beside.#nextLetter();
    await beside.#nextRecord();
    return beside;
  }

  see(id: QueueItemId): void {
    if (this.last === null || id > this.last) this.last = id;
  }

  /** Whether an id is before all that comes. */
  isPast(id: QueueItemId): boolean {
    return (this.#letter === null || this.#letter[0] > id) && (this.#record === null || this.#record[0] > id);
  }

  /** Goes over what is before an id, and takes the record of that one. */
  async recordOf(id: QueueItemId): Promise<ItemRecord | null> {
    for (;;) {
      const [letter, record] = [this.#letter, this.#record];
      if (letter !== null && letter[0] < id && (record === null || letter[0] <= record[0])) {
        await this.#enterLetter(letter);
      } else if (record !== null && record[0] < id) {
        this.left.set(...record);
        await this.#nextRecord();
      } else if (record?.[0] === id) {
        await this.#nextRecord();
        return record[1];
      } else return null;
    }
  }

  async #enterLetter([id, payload]: readonly [QueueItemId, Uint8Array]): Promise<void> {
    const record = this.#record?.[0] === id ? this.#record[1] : null;
    const key = keyRecord(id, record);
    if (key !== null) this.#keys.recall(key);
    this.#dead.add(payload.length);
    if (record !== null) await this.#nextRecord();
    await this.#nextLetter();
  }

  async #nextLetter(): Promise<void> {
    const { value, done } = await this.#letters.next();
    this.#letter = done ? null : value;
    if (this.#letter !== null) this.see(this.#letter[0]);
  }

  async #nextRecord(): Promise<void> {
    const { value, done } = await this.#records.next();
    this.#record = done ? null : value;
    if (this.#record !== null) this.see(this.#record[0]);
  }
}

/** Records without a row: keys that outlive their acked item, by their end; all others are deleted. */
async function recallRetainedKeys(
  store: QueueStore,
  records: ReadonlyMap<QueueItemId, ItemRecord>,
  keys: Keys,
  nowMs: number,
): Promise<void> {
  const retained: KeyRecord[] = [];
  const outdated: QueueItemId[] = [];
  for (const [id, record] of records) {
    const key = keyRecord(id, record);
    if (key !== null && key.untilMs > nowMs) retained.push(key);
    else outdated.push(id);
  }
  for (const key of retained.sort((one, other) => one.untilMs - other.untilMs)) keys.recall(key);
  for (let at = 0; at < outdated.length; at += RECORDS_PER_DELETE) {
    await store.removeRecords(outdated.slice(at, at + RECORDS_PER_DELETE));
  }
}

function keyRecord(id: QueueItemId, record: ItemRecord | null): KeyRecord | null {
  if (record?.key === undefined) return null;
  return { key: record.key, id, digest: record.digest ?? '', untilMs: record.untilMs ?? 0, storing: null };
}
