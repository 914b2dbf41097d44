/**
 * `local.node-sqlite`: Storage in one SQLite file, through Node's own `node:sqlite`: nothing to install, and the quickest
 * commit one at a time. Each call runs in place, so the event loop stands still while a flush is synced (0.1 to 1 ms on a
 * disk that is quick); where it must not, there is `local.sqlite`. Files are the same. What it promises is said in
 * storage/sql-storage.ts.
 */
import { NODE_SQLITE } from './storage/node-engine.js';
import type { SqliteStorageOptions } from './storage/options.js';
import { openSql, SqlStorage } from './storage/sql-storage.js';

export class NodeSqliteStorage extends SqlStorage {
  /**
   * Opens the file, made with its folders when it is not there. Throws as {@link openSql} says, and FatalError
   * ConfigInvalid, code `PLATFORM_UNSUPPORTED`, where Node has no `node:sqlite`.
   */
  static open(path: string, options: SqliteStorageOptions = {}): Promise<NodeSqliteStorage> {
    return openSql(NODE_SQLITE, path, options, (parts) => new NodeSqliteStorage(parts));
  }
}
