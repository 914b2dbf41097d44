/**
 * The engine of `local.node-sqlite`: Node's own `node:sqlite`, which runs each call in place, on the event loop.
 *
 * No thread is waited for, so a commit costs little more than its sync, during which the loop stands still; after some
 * work of this kind the loop gets its turn. A database that another process is writing to is not waited for in place: the
 * call is tried again, by a timer.
 */
import { FatalError } from '../../../contracts/errors.js';
import {
  BUSY_RETRY_MS,
  type Row,
  type SqlConnection,
  type SqlEngine,
  type SqlStatement,
  type SqlValue,
} from './engine.js';
import { explained } from './sqlite-errors.js';

export const NODE_SQLITE: SqlEngine = { adapter: 'local.node-sqlite', newer: 'run a newer Node', open };

/** What is used of `node:sqlite`, which Node 20 has not, nor its types. */
interface NodeSqlite {
  DatabaseSync: new (file: string) => Database;
}
interface Database {
  exec(sql: string): void;
  prepare(sql: string): { run(...values: SqlValue[]): unknown; all(...values: SqlValue[]): Row[] };
  close(): void;
}

/** How long calls may follow each other, with what their callers do between them, before the event loop gets a turn, ms. */
const TURN_MS = 2;

/**
 * Pages of the log after which a commit writes them back into the database, in place: at SQLite's own 1,000 the loop would
 * stand still for four times as long.
 */
const CHECKPOINT_PAGES = 250;

/** The result codes that mean something to us, by number: https://sqlite.org/rescode.html */
const CODES: Readonly<Record<number, string>> = {
  3: 'SQLITE_PERM',
  5: 'SQLITE_BUSY',
  6: 'SQLITE_LOCKED',
  7: 'SQLITE_NOMEM',
  8: 'SQLITE_READONLY',
  10: 'SQLITE_IOERR',
  11: 'SQLITE_CORRUPT',
  13: 'SQLITE_FULL',
  14: 'SQLITE_CANTOPEN',
  26: 'SQLITE_NOTADB',
};

async function load(): Promise<NodeSqlite> {
  // Through a variable: neither the types nor a bundler of Node 20 know it.
  const name = 'node:sqlite';
  try {
    return await import(name);
  } catch (cause) {
    throw new FatalError(
      'ConfigInvalid',
      `node:sqlite is needed, which Node ${process.versions.node} does not have; run Node 22.13 or newer, or use the sqlite3 package (adapter local.sqlite; "engine": "sqlite3" of local.sqlite-queue)`,
      { code: 'PLATFORM_UNSUPPORTED', cause, context: { node: process.versions.node } },
    );
  }
}

async function open(file: string, busyTimeoutMs: number): Promise<SqlConnection> {
  const { DatabaseSync } = await load();
  let turnAtMs = 0;

  /** Runs a call in place, again while another process is writing, and gives the loop its turn. */
  async function settle<T>(call: () => T): Promise<T> {
    const untilMs = performance.now() + busyTimeoutMs;
    for (;;) {
      if (performance.now() - turnAtMs > TURN_MS) {
        await new Promise((resolve) => setImmediate(resolve));
        turnAtMs = performance.now();
      }
      try {
        return call();
      } catch (cause) {
        const error = named(cause);
        if (error.code !== 'SQLITE_BUSY' || performance.now() >= untilMs) throw await explained(error, file);
      }
      await new Promise((resolve) => setTimeout(resolve, BUSY_RETRY_MS));
    }
  }

  const database = await settle(() => new DatabaseSync(file));
  try {
    await settle(() => database.exec(`PRAGMA busy_timeout = 0; PRAGMA wal_autocheckpoint = ${CHECKPOINT_PAGES}`));
  } catch (error) {
    database.close();
    throw error;
  }
  const prepare = (sql: string): SqlStatement => {
    const statement = database.prepare(sql);
    return {
      run: (...values) =>
        settle(() => {
          statement.run(...values);
        }),
      all: (...values) => settle(() => statement.all(...values)),
    };
  };
  return {
    threaded: false,
    exec: (sql) => settle(() => database.exec(sql)),
    all: (sql, ...values) => settle(() => database.prepare(sql).all(...values)),
    prepare: (sql) => settle(() => prepare(sql)),
    close: () => settle(() => database.close()),
  };
}

/** The failure with the name of its result code, as the other engine gives it. */
function named(cause: unknown): Error & { code: string } {
  const { errcode = 0, message } = cause as Error & { errcode?: number };
  const code = CODES[errcode & 0xff] ?? 'SQLITE_ERROR';
  return Object.assign(new Error(`${code}: ${message}`, { cause }), { code });
}
