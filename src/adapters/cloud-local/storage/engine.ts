/**
 * Which versions of SQLite may be trusted with a write-ahead log that several connections write to. Older ones may reset
 * the log under another connection and damage the file (https://sqlite.org/wal.html#walresetbug); this adapter always has
 * two connections, and other processes may have more.
 */
import { FatalError } from '../../../contracts/errors.js';
import type { SqliteConnection } from './sqlite-port.js';

/** The first version that holds the fix. */
const FIRST_SAFE = '3.51.3';

/** Earlier lines that got the fix, too, each from this patch on. */
const MENDED_LINES = ['3.50.7', '3.44.6'];

/** @throws FatalError ConfigInvalid, naming the engine's version and the one that is needed */
export async function requireEngine(connection: SqliteConnection): Promise<void> {
  const [{ version = '' } = {}] = await connection.all('SELECT sqlite_version() AS version');
  if (isSafeEngine(String(version))) return;
  throw new FatalError(
    'ConfigInvalid',
    `SQLite ${version} may damage a database that several connections write to; install a sqlite3 package with SQLite ${FIRST_SAFE} or newer`,
    { context: { version, needed: FIRST_SAFE } },
  );
}

/** @param version as `sqlite_version()` gives it, e.g. `3.52.0` */
export function isSafeEngine(version: string): boolean {
  const number = numberOf(version);
  if (number >= numberOf(FIRST_SAFE)) return true;
  const line = (of: number): number => Math.trunc(of / 1_000);
  return MENDED_LINES.map(numberOf).some((mended) => line(number) === line(mended) && number >= mended);
}

/** As SQLite numbers its versions: 3.51.3 is 3,051,003. */
function numberOf(version: string): number {
  const [major = 0, minor = 0, patch = 0] = version.split('.').map(Number);
  return (major * 1_000 + minor) * 1_000 + patch;
}
