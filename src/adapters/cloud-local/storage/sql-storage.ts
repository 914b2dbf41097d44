/**
 * Storage in one SQLite file, whatever the engine.
 *
 * One connection writes, and only the flusher uses it; a second one reads, so that reads see committed data and wait for
 * no flush. The journal is a write-ahead log. Several processes may open one file: a flush waits for another's. Locks are
 * files of their own beside it.
 *
 * Durability: `full` syncs the log at each flush; `normal` leaves that to the operating system; `off` syncs nothing. A
 * commit may ask for less than the store was opened with: a flush of such commits alone syncs only as far as they ask.
 *
 * Nobody but SQLite opens the file, by other means than `stat`: closing any descriptor of it drops every lock that this
 * process has on it. For the same reason one file is open through one engine at a time.
 */
import { realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import * as check from '../../../contracts/arguments.js';
import { checked } from '../../../contracts/capability.js';
import { FatalError } from '../../../contracts/errors.js';
import {
  type ScanOptions,
  Storage,
  type StorageChange,
  type StorageDurability,
  type StorageEntry,
  type StorageKey,
  type StoragePrefix,
  type StorageTxn,
} from '../../../contracts/storage.js';
import { collectBatch } from './batch.js';
import { requireSafe, type SqlConnection, type SqlEngine } from './engine.js';
import { type FileLock, lockFile } from './file-lock.js';
import { Flusher } from './flusher.js';
import { makeFolder } from './folder.js';
import { decodePath, encodePath, rangeOf, successor } from './keys.js';
import { checkOptions, type SqliteStorageOptions, SYNCHRONOUS } from './options.js';
import { Reader } from './reader.js';
import { prepareFile, STORAGE_SCHEMA } from './schema.js';
import { stillThere } from './still-there.js';
import { Watchers } from './watch.js';

/** What `openSql` hands to a class. */
export interface SqlParts {
  readonly engine: SqlEngine;
  readonly path: string;
  readonly options: Required<SqliteStorageOptions>;
  readonly writer: SqlConnection;
  readonly reader: SqlConnection;
  /** Lets another engine have the file. */
  release(): void;
}

/**
 * Opens the file, made with its folders when it is not there.
 * @throws FatalError ConfigInvalid: it cannot be opened, or the engine is too old; code `STORAGE_FORMAT`: it is no
 * database, another program's, or of a newer version, and was left untouched. FatalError SchemaViolation: an option is
 * not what it should be. RecoverableError Transient: disk full, too many open files or the like.
 */
export async function openSql<T extends SqlStorage>(
  engine: SqlEngine,
  path: string,
  given: SqliteStorageOptions,
  make: (parts: SqlParts) => T,
): Promise<T> {
  const options = checkOptions(given);
  const file = databasePath(path);
  await makeFolder(dirname(file));
  const release = claim(await realPath(file), engine);
  const opened: SqlConnection[] = [];
  try {
    const writer = await engine.open(file, options.busyTimeoutMs);
    opened.push(writer);
    await requireSafe(writer, engine);
    await prepareFile(writer, file, options.durability, STORAGE_SCHEMA);
    await setPragmas(writer, file, options.durability);
    const reader = await engine.open(file, options.busyTimeoutMs);
    opened.push(reader);
    await reader.exec('PRAGMA query_only = ON');
    // Makes the log's files, where they are not there yet.
    await reader.all('SELECT 1 FROM sqlite_schema LIMIT 1');
    return checked(Storage, make({ engine, path: file, options, writer, reader, release }), {
      adapter: engine.adapter,
    });
  } catch (error) {
    for (const connection of opened) await connection.close();
    release();
    throw error;
  }
}

/**
 * The absolute path of a database that is to be a file.
 * @throws FatalError SchemaViolation: SQLite's names for what is none would be made as files of those names
 */
export function databasePath(path: string): string {
  check.text('path', path, 1, 4_096);
  if (path === ':memory:' || path.startsWith('file:')) {
    throw check.invalid('path', 'the path of a file (what is to be kept in memory alone has local.memory)', path);
  }
  return resolve(path);
}

export abstract class SqlStorage implements Storage {
  /** Absolute path of the database. */
  readonly path: string;
  readonly durability: StorageDurability;
  readonly #parts: SqlParts;
  readonly #flusher: Flusher;
  readonly #reader: Reader;
  readonly #watchers = new Watchers();
  /** Held, or being taken. */
  readonly #locks = new Set<Promise<FileLock>>();
  #closed = false;

  constructor(parts: SqlParts) {
    this.path = parts.path;
    this.durability = parts.options.durability;
    this.#parts = parts;
    this.#reader = new Reader(parts.reader, parts.path);
    this.#flusher = new Flusher(parts.writer, {
      ...parts.options,
      onCommitted: (writes) => this.#watchers.publish(writes),
      confirm: stillThere(parts.path),
    });
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
    this.#refuseClosed();
    return this.#reader.getMany(keys);
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
      this.#refuseClosed();
      const page = await this.#reader.page(namespace, from, range.end, left);
      const last = page.at(-1);
      if (last === undefined) return;
      for (const { key, value } of page) {
        yield { key: { namespace, path: decodePath(key as Uint8Array) }, value: value as Uint8Array };
      }
      left -= page.length;
      from = successor(Buffer.from(last.key as Uint8Array));
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
    // One beside a file that was put in the place of this one would be another's.
    this.#flusher.requireUsable();
    // By the real path: a link to the database is the same database, and its locks are the same locks.
    const taking = realpath(this.path).then((path) => lockFile(this.#parts.engine, path, name, holder));
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
    this.#refuseClosed();
    // A store that still reads, but would refuse every commit, does not serve.
    this.#flusher.requireUsable();
    await this.#reader.ping();
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#flusher.idle();
    this.#watchers.endAll();
    await this.#reader.idle();
    // Those still being taken, too: their callers are refused.
    for (const lock of this.#locks) {
      await lock.then(
        (held) => held.release(),
        () => {},
      );
    }
    await this.#parts.reader.close();
    // The last connection to close writes the log back into the file.
    await this.#parts.writer.close();
    this.#parts.release();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #refuseClosed(): void {
    if (!this.#closed) return;
    throw new FatalError('Internal', `the storage (adapter ${this.#parts.engine.adapter}) is closed`, {
      code: 'CLOSED',
    });
  }
}

/**
 * Sets how a connection writes: ahead to a log, synced as far as `durability` asks.
 * @throws FatalError ConfigInvalid, code `STORAGE_FORMAT`, where the file system cannot hold a write-ahead log
 */
export async function setPragmas(writer: SqlConnection, file: string, durability: StorageDurability): Promise<void> {
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

/** Which engine has which file open, how often: over all copies of this package in the process. */
const OPEN_FILES = Symbol.for('rollout-cloud/sqlite-files');

/** @throws FatalError ConfigInvalid: another engine has the file open in this process */
export function claim(file: string, { adapter }: SqlEngine): () => void {
  const shared = globalThis as { [OPEN_FILES]?: Map<string, { adapter: string; times: number }> };
  shared[OPEN_FILES] ??= new Map();
  const files = shared[OPEN_FILES];
  const open = files.get(file) ?? { adapter, times: 0 };
  if (open.adapter !== adapter) {
    throw new FatalError(
      'ConfigInvalid',
      `${file} is open in this process through ${open.adapter}; two copies of SQLite in one process would drop each other's locks: use one adapter for it`,
      { code: 'LOCKED', context: { file, adapter: open.adapter } },
    );
  }
  open.times++;
  files.set(file, open);
  return () => {
    open.times--;
    if (open.times === 0) files.delete(file);
  };
}

/** Also of a file that is not there yet. */
export async function realPath(file: string): Promise<string> {
  return realpath(file).catch(async () => join(await realpath(dirname(file)), basename(file)));
}
