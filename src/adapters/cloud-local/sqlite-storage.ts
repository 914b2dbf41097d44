/**
 * `local.sqlite`: Storage in one SQLite file, through the `sqlite3` package.
 *
 * One connection writes, and only the flusher uses it (storage/flusher.ts); a second one reads, so that reads see
 * committed data and wait for no flush. The journal is a write-ahead log. Several processes may open one file: a flush
 * waits for another's. Locks are files of their own beside it (storage/file-lock.ts).
 *
 * Durability: `full` syncs the log at each flush; `normal` leaves that to the operating system; `off` syncs nothing. A
 * commit that asks for less than the store was opened with gets what the store has.
 */
import { realpath } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import * as check from '../../contracts/arguments.js';
import { checked } from '../../contracts/capability.js';
import { FatalError } from '../../contracts/errors.js';
import {
  type ScanOptions,
  Storage,
  type StorageChange,
  type StorageDurability,
  type StorageEntry,
  type StorageKey,
  type StoragePrefix,
  type StorageTxn,
} from '../../contracts/storage.js';
import { changesOf, collectBatch } from './storage/batch.js';
import { requireEngine } from './storage/engine.js';
import { type FileLock, lockFile } from './storage/file-lock.js';
import { Flusher } from './storage/flusher.js';
import { makeFolder } from './storage/folder.js';
import { decodePath, encodePath, keyText, rangeOf, successor } from './storage/keys.js';
import { checkOptions, type SqliteStorageOptions, SYNCHRONOUS } from './storage/options.js';
import { prepareFile } from './storage/schema.js';
import { openSqlite, type Row, type SqliteConnection, type SqlValue } from './storage/sqlite-port.js';
import { Watchers } from './storage/watch.js';

export type { SqliteStorageOptions } from './storage/options.js';

/** A page of a scan, whichever comes first. */
const PAGE_ENTRIES = 500;
const PAGE_BYTES = 4 * 1024 * 1024;
/** Keys of one SELECT; SQLite takes 32,766 variables, two a key. */
const KEYS_PER_SELECT = 500;

export class SqliteStorage implements Storage {
  /** Absolute path of the database. */
  readonly path: string;
  readonly durability: StorageDurability;
  readonly #writer: SqliteConnection;
  readonly #reader: SqliteConnection;
  readonly #flusher: Flusher;
  readonly #watchers = new Watchers();
  /** Held, or being taken. */
  readonly #locks = new Set<Promise<FileLock>>();
  readonly #namespaces = new Map<string, number>();
  /** The reader's calls, one after the other. */
  #reading: Promise<unknown> = Promise.resolve();
  #closed = false;

  private constructor(path: string, durability: StorageDurability, writer: SqliteConnection, reader: SqliteConnection) {
    this.path = path;
    this.durability = durability;
    this.#writer = writer;
    this.#reader = reader;
    this.#flusher = new Flusher(writer, (writes) => this.#watchers.publish(changesOf(writes)));
  }

  /**
   * Opens the file, made with its folders when it is not there.
   * @throws FatalError ConfigInvalid: it cannot be opened, or the engine is too old; code `STORAGE_FORMAT`: it is no
   * database, another program's, or of a newer version, and was left untouched. FatalError SchemaViolation: an option is
   * not what it should be. RecoverableError Transient: disk full, too many open files or the like.
   */
  static async open(path: string, options: SqliteStorageOptions = {}): Promise<SqliteStorage> {
    const { durability, busyTimeoutMs } = checkOptions(options);
    const file = resolve(check.text('path', path, 1, 4_096));
    await makeFolder(dirname(file));
    const opened: SqliteConnection[] = [];
    try {
      const writer = await openSqlite(file);
      opened.push(writer);
      await requireEngine(writer);
      await writer.exec(`PRAGMA busy_timeout = ${busyTimeoutMs}`);
      await prepareFile(writer, file, durability);
      await setPragmas(writer, file, durability);
      const reader = await openSqlite(file);
      opened.push(reader);
      await reader.exec(`PRAGMA busy_timeout = ${busyTimeoutMs}; PRAGMA query_only = ON`);
      return checked(Storage, new SqliteStorage(file, durability, writer, reader), { adapter: 'local.sqlite' });
    } catch (error) {
      for (const connection of opened) await connection.close();
      throw error;
    }
  }

  /** How many flushes the commits so far took. */
  get flushes(): number {
    return this.#flusher.flushes;
  }

  async get(key: StorageKey): Promise<Uint8Array | null> {
    const [value = null] = await this.getMany([key]);
    return value;
  }

