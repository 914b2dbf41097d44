/**
 * The port between the store and an engine: the few calls of SQLite that are used, as promises. An engine is one file of
 * this shape (sqlite3-engine.ts, node-engine.ts); schema, keys, flusher and reader stand on the port alone.
 *
 * A connection's calls must not overlap: whoever owns one awaits each. Failures come in the error family.
 */
import { FatalError } from '../../../contracts/errors.js';

export type SqlValue = string | number | Uint8Array | null;
export type Row = Readonly<Record<string, SqlValue>>;

export interface SqlStatement {
  run(...values: SqlValue[]): Promise<void>;
  all(...values: SqlValue[]): Promise<Row[]>;
}

export interface SqlConnection {
  /** Whether a call is run by another thread: then a hop is the dear thing, and many rows travel in one call. */
  readonly threaded: boolean;
  exec(sql: string): Promise<void>;
  all(sql: string, ...values: SqlValue[]): Promise<Row[]>;
  prepare(sql: string): Promise<SqlStatement>;
  /** Finalises its statements. Once. */
  close(): Promise<void>;
}

export interface SqlEngine {
  /** Id of the adapter that it serves. */
  readonly adapter: string;
  /** What to install or run to have a newer SQLite. */
  readonly newer: string;
  /**
   * Opens a database file, made when it is not there; its folder must be. The engine is loaded by the first call.
   * @param busyTimeoutMs how long a call waits for another process's write
   */
  open(file: string, busyTimeoutMs: number): Promise<SqlConnection>;
}

/**
 * How soon a call that met another process's write is tried again, ms. SQLite by itself would sleep for ever longer, up to
 * 100 ms, and hardly ever wake up between two transactions of a process that writes one after the other: beside one, 1,110
 * renewals of leases in 6 s waited for up to 55 ms each, where 180 had waited for up to 1.6 s. Trying costs a tenth of a
 * processor while it lasts.
 */
export const BUSY_RETRY_MS = 1;

/** A connection's statements, each prepared once. For a small, fixed set of texts. */
export class Statements {
  readonly #connection: SqlConnection;
  readonly #prepared = new Map<string, SqlStatement>();

  constructor(connection: SqlConnection) {
    this.#connection = connection;
  }

  async of(sql: string): Promise<SqlStatement> {
    let statement = this.#prepared.get(sql);
    if (statement === undefined) {
      statement = await this.#connection.prepare(sql);
      this.#prepared.set(sql, statement);
    }
    return statement;
  }
}

/**
 * The first version of SQLite that may be trusted with a write-ahead log that several connections write to. Older ones
 * may reset the log under another connection and damage the file (https://sqlite.org/wal.html#walresetbug); a store
 * always has two connections, and other processes may have more.
 */
const FIRST_SAFE = '3.51.3';

/** Earlier lines that got the fix, too, each from this patch on. */
const MENDED_LINES = ['3.50.7', '3.44.6'];

/** @throws FatalError ConfigInvalid, naming the engine's version and the one that is needed */
export async function requireSafe(connection: SqlConnection, { newer }: SqlEngine): Promise<void> {
  const [{ version = '' } = {}] = await connection.all('SELECT sqlite_version() AS version');
  if (isSafeEngine(String(version))) return;
  throw new FatalError(
    'ConfigInvalid',
    `SQLite ${version} may damage a database that several connections write to; ${newer} with SQLite ${FIRST_SAFE} or newer`,
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
