/**
 * `local.sqlite`: Storage in one SQLite file, through the `sqlite3` package, which runs each call on a thread: the event
 * loop never waits for the disk. What it promises is said in storage/sql-storage.ts.
 */
import type { SqliteStorageOptions } from './storage/options.js';
import { openSql, SqlStorage } from './storage/sql-storage.js';
import { SQLITE3 } from './storage/sqlite3-engine.js';

export type { SqliteStorageOptions } from './storage/options.js';

export class SqliteStorage extends SqlStorage {
  /** Opens the file, made with its folders when it is not there. Throws as {@link openSql} says. */
  static open(path: string, options: SqliteStorageOptions = {}): Promise<SqliteStorage> {
    return openSql(SQLITE3, path, options, (parts) => new SqliteStorage(parts));
  }
}