  async getMany(keys: readonly StorageKey[]): Promise<(Uint8Array | null)[]> {
    return this.#read(async () => {
      const found = new Map<string, Uint8Array>();
      const many = keys.length > KEYS_PER_SELECT || keys.some(({ namespace }) => namespace !== keys[0]?.namespace);
      // More than one statement: of one moment only inside a transaction.
      if (many) await this.#reader.exec('BEGIN');
      try {
        for (let at = 0; at < keys.length; at += KEYS_PER_SELECT) {
          await this.#select(keys.slice(at, at + KEYS_PER_SELECT), found);
        }
      } finally {
        if (many) await this.#reader.exec('COMMIT');
      }
      return keys.map((key) => {
        const value = found.get(keyText(key));
        // One key asked for twice has two buffers.
        return value === undefined ? null : keys.length === 1 ? value : Uint8Array.from(value);
      });
    });
  }

  async *scan({ prefix, limit = Number.POSITIVE_INFINITY, after }: ScanOptions): AsyncIterable<StorageEntry> {
    const { namespace } = prefix;
    const range = rangeOf(prefix);
    let from = range.start;
    if (after !== undefined) {
      const next = successor(encodePath(after.path));
      if (Buffer.compare(next, from) > 0) from = next;
    }
    for (let left = limit; left > 0; ) {
      const page = await this.#page(namespace, from, range.end, Math.min(left, PAGE_ENTRIES));
      const last = page.at(-1);
      if (last === undefined) return;
      for (const { key, value } of page) {
        yield { key: { namespace, path: decodePath(key as Uint8Array) }, value: Uint8Array.from(value as Uint8Array) };
      }
      left -= page.length;
      from = successor(last.key as Buffer);
    }
  }

  begin(): StorageTxn {
    return collectBatch(async (batch) => {
      this.#refuseClosed();
      return this.#flusher.commit(batch);
    });
  }

  watch(prefix: StoragePrefix, { signal }: { signal?: AbortSignal } = {}): AsyncIterable<StorageChange> {
    return this.#watchers.add(prefix, signal);
  }

  async lock(name: string, { holder }: { holder: string }): Promise<AsyncDisposable> {
    // By the real path: a link to the database is the same database, and its locks are the same locks.
    const taking = realpath(this.path).then((path) => lockFile(path, name, holder));
    this.#locks.add(taking);
    const release = async () => {
      await (await taking).release();
      this.#locks.delete(taking);
    };
    try {
      await taking;
    } catch (error) {
      this.#locks.delete(taking);
      throw error;
    }
    if (this.#closed) {
      await release();
      this.#refuseClosed();
    }
    return { [Symbol.asyncDispose]: release };
  }

  async ping(): Promise<void> {
    await this.#read(() => this.#reader.all('SELECT 1 FROM entry LIMIT 1'));
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#flusher.idle();
    this.#watchers.endAll();
    await this.#reading;
    // Those still being taken, too: their callers are refused.
    for (const lock of this.#locks) {
      await lock.then(
        (held) => held.release(),
        () => {},
      );
    }
    await this.#reader.close();
    // The last connection to close writes the log back into the file.
    await this.#writer.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** One call of the reader at a time: the package would block a thread of the pool for each that waits. */
  #read<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#reading.then(() => {
      this.#refuseClosed();
      return work();
    });
    this.#reading = result.catch(() => {});
    return result;
  }

  async #select(keys: readonly StorageKey[], found: Map<string, Uint8Array>): Promise<void> {
    const byNamespace = new Map<string, StorageKey[]>();
    for (const key of keys) byNamespace.set(key.namespace, [...(byNamespace.get(key.namespace) ?? []), key]);
    for (const [namespace, own] of byNamespace) {
      const id = await this.#namespaceId(namespace);
      if (id === null) continue;
      const marks = Array(own.length).fill('?').join();
      const rows = await this.#reader.all(
        `SELECT key, value FROM entry WHERE namespace = ? AND key IN (${marks})`,
        id,
        ...own.map(({ path }) => encodePath(path)),
      );
      for (const { key, value } of rows) {
        found.set(keyText({ namespace, path: decodePath(key as Uint8Array) }), value as Uint8Array);
      }
    }
  }

  /** Sizes first, so that a page of large values stays within its bytes. */
  #page(namespace: string, from: Buffer, end: Buffer | null, entriesMax: number): Promise<Row[]> {
    return this.#read(async () => {
      const id = await this.#namespaceId(namespace);
      if (id === null) return [];
      const range: SqlValue[] = end === null ? [id, from] : [id, from, end];
      const where = `namespace = ? AND key >= ? ${end === null ? '' : 'AND key < ?'} ORDER BY key LIMIT ?`;
      const sizes = await this.#reader.all(
        `SELECT length(value) AS size FROM entry WHERE ${where}`,
        ...range,
        entriesMax,
      );
      let bytes = 0;
      const fits = sizes.findIndex(({ size }) => {
        bytes += Number(size);
        return bytes > PAGE_BYTES;
      });
      const count = fits === -1 ? sizes.length : Math.max(1, fits);
      return this.#reader.all(`SELECT key, value FROM entry WHERE ${where}`, ...range, count);
    });
  }

  /** Numbers never change, so they are kept; a namespace that nobody wrote to has none. */
  async #namespaceId(name: string): Promise<number | null> {
    const known = this.#namespaces.get(name);
    if (known !== undefined) return known;
    const [row] = await this.#reader.all('SELECT id FROM namespace WHERE name = ?', name);
    if (row === undefined) return null;
    this.#namespaces.set(name, Number(row.id));
    return Number(row.id);
  }

  #refuseClosed(): void {
    if (this.#closed)
      throw new FatalError('Internal', 'the storage (adapter local.sqlite) is closed', { code: 'CLOSED' });
  }
}

/** @throws FatalError ConfigInvalid, code `STORAGE_FORMAT`, where the file system cannot hold a write-ahead log */
async function setPragmas(writer: SqliteConnection, file: string, durability: StorageDurability): Promise<void> {
  const [row] = await writer.all('PRAGMA journal_mode = WAL');
  if (row?.journal_mode !== 'wal') {
    const message = `${file} cannot keep a write-ahead log (its journal mode stays ${row?.journal_mode}); configure a path on a local disk`;
    throw new FatalError('ConfigInvalid', message, { code: 'STORAGE_FORMAT', context: { file } });
  }
  // On macOS a plain fsync leaves the bytes in the drive's cache; elsewhere these two do nothing.
  const barrier = durability === 'full' ? 'ON' : 'OFF';
  await writer.exec(
    `PRAGMA synchronous = ${SYNCHRONOUS[durability]}; PRAGMA fullfsync = ${barrier}; PRAGMA checkpoint_fullfsync = ${barrier}`,
  );
}
