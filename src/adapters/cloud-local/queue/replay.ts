/** Replay: what an opening queue finds in its storage, read row by row. */
import type { Clock } from '../../../contracts/clock.js';
import type { QueueItemId } from '../../../contracts/ids.js';
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
  const records = await store.records();
  let last = null as QueueItemId | null;
  const see = (id: QueueItemId) => {
    if (last === null || id > last) last = id;
  };
  for (const id of records.keys()) see(id);
  /** Each record is used once; those left over belong to no row. */
  const use = (id: QueueItemId): ItemRecord | null => {
    see(id);
    const record = records.get(id) ?? null;
    records.delete(id);
    return record;
  };

  await store.eachDead((id, payload) => {
    const record = use(id);
    const key = keyRecord(id, record);
    if (key !== null) keys.recall(key);
    dead.add({ id, attempts: record?.attempts ?? 0, payloadBytes: payload.length, key });
    return true;
  });
  await store.eachItem((id, payload) => {
    const record = records.size === 0 ? null : use(id);
    last = last === null || id > last ? id : last;
    if (record === null) {
      enter(id, payload, null);
      return true;
    }
    const item = new Item(id, payload);
    item.replayed = true;
    item.attempts = record.attempts ?? 0;
    item.notBeforeMs = record.notBeforeMs ?? 0;
    item.hasRecord = true;
    item.key = keyRecord(id, record);
    if (item.key !== null) keys.recall(item.key);
    enter(id, payload, item);
    return true;
  });
  await recallRetainedKeys(store, records, keys, clock.wallMs());
  return last;
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
