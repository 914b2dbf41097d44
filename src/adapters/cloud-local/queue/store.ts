/**
 * What a queue keeps in its Storage, and the one place where it is read and written.
 *
 *   cloudlocal_queue[.<name>]       [ulid] → the payload itself
 *   cloudlocal_queue_meta[.<name>]  [ulid] → JSON: attempts, notBeforeMs, key, digest, untilMs; no row while all are unset
 *   cloudlocal_queue_dead[.<name>]  [ulid] → the payload of an item given up; its attempts and key stay in the meta row
 *
 * Each method is one transaction. Those that only count are committed at `normal`: a power cut may cost a count, never
 * an item. Every call settles by the end of {@link QueueStore.close}, whatever the Storage does.
 */
import { createHash } from 'node:crypto';
import { FatalError, RecoverableError } from '../../../contracts/errors.js';
import { QueueItemId, show } from '../../../contracts/ids.js';
import type { Storage, StorageDurability, StorageKey, StorageTxn } from '../../../contracts/storage.js';
import type { Item } from './items.js';

/** What is stored beside a payload. Absent fields are unset. */
export interface ItemRecord {
  readonly attempts?: number;
  readonly notBeforeMs?: number;
  readonly key?: string;
  readonly digest?: string;
  /** Set once the item was acked: the row stays for its key until then, ms since 1970. */
  readonly untilMs?: number;
}

export interface StoredRow {
  readonly id: QueueItemId;
  readonly payload: Uint8Array;
}

/** Rows read between two turns of the event loop while the queue opens. */
const ROWS_PER_TURN = 500;

export class QueueStore {
  readonly #storage: Storage;
  readonly #lock: AsyncDisposable;
  readonly #items: string;
  readonly #records: string;
  readonly #dead: string;
  /** Calls that the Storage has not answered, each with what rejects its caller. */
  readonly #underWay = new Map<Promise<unknown>, (reason: Error) => void>();
  #refusal: FatalError | null = null;

  private constructor(storage: Storage, lock: AsyncDisposable, suffix: string) {
    this.#storage = storage;
    this.#lock = lock;
    this.#items = `cloudlocal_queue${suffix}`;
    this.#records = `cloudlocal_queue_meta${suffix}`;
    this.#dead = `cloudlocal_queue_dead${suffix}`;
  }

  /**
   * Takes the queue's lock, so that no second process and no second instance works on the same rows.
   * @throws FatalError ConfigInvalid, code `LOCKED`, naming the holder and its process id
   */
  static async open(storage: Storage, name: string | null): Promise<QueueStore> {
    const lock = await storage.lock(lockName(name), { holder: name === null ? 'queue' : `queue ${name}` });
    return new QueueStore(storage, lock, name === null ? '' : `.${name}`);
  }

  get durability(): StorageDurability {
    return this.#storage.durability;
  }

  /** All items' rows, oldest first. */
  rows(): AsyncIterable<StoredRow> {
    return this.#scan(this.#items);
  }

  /** All dead letters' rows, oldest first. */
  deadRows(): AsyncIterable<StoredRow> {
    return this.#scan(this.#dead);
  }

