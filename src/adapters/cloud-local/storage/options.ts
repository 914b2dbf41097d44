/** Options of SqliteStorage: plain JSON, each checked and defaulted here, so that plugins.json can hold them. */
import * as check from '../../../contracts/arguments.js';
import type { StorageDurability } from '../../../contracts/storage.js';

export interface SqliteStorageOptions {
  /** What a resolved commit survives. Default `full`: a power cut. */
  readonly durability?: StorageDurability;
  /** How long a flush or a read waits for another process, ms, before it is refused as `Transient`. Default 5,000. */
  readonly busyTimeoutMs?: number;
  /**
   * Bytes that may wait to be written: keys, values, and 200 for each write and check; a commit beyond them rejects
   * `Throttled`, code `BACKLOG_FULL`, unless it is the only one. Commits that only delete are counted apart, so that none
   * is refused for the values of others. Default 256 MiB.
   */
  readonly maxUnflushedBytes?: number;
}

/** Each level's word in SQL, from here and not from the caller: a PRAGMA takes no parameters. */
export const SYNCHRONOUS = { full: 'FULL', normal: 'NORMAL', off: 'OFF' } as const;

/** SQLite counts the timeout in an `int`. */
const BUSY_TIMEOUT_MS_MAX = 2 ** 31 - 1;

/** @throws FatalError SchemaViolation, code `ARGUMENT_INVALID`, naming the option and what it has to be */
export function checkOptions(given: SqliteStorageOptions): Required<SqliteStorageOptions> {
  const options: SqliteStorageOptions = check.known('options', given, [
    'durability',
    'busyTimeoutMs',
    'maxUnflushedBytes',
  ]);
  const { durability = 'full', busyTimeoutMs = 5_000, maxUnflushedBytes = 256 * 2 ** 20 } = options;
  if (!Object.keys(SYNCHRONOUS).includes(durability)) {
    throw check.invalid('options.durability', '"full", "normal" or "off"', durability);
  }
  check.integer('options.busyTimeoutMs', busyTimeoutMs, 0, BUSY_TIMEOUT_MS_MAX);
  check.integer('options.maxUnflushedBytes', maxUnflushedBytes, 1);
  return { durability, busyTimeoutMs, maxUnflushedBytes };
}
