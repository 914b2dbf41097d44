/**
 * What a queue keeps in its Storage, and the one place where it is read and written.
 *
 *   cloudlocal_queue[.<name>]       [ulid] → the payload itself
 *   cloudlocal_queue_meta[.<name>]  [ulid] → JSON: attempts, notBeforeMs, delayMs, key, digest, untilMs; no row while all are unset
 *   cloudlocal_queue_dead[.<name>]  [ulid] → the payload of an item given up; its attempts and key stay in the meta row
 *   cloudlocal_queue_ids[.<name>]   ["mark"] → a ulid; no id that the queue ever answered is larger
 *
 * The mark keeps ids rising where the queue was emptied and the clock set back before it is opened again. It is written
 * along with new items and some ms ahead of them, so that few of them have to write it.
 *
 * What a method writes is in one transaction, with what others write at the time (queue/commits.ts). Those that only
 * count ask for `normal`: a power cut may cost a count, never an item. Every call settles by the end of {@link QueueStore.close}, whatever the Storage does.
 */
import { createHash } from 'node:crypto';
import * as check from '../../../contracts/arguments.js';
import type { Clock } from '../../../contracts/clock.js';
import { FatalError, isCoreError } from '../../../contracts/errors.js';
import { QueueItemId, show } from '../../../contracts/ids.js';
import type { Storage, StorageDurability, StorageEntry, StorageKey, StorageTxn } from '../../../contracts/storage.js';
import { Commits, nextTurn, unanswered } from './commits.js';
import type { DeadLetter } from './dead-letters.js';
import { idTimeMs, lastIdOf } from './ids.js';
import type { Item } from './items.js';

/** What is stored beside a payload. Absent fields are unset. */
export interface ItemRecord {
  readonly attempts?: number;
  readonly notBeforeMs?: number;
  /** How long that was away when it was stored: no longer is it away when the clock has been set back since. */
  readonly delayMs?: number;
  readonly key?: string;
  readonly digest?: string;
  /** Set once the item was acked: the row stays for its key until then, ms since 1970. */
  readonly untilMs?: number;
}

export interface QueueStoreOptions {
  /** `null` for the queue that has no name. */
  readonly name: string | null;
  readonly clock: Clock;
  /** Bytes of one transaction, unless a single call brings more. */
  readonly maxUnflushedBytes: number;
}

/** Called for each row, in the order of the ids, and waited for where it has to be. False ends the reading. */
export type Visit = (id: QueueItemId, payload: Uint8Array) => boolean | Promise<boolean>;

/** Bytes of dead letters after which no more are read at once. */
const LETTER_BYTES_PER_READ = 8 * 2 ** 20;

/** Rows read between two turns of the event loop while the queue opens. */
const ROWS_PER_TURN = 500;

/** Counts stored in one transaction while the queue closes. */
const COUNTS_PER_TXN = 1_000;

/** How far ahead of the clock the mark is set, ms: so much later than the clock says may the next opening's ids begin. */
const MARK_AHEAD_MS = 100;

export class QueueStore {
  readonly #storage: Storage;
  readonly #lock: AsyncDisposable;
  readonly #items: string;
  readonly #records: string;
  readonly #dead: string;
  readonly #ids: string;
  readonly #commits: Commits;
  readonly #clock: Clock;
  /** As it is stored, or is about to be by the transaction under way. Empty: whatever is stored, it is to be set anew. */
  #mark = '';