  async records(): Promise<Map<QueueItemId, ItemRecord>> {
    const records = new Map<QueueItemId, ItemRecord>();
    for await (const { id, payload } of this.#scan(this.#records)) records.set(id, decodeRecord(id, payload));
    return records;
  }

  /** New items, all or none; and away with the records of keys whose time is over. */
  append(items: readonly Item[], outdatedKeys: readonly QueueItemId[]): Promise<void> {
    return this.#commit((txn) => {
      for (const item of items) {
        txn.put(key(this.#items, item.id), item.payload);
        this.#putRecord(txn, item, recordOf(item));
      }
      for (const id of outdatedKeys) txn.delete(key(this.#records, id));
    });
  }

  /** Acked or purged items are gone; a key with `untilMs` set outlives its item. */
  remove(items: readonly Item[]): Promise<void> {
    return this.#commit((txn) => {
      for (const item of items) {
        txn.delete(key(this.#items, item.id));
        if (item.mayBeDead) txn.delete(key(this.#dead, item.id));
        if (item.key !== null && item.key.untilMs > 0) {
          this.#putRecord(txn, item, { ...keyOf(item), untilMs: item.key.untilMs });
        } else if (item.hasRecord) {
          txn.delete(key(this.#records, item.id));
        }
      }
    });
  }

  /** Counts one more hand-over of each item in `counted`, and makes those in `spent` dead letters. */
  handOver(counted: readonly Item[], spent: readonly Item[]): Promise<void> {
    return this.#commit((txn) => {
      for (const item of counted) this.#putRecord(txn, item, { ...keyOf(item), attempts: item.attempts + 1 });
      for (const item of spent) {
        txn.delete(key(this.#items, item.id));
        txn.put(key(this.#dead, item.id), item.payload);
        this.#putRecord(txn, item, { ...keyOf(item), attempts: item.attempts });
      }
    }, 'normal');
  }

  delay(item: Item, notBeforeMs: number): Promise<void> {
    return this.#commit((txn) => this.#putRecord(txn, item, { ...recordOf(item), notBeforeMs }), 'normal');
  }

  /** A dead letter is an item again, its count at 0. */
  requeue(item: Item): Promise<void> {
    return this.#commit((txn) => {
      txn.delete(key(this.#dead, item.id));
      txn.delete(key(this.#records, item.id));
      txn.put(key(this.#items, item.id), item.payload);
      this.#putRecord(txn, item, keyOf(item));
    });
  }

  /** The items' rows, too: a requeue that was taken for failed may have made them. */
  removeDead(ids: readonly QueueItemId[]): Promise<void> {
    return this.#commit((txn) => {
      for (const id of ids) {
        txn.delete(key(this.#items, id));
        txn.delete(key(this.#dead, id));
        txn.delete(key(this.#records, id));
      }
    });
  }

  removeRecords(ids: readonly QueueItemId[]): Promise<void> {
    return this.#commit((txn) => {
      for (const id of ids) txn.delete(key(this.#records, id));
    });
  }

  /** Payloads of dead letters; from the items' rows where a requeue was taken for failed, and had moved them there. */
  async readDead(ids: readonly QueueItemId[]): Promise<(Uint8Array | null)[]> {
    const keys = [this.#dead, this.#items].flatMap((namespace) => ids.map((id) => key(namespace, id)));
    const payloads = await this.#answered(() => this.#storage.getMany(keys));
    return ids.map((_, i) => payloads[i] ?? payloads[i + ids.length] ?? null);
  }

  /**
   * Waits for the calls under way, then frees the lock. After `timeoutMs` it stops waiting: it rejects what is still
   * under way, and leaves the lock to be freed once the Storage has answered, because another owner must not see the
   * last writes of this one come after its own first read.
   */
  async close(timeoutMs: number): Promise<void> {
    const released = this.#idle().then(() => this.#lock[Symbol.asyncDispose]());
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs);
    });
    try {
      await Promise.race([released, timeout]);
    } finally {
      clearTimeout(timer);
      this.#refusal = new FatalError('Internal', 'the queue was used after close()', { code: 'CLOSED' });
      for (const reject of this.#underWay.values()) reject(unanswered(timeoutMs));
    }
  }

  async #idle(): Promise<void> {
    while (this.#underWay.size > 0) {
      await Promise.allSettled(this.#underWay.keys());
      await nextTurn(); // what has been answered may have a next step
    }
  }

  #commit(fill: (txn: StorageTxn) => void, durability?: StorageDurability): Promise<void> {
    return this.#answered(async () => {
      const txn = this.#storage.begin();
      fill(txn);
      await txn.commit(durability === undefined ? {} : { durability });
    });
  }

  #answered<T>(ask: () => Promise<T>): Promise<T> {
    if (this.#refusal !== null) return Promise.reject(this.#refusal);
    return new Promise((resolve, reject) => {
      const work = ask();
      this.#underWay.set(work, reject);
      work.finally(() => this.#underWay.delete(work)).then(resolve, reject);
    });
  }

  #putRecord(txn: StorageTxn, item: Item, record: ItemRecord): void {
    if (Object.keys(record).length === 0) return;
    item.hasRecord = true;
    txn.put(key(this.#records, item.id), Buffer.from(JSON.stringify(record)));
  }

  async *#scan(namespace: string): AsyncGenerator<StoredRow> {
    let rows = 0;
    for await (const { key: at, value } of this.#storage.scan({ prefix: { namespace, path: [] } })) {
      const [id] = at.path;
      if (at.path.length !== 1 || !QueueItemId.is(id)) {
        throw new FatalError(
          'Internal',
          `storage namespace ${namespace} holds the key ${show(at.path.join('/'))}, which is no queue item id; move that row elsewhere, or give the queue another name`,
          { code: 'STORAGE_FORMAT', context: { namespace, path: at.path } },
        );
      }
      yield { id, payload: value };
      rows += 1;
      if (rows % ROWS_PER_TURN === 0) await nextTurn();
    }
  }
}

/** Lock names are as long as queue names, so a long queue name stands there as its hash; no queue name has dots. */
function lockName(name: string | null): string {
  if (name === null) return 'queue';
  if (name.length <= 58) return `queue.${name}`;
  return `queue..${createHash('sha256').update(name).digest('hex').slice(0, 40)}`;
}

function key(namespace: string, id: QueueItemId): StorageKey {
  return { namespace, path: [id] };
}

function recordOf(item: Item): ItemRecord {
  return {
    ...keyOf(item),
    ...(item.attempts > 0 && { attempts: item.attempts }),
    ...(item.notBeforeMs > 0 && { notBeforeMs: item.notBeforeMs }),
  };
}

function keyOf(item: Item): ItemRecord {
  return item.key === null ? {} : { key: item.key.key, digest: item.key.digest };
}

function decodeRecord(id: QueueItemId, value: Uint8Array): ItemRecord {
  try {
    const record: unknown = JSON.parse(Buffer.from(value).toString());
    if (typeof record !== 'object' || record === null) throw new TypeError('not an object');
    return record;
  } catch (cause) {
    throw new FatalError('Internal', `the stored record of queue item ${id} is no JSON object; delete that row`, {
      code: 'STORAGE_FORMAT',
      context: { id },
      cause,
    });
  }
}

function unanswered(timeoutMs: number): RecoverableError {
  return new RecoverableError(
    'Transient',
    `the storage did not answer within ${timeoutMs} ms of close(); whether the call took effect shows when the queue is opened again`,
    { code: 'CLOSE_TIMEOUT', retry: { kind: 'never' }, context: { timeoutMs } },
  );
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