  private constructor(storage: Storage, lock: AsyncDisposable, { name, clock, maxUnflushedBytes }: QueueStoreOptions) {
    const suffix = name === null ? '' : `.${name}`;
    this.#storage = storage;
    this.#lock = lock;
    this.#clock = clock;
    this.#commits = new Commits(storage, maxUnflushedBytes, () => {
      this.#mark = '';
    });
    this.#items = `cloudlocal_queue${suffix}`;
    this.#records = `cloudlocal_queue_meta${suffix}`;
    this.#dead = `cloudlocal_queue_dead${suffix}`;
    this.#ids = `cloudlocal_queue_ids${suffix}`;
  }

  /**
   * Takes the queue's lock, so that no second process and no second instance works on the same rows.
   * @throws FatalError ConfigInvalid, code `LOCKED`, naming the holder and its process id
   */
  static async open(storage: Storage, options: QueueStoreOptions): Promise<QueueStore> {
    const { name } = options;
    if (typeof storage?.lock !== 'function') throw check.invalid('storage', 'a Storage', storage);
    const holder = name === null ? 'queue' : `queue ${name}`;
    const lock = await storage.lock(lockName(name), { holder }).catch((error) => Promise.reject(withWayOut(error)));
    return new QueueStore(storage, lock, options);
  }

  /**
   * Reads the mark; `null` where none is set.
   * @throws FatalError Internal, code `STORAGE_FORMAT`: it is no id
   */
  async mark(): Promise<QueueItemId | null> {
    const value = await this.#storage.get(this.#markKey);
    if (value === null) return null;
    const mark = Buffer.from(value).toString();
    if (QueueItemId.is(mark)) return mark;
    const message = `storage namespace ${this.#ids} holds ${show(mark)}, which is no queue item id; delete that row`;
    throw new FatalError('Internal', message, { code: 'STORAGE_FORMAT', context: { namespace: this.#ids } });
  }

  get durability(): StorageDurability {
    return this.#storage.durability;
  }

  /** All items' rows. */
  eachItem(visit: Visit): Promise<void> {
    return this.#scan(this.#items, visit);
  }

  /** All dead letters' rows, to be read beside others. */
  dead(): AsyncGenerator<[QueueItemId, Uint8Array]> {
    return this.#rows(this.#dead, null);
  }

  /** All records, to be read beside others. */
  async *records(): AsyncGenerator<[QueueItemId, ItemRecord]> {
    for await (const [id, value] of this.#rows(this.#records, null)) yield [id, decodeRecord(id, value)];
  }

  /** The items' rows after an id, up to `limit` of them. */
  page(after: QueueItemId | null, limit: number, visit: Visit): Promise<void> {
    return this.#commits.ask(() => this.#scan(this.#items, visit, after, limit));
  }

  /**
   * A new item that nothing is to be known of but its payload. The outcome is told before any later call has one.
   * @param outdatedKeys records of keys whose time is over: they are deleted along
   */
  appendOne(
    id: QueueItemId,
    payload: Uint8Array,
    outdatedKeys: readonly QueueItemId[],
    stored: () => void,
    failed: (error: unknown) => void,
  ): void {
    const fill = (txn: StorageTxn) => {
      if (id > this.#mark) this.#setMark(txn, id);
      txn.put(key(this.#items, id), payload);
      for (const outdated of outdatedKeys) txn.delete(key(this.#records, outdated));
    };
    this.#commits.enter({ bytes: payload.length, atLeast: 'full', fill, stored, failed });
  }

  /** New items, all or none. As {@link appendOne}. */
  append(
    items: readonly Item[],
    outdatedKeys: readonly QueueItemId[],
    stored: () => void,
    failed: (error: unknown) => void,
  ): void {
    const fill = (txn: StorageTxn) => {
      for (const item of items) {
        if (item.id > this.#mark) this.#setMark(txn, item.id);
        txn.put(key(this.#items, item.id), payloadOf(item));
        this.#putRecord(txn, item, recordOf(item, item.dueAtMs - this.#clock.monotonicMs()));
      }
      for (const outdated of outdatedKeys) txn.delete(key(this.#records, outdated));
    };
    this.#commits.enter({ bytes: bytesOf(items), atLeast: 'full', fill, stored, failed });
  }

  /** Acked or purged items are gone; a key with `untilMs` set outlives its item. */
  remove(items: readonly Item[]): Promise<void> {
    return this.#commits.write((txn) => {
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
    return this.#commits.write(
      (txn) => {
        for (const item of counted) this.#putRecord(txn, item, { ...keyOf(item), attempts: item.attempts + 1 });
        for (const item of spent) {
          txn.delete(key(this.#items, item.id));
          txn.put(key(this.#dead, item.id), payloadOf(item));
          this.#putRecord(txn, item, { ...keyOf(item), attempts: item.attempts });
        }
      },
      { bytes: bytesOf(spent), atLeast: 'normal' },
    );
  }

  /** Hand-overs that were not counted when they were made. */
  async keepCounts(items: readonly Item[]): Promise<void> {
    for (let at = 0; at < items.length; at += COUNTS_PER_TXN) {
      const fill = (txn: StorageTxn) => {
        for (const item of items.slice(at, at + COUNTS_PER_TXN)) {
          this.#putRecord(txn, item, { ...keyOf(item), attempts: item.attempts });
        }
      };
      await this.#commits.write(fill, { atLeast: 'normal' });
    }
  }

  delay(item: Item, notBeforeMs: number, delayMs: number): Promise<void> {
    return this.#commits.write(
      (txn) => this.#putRecord(txn, item, { ...keyOf(item), attempts: item.attempts, notBeforeMs, delayMs }),
      { atLeast: 'normal' },
    );
  }

  /** A dead letter is an item again, its count at 0. */
  requeue(item: Item): Promise<void> {
    return this.#commits.write((txn) => {
      txn.delete(key(this.#dead, item.id));
      txn.delete(key(this.#records, item.id));
      txn.put(key(this.#items, item.id), payloadOf(item));
      this.#putRecord(txn, item, keyOf(item));
    });
  }

  /** The items' rows, too: a requeue that was taken for failed may have made them. */
  removeDead(ids: readonly QueueItemId[]): Promise<void> {
    return this.#commits.write((txn) => {
      for (const id of ids) {
        txn.delete(key(this.#items, id));
        txn.delete(key(this.#dead, id));
        txn.delete(key(this.#records, id));
      }
    });
  }

  removeRecords(ids: readonly QueueItemId[]): Promise<void> {
    return this.#commits.write((txn) => {
      for (const id of ids) txn.delete(key(this.#records, id));
    });
  }

  /** Payloads of items, `null` for those that are not there; also of one that a write taken for failed has moved. */
  readItems(items: readonly Item[]): Promise<(Uint8Array | null)[]> {
    const namespaces = items.some(({ mayBeDead }) => mayBeDead) ? [this.#items, this.#dead] : [this.#items];
    return this.#readFirst(
      namespaces,
      items.map(({ id }) => id),
    );
  }

  /** Whether an item's row is there. */
  async holds(id: QueueItemId): Promise<boolean> {
    return (await this.#commits.ask(() => this.#storage.get(key(this.#items, id)))) !== null;
  }

  /** Whether a dead letter's row is there. */
  async holdsDead(id: QueueItemId): Promise<boolean> {
    return (await this.#commits.ask(() => this.#storage.get(key(this.#dead, id)))) !== null;
  }

  /** @param amongItems whether its row may also be an item's: a requeue was taken for failed */
  async letter(id: QueueItemId, amongItems: boolean): Promise<DeadLetter | null> {
    const [payload] = await this.#readFirst(amongItems ? [this.#dead, this.#items] : [this.#dead], [id]);
    return payload ? ((await this.#letters([[id, payload]]))[0] ?? null) : null;
  }

  /** Dead letters after an id, oldest first: some, none when there are no more. */
  async letters(after: QueueItemId | null, limit: number): Promise<DeadLetter[]> {
    return this.#commits.ask(async () => {
      const rows: [QueueItemId, Uint8Array][] = [];
      let bytes = 0;
      for await (const row of this.#rows(this.#dead, after, limit)) {
        rows.push(row);
        bytes += row[1].length;
        if (bytes > LETTER_BYTES_PER_READ) break;
      }
      return this.#letters(rows);
    });
  }

  /**
   * Waits for the calls under way, makes the `last` ones, then frees the lock. That the last ones fail is no failure of
   * its own: they store what a crash would lose. After `timeoutMs` it stops waiting: it rejects what is still
   * under way, and leaves the lock to be freed once the Storage has answered, because another owner must not see the
   * last writes of this one come after its own first read.
   */
  async close(timeoutMs: number, last: () => Promise<void>): Promise<void> {
    const released = this.#commits
      .idle()
      .then(last)
      .catch(() => {})
      .then(async () => {
        await this.#commits.idle();
        this.#commits.refuse(unanswered(timeoutMs));
        await this.#lock[Symbol.asyncDispose]();
      });
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs);
    });
    try {
      await Promise.race([released, timeout]);
    } finally {
      clearTimeout(timer);
      this.#commits.refuse(unanswered(timeoutMs));
    }
  }

  get #markKey(): StorageKey {
    return { namespace: this.#ids, path: ['mark'] };
  }

  /** In the transaction that stores the id. Where that fails, the next one sets it anew. */
  #setMark(txn: StorageTxn, id: QueueItemId): void {
    // Where ids are counted up because the clock was set back, no further: restarts would drive them ever further ahead.
    this.#mark = lastIdOf(Math.max(idTimeMs(id), this.#clock.wallMs() + MARK_AHEAD_MS));
    txn.put(this.#markKey, Buffer.from(this.#mark));
  }

  #putRecord(txn: StorageTxn, item: Item, record: ItemRecord): void {
    if (Object.keys(record).length === 0) return;
    item.hasRecord = true;
    txn.put(key(this.#records, item.id), Buffer.from(JSON.stringify(record)));
  }

  /** The rows of ids in the first of some namespaces that has each, `null` where none has. */
  async #readFirst(namespaces: readonly string[], ids: readonly QueueItemId[]): Promise<(Uint8Array | null)[]> {
    const keys = namespaces.flatMap((namespace) => ids.map((id) => key(namespace, id)));
    const found = await this.#commits.ask(() => this.#storage.getMany(keys));
    return ids.map((_, i) => namespaces.map((_, n) => found[n * ids.length + i] ?? null).find(Boolean) ?? null);
  }

  async #letters(rows: readonly [QueueItemId, Uint8Array][]): Promise<DeadLetter[]> {
    const records = await this.#storage.getMany(rows.map(([id]) => key(this.#records, id)));
    return rows.map(([id, payload], i) => {
      const value = records[i];
      const { attempts = 0, key = null } = value ? decodeRecord(id, value) : {};
      return { id, payload, attempts, key };
    });
  }

  async #scan(namespace: string, visit: Visit, after: QueueItemId | null = null, limit?: number): Promise<void> {
    let rows = 0;
    for await (const { key: at, value } of this.#entries(namespace, after, limit)) {
      const visited = visit(idOf(namespace, at), value);
      if (visited === false || (visited !== true && !(await visited))) return;
      rows += 1;
      if (rows % ROWS_PER_TURN === 0) await nextTurn();
    }
  }

  async *#rows(
    namespace: string,
    after: QueueItemId | null,
    limit?: number,
  ): AsyncGenerator<[QueueItemId, Uint8Array]> {
    for await (const { key: at, value } of this.#entries(namespace, after, limit)) yield [idOf(namespace, at), value];
  }

  #entries(namespace: string, after: QueueItemId | null, limit?: number): AsyncIterable<StorageEntry> {
    return this.#storage.scan({
      prefix: { namespace, path: [] },
      ...(after !== null && { after: key(namespace, after) }),
      ...(limit !== undefined && { limit }),
    });
  }
}

/** @throws FatalError Internal, code `STORAGE_FORMAT`: the row is not one of the queue's own */
function idOf(namespace: string, { path }: StorageKey): QueueItemId {
  const [id] = path;
  if (path.length === 1 && QueueItemId.is(id)) return id;
  throw new FatalError(
    'Internal',
    `storage namespace ${namespace} holds the key ${show(path.join('/'))}, which is no queue item id; move that row elsewhere, or give the queue another name`,
    { code: 'STORAGE_FORMAT', context: { namespace, path } },
  );
}

/** Who is locked out is told which adapter is made for several processes. */
function withWayOut(error: unknown): unknown {
  if (!isCoreError(error) || error.code !== 'LOCKED') return error;
  return new FatalError(
    'ConfigInvalid',
    `${error.message}; for a queue that several processes share, bind the adapter local.sqlite-queue`,
    { code: 'LOCKED', context: error.context, cause: error },
  );
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

/** Of a new item, which is due in `delayMs` where it is delayed. */
function recordOf(item: Item, delayMs: number): ItemRecord {
  const { notBeforeMs } = item;
  return { ...keyOf(item), ...(notBeforeMs > 0 && { notBeforeMs, delayMs: Math.max(0, Math.ceil(delayMs)) }) };
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

/** What is written again has been read again, or never left memory. */
function payloadOf({ id, payload }: Item): Uint8Array {
  if (payload !== null) return payload;
  throw new FatalError('Internal', `the payload of queue item ${id} is not in memory`);
}

function bytesOf(items: readonly Item[]): number {
  return items.reduce((sum, { payloadBytes }) => sum + payloadBytes, 0);
}
